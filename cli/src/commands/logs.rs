//! `archyard logs BUILD`: what its steps wrote, for anybody, at any time.
//!
//! The log goes to standard output, for here it is the result. Following needs nothing of the client that started the
//! build, and ends with the build.

use std::io::{BufWriter, IsTerminal as _};

use anyhow::{Context as _, Result};
use archyard_model::{Platform, convert};
use archyard_proto::v1 as proto;
use tokio::sync::mpsc;

use crate::args::{FarmArgs, PatienceArgs};
use crate::build::UPDATES;
use crate::build::follow::Follow;
use crate::build::log::Source;
use crate::build::session::Session;
use crate::commands::target::Target;
use crate::exit::{Exit, Refusal};
use crate::farm::Farm;
use crate::progress::{Board, Plain, Story, Update, clean};
use crate::{runtime, text};

/// Print a build's logs, every line with its platform.
///
/// All attempts are printed, in order. With -f what happens is printed until the build has ended, whoever started it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  archyard logs 01ARZ3NDEKTSV4RRFFQ69G5FAV
  archyard logs -f G5FAV                        the end of an id will do
  archyard logs --platform linux/arm64 G5FAV")]
pub(crate) struct Args {
    /// The build: its id, or a beginning or end of it that fits no other
    build: Target,
    /// Follow until the build has ended
    #[arg(short, long)]
    follow: bool,
    /// Only this platform
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    #[command(flatten)]
    farm: FarmArgs,
    #[command(flatten)]
    patience: PatienceArgs,
}

pub(crate) fn run(args: Args) -> Result<Exit> {
    runtime::small(logs(args))
}

async fn logs(args: Args) -> Result<Exit> {
    let farm = Farm::find(&args.farm).await?;
    let build = args.build.resolve(&farm).await?;
    let request = proto::GetBuildRequest { build_id: build.clone() };
    let record = farm.builds().get_build(request).await?.into_inner().build.unwrap_or_default();
    let platforms = record.plan.iter().flat_map(|plan| &plan.platforms).map(convert::platform_from_proto);
    let platforms: Vec<Platform> =
        platforms.collect::<Result<_, _>>().context("the farm's record is not readable")?;
    let jobs = match &args.platform {
        None => None,
        Some(platform) => Some(vec![position(&platforms, platform, &build)?]),
    };
    let trial =
        record.plan.iter().flat_map(|plan| &plan.trial).filter_map(|at| u16::try_from(*at).ok()).collect();
    let board = Board::new(&platforms, &trial);
    let patience = args.patience.farm_timeout;
    let colours = std::io::stdout().is_terminal() && console::colors_enabled();
    let renderer = Box::new(Plain::new(BufWriter::new(std::io::stdout()), Story::Logs, colours, &board));
    let (updates, told) = mpsc::channel(UPDATES);
    let session = Session::new(board, renderer);
    let (_, screen) = if args.follow {
        let follow = Follow {
            farm,
            build,
            logins: Vec::new(),
            jobs,
            planned: None,
            crosses: false,
            patience,
            updates,
        };
        let work = async move {
            let ended = follow.to_the_end().await?;
            follow.tell(ended).await;
            Ok(())
        };
        session.run(work, told).await?
    } else {
        let work = async move {
            let mut broken = None;
            for job in record.jobs {
                let index = u16::try_from(job.index).unwrap_or(u16::MAX);
                if jobs.as_ref().is_some_and(|jobs| !jobs.contains(&index)) {
                    continue;
                }
                let source = Source {
                    farm: farm.clone(),
                    build: build.clone(),
                    job: index,
                    patience,
                    updates: updates.clone(),
                };
                for attempt in job.attempts {
                    if attempt.token > 1 {
                        let platform =
                            platforms.get(usize::from(index)).map(ToString::to_string).unwrap_or_default();
                        let note = format!("{platform}: attempt {} on {}", attempt.token, attempt.worker);
                        updates.send(Update::Note(note)).await.ok();
                    }
                    let printed = source.print(attempt.token).await;
                    let cut = match (&printed, attempt.failure) {
                        (Err(error), _) => Some(format!("{error:#}")),
                        // Its length is not known.
                        (Ok(()), Some(failure)) if attempt.log_bytes == 0 => Some(failure.message),
                        (Ok(()), _) => None,
                    };
                    if let Some(why) = cut {
                        let token = attempt.token;
                        let note =
                            format!("the log of attempt {token} may not be whole: {}", clean(why.as_bytes()));
                        updates.send(Update::Note(note)).await.ok();
                    }
                    if let Err(error) = printed {
                        broken.get_or_insert(error);
                    }
                }
            }
            match broken {
                Some(error) => Err(error),
                None => Ok(()),
            }
        };
        session.run(work, told).await?
    };
    screen?;
    Ok(Exit::Success)
}

fn position(platforms: &[Platform], wanted: &Platform, build: &str) -> Result<u16> {
    let at = platforms.iter().position(|platform| platform == wanted).and_then(|at| u16::try_from(at).ok());
    at.ok_or_else(|| {
        let known: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        Refusal::usage(format!(
            "--platform {wanted}: build {build} has {}: {}",
            text::count(known.len(), "platform"),
            known.join(", ")
        ))
    })
}
