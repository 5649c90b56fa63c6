//! `archyard fetch`: what a build left with the farm, for whoever did not wait for it.

use anyhow::Result;
use tokio::sync::mpsc;

use crate::args::FarmArgs;
use crate::build::UPDATES;
use crate::build::prepare::own_platform;
use crate::build::session::Session;
use crate::commands::target::Target;
use crate::exit::{Exit, Refusal};
use crate::farm::Farm;
use crate::outputs::{Left, OutputSpec, Outputs};
use crate::progress::{Board, Plain, Story};
use crate::{edge, paths, runtime};

/// Fetch what a build with -o or --load left, when its client did not.
///
/// The farm keeps it until it was fetched, and for some hours after the build's end at the most. An image may go to an
/// archive or into an Engine, files to a folder or a tar, whatever the build itself was told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The farm keeps what a build left until it was fetched, and for some hours after
its end at the most.

Examples:
  archyard fetch 01ARZ3NDEKTSV4RRFFQ69G5FAV -o type=oci,dest=app.tar
  archyard fetch 5FAV --load
  archyard fetch 5FAV -o out --keep")]
pub(crate) struct Args {
    /// The build: its id, or a beginning or end of it that fits no other
    build: Target,
    /// Where to, as `archyard build` has it: type=oci|tar|local,dest=PATH, or a folder
    #[arg(short, long, value_name = "OUTPUT", required_unless_present = "load", conflicts_with = "load")]
    output: Option<OutputSpec>,
    /// Into this user's own Engine
    #[arg(long)]
    load: bool,
    /// Leave it with the farm, to be fetched again
    #[arg(long)]
    keep: bool,
    /// Engine for --load [default: DOCKER_HOST or unix:///var/run/docker.sock]
    #[arg(long, value_name = "ENDPOINT", value_parser = edge::engine)]
    engine: Option<String>,
    #[command(flatten)]
    farm: FarmArgs,
}

pub(crate) fn run(args: Args) -> Result<Exit> {
    runtime::small(fetch(args))
}

async fn fetch(args: Args) -> Result<Exit> {
    let farm = Farm::find(&args.farm).await?;
    let build = args.build.resolve(&farm).await?;
    let spec = args.output.unwrap_or(OutputSpec::Load);
    let engine = args.engine.map_or_else(paths::default_engine, Ok)?;
    let (updates, told) = mpsc::channel(UPDATES);
    let left = Left::ask(&farm, &build, &updates).await?;
    let outputs = Outputs::prepare(&spec, &left.plan, own_platform().ok(), &engine).await?;
    let outputs = outputs.ok_or_else(|| {
        Refusal::usage("--output: this brings nothing here; use type=oci, load, local or tar")
    })?;
    let board = Board::new(&left.plan.platforms, &left.plan.trial);
    let renderer = Plain::new(std::io::stderr(), Story::Logs, false, &board);
    let mut session = Session::new(board, Box::new(renderer));
    session.on_interrupt = Some("stopping; press Ctrl-C again to leave at once");
    let stop = session.stop.clone();
    let mut delivered = None;
    let work = async {
        delivered = Some(outputs.deliver(&farm, &left, args.keep, &updates, &stop).await?);
        Ok(())
    };
    // A screen that went away changes nothing about what was written.
    let (_board, _screen) = session.run(work, told).await?;
    if !outputs.takes_stdout() {
        for line in delivered.into_iter().flat_map(|delivered| delivered.lines) {
            println!("{line}");
        }
    }
    Ok(Exit::Success)
}
