//! `archyard ps`: builds, newest first.
//!
//! Without `--all` it shows what has not ended and the ten newest that have: the answer to "what is going on" and to
//! "how did mine end".

use std::io::Write as _;
use std::time::SystemTime;

use anyhow::Result;
use archyard_model::{ProjectName, limits};
use archyard_proto::v1 as proto;
use jiff::Timestamp;

use crate::args::FarmArgs;
use crate::commands::table::Table;
use crate::exit::Exit;
use crate::farm::Farm;
use crate::progress::clean;
use crate::view::Summary;
use crate::{runtime, text};

/// Ended builds that are shown unless asked for.
const ENDED: usize = 10;
/// Characters of a build's id where it only points to one.
const NAMED: usize = 8;
/// Characters of a reason to wait.
const REASON: usize = 60;
const ACTIVE: [State; 4] = [State::Waiting, State::Queued, State::Running, State::Publishing];
const TERMINAL: [State; 4] = [State::Succeeded, State::Failed, State::Canceled, State::Superseded];

/// List builds, newest first: those that have not ended, and the ten newest that have.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  archyard ps                          what goes on, and how the last builds ended
  archyard ps --all -n 200             more of the past
  archyard ps --state failed --json    for machines: one object a line")]
pub(crate) struct Args {
    /// All builds, ended or not
    #[arg(short, long)]
    all: bool,
    /// Only builds of this project
    #[arg(long, value_name = "NAME")]
    project: Option<ProjectName>,
    /// Only builds in this state; repeat for several
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STATE")]
    state: Vec<State>,
    /// At most this many builds; 0: no end
    #[arg(short = 'n', long, default_value_t = 50, value_name = "N")]
    limit: usize,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    farm: FarmArgs,
}

/// As `--state` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum State {
    /// It needs something before it can go on: credentials, its lock, a worker that there is not
    Waiting,
    /// All that is left of it waits for a free slot
    Queued,
    Running,
    Publishing,
    Succeeded,
    Failed,
    Canceled,
    Superseded,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let builds = runtime::small(async {
        let farm = Farm::find(&args.farm).await?;
        let project = args.project.as_ref().map(ToString::to_string).unwrap_or_default();
        if args.all || !args.state.is_empty() {
            return list(&farm, &project, &args.state, limit).await;
        }
        let mut builds = list(&farm, &project, &ACTIVE, limit).await?;
        builds.extend(list(&farm, &project, &TERMINAL, ENDED).await?);
        // Ids sort in the order of acceptance.
        builds.sort_by(|a, b| b.id.cmp(&a.id));
        builds.truncate(limit);
        Ok(builds)
    })?;
    let mut out = std::io::stdout().lock();
    if args.json {
        for build in builds {
            writeln!(out, "{}", serde_json::to_string(&build)?)?;
        }
    } else {
        write!(out, "{}", table(builds, Timestamp::try_from(SystemTime::now())?))?;
    }
    Ok(Exit::Success)
}

async fn list(farm: &Farm, project: &str, states: &[State], limit: usize) -> Result<Vec<Summary>> {
    let mut client = farm.builds();
    let mut builds = Vec::new();
    let mut page_token = String::new();
    loop {
        let wanted = (limit - builds.len()).min(limits::PAGE_MAX as usize);
        let request = proto::ListBuildsRequest {
            project: project.to_owned(),
            states: states.iter().map(|state| proto::BuildState::from(*state).into()).collect(),
            page_size: u32::try_from(wanted).unwrap_or(limits::PAGE_MAX),
            page_token,
        };
        let page = client.list_builds(request).await?.into_inner();
        builds.extend(page.builds.into_iter().map(Summary::from));
        page_token = page.next_page_token;
        if page_token.is_empty() || builds.len() >= limit {
            builds.truncate(limit);
            return Ok(builds);
        }
    }
}

fn table(builds: Vec<Summary>, now: Timestamp) -> Table {
    let mut table =
        Table::new(&["BUILD", "STATE", "PROJECT", "ACCEPTED", "TOOK", "PLATFORMS", "TAGS", "ORIGIN"]);
    for build in builds {
        let took = build.accepted_at.map(|from| text::between(from, build.ended_at.unwrap_or(now)));
        let state = match (build.failed_trials, &build.waiting_reason, &build.queue) {
            (0, Some(reason), _) => format!("{}: {}", build.state, shortened(&clean(reason.as_bytes()))),
            (0, None, Some(queue)) => format!("{}: {}", build.state, queue.brief()),
            (0, None, None) => build.state,
            (failed, ..) => format!("{}, {} failed", build.state, text::count(failed as usize, "trial")),
        };
        let marked = |platform: &String| match build.trial.contains(platform) {
            true => format!("{platform} (trial)"),
            false => platform.clone(),
        };
        let platforms: Vec<String> = build.platforms.iter().map(marked).collect();
        // Ends are what differs, and name a build well enough.
        let end = |id: &str| id.get(id.len().saturating_sub(NAMED)..).unwrap_or(id).to_owned();
        let origin = build.origin.map(|origin| format!("{} of {}", origin.kind, end(&origin.build)));
        table.row([
            build.id,
            state,
            build.project,
            build.accepted_at.map(|at| text::ago(at, now)).unwrap_or_default(),
            took.map(text::duration).unwrap_or_default(),
            platforms.join(","),
            build.tags.join(","),
            origin.unwrap_or_default(),
        ]);
    }
    table
}

/// A reason, as far as a column has room for it; `show` has all of it.
fn shortened(reason: &str) -> String {
    let short: String = reason.chars().take(REASON).collect();
    if short.len() < reason.len() { format!("{short}…") } else { short }
}

impl From<State> for proto::BuildState {
    fn from(state: State) -> Self {
        match state {
            State::Waiting => Self::Waiting,
            State::Queued => Self::Queued,
            State::Running => Self::Running,
            State::Publishing => Self::Publishing,
            State::Succeeded => Self::Succeeded,
            State::Failed => Self::Failed,
            State::Canceled => Self::Canceled,
            State::Superseded => Self::Superseded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{Ahead, Origin, Queue};

    #[test]
    fn a_table_of_builds() {
        let build = |id: &str, state: &str, ended: Option<i64>| Summary {
            id: id.to_owned(),
            state: state.to_owned(),
            waiting_reason: (state == "waiting").then(|| "no native worker for linux/riscv64".to_owned()),
            queue: (state == "queued").then(|| Queue {
                position: Some(2),
                queued: 3,
                running: 1,
                ahead: vec![Ahead {
                    build: "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
                    job: 0,
                    worker: "w-1".to_owned(),
                }],
            }),
            project: "default".to_owned(),
            principal: "local".to_owned(),
            platforms: vec!["linux/amd64".to_owned(), "linux/386".to_owned()],
            trial: vec!["linux/386".to_owned()],
            failed_trials: u32::from(state == "succeeded"),
            origin: ended.map(|_| Origin { kind: "rerun", build: "01ARZ3NDEKTSV4RRFFQ69G5FAB".to_owned() }),
            tags: vec!["registry.example/app:1.0".to_owned()],
            accepted_at: Timestamp::new(1000, 0).ok(),
            ended_at: ended.and_then(|s| Timestamp::new(s, 0).ok()),
        };
        let builds = vec![
            build("01ARZ3NDEKTSV4RRFFQ69G5FAX", "waiting", None),
            build("01ARZ3NDEKTSV4RRFFQ69G5FAW", "queued", None),
            build("01ARZ3NDEKTSV4RRFFQ69G5FAV", "running", None),
            build("01ARZ3NDEKTSV4RRFFQ69G5FAA", "succeeded", Some(1062)),
        ];
        insta::assert_snapshot!(table(builds, Timestamp::new(1130, 0).unwrap()), @r"
        BUILD                       STATE                                        PROJECT  ACCEPTED  TOOK   PLATFORMS                      TAGS                      ORIGIN
        01ARZ3NDEKTSV4RRFFQ69G5FAX  waiting: no native worker for linux/riscv64  default  2m ago    2m10s  linux/amd64,linux/386 (trial)  registry.example/app:1.0
        01ARZ3NDEKTSV4RRFFQ69G5FAW  queued: 2 of 3, behind Q69G5FAV on w-1       default  2m ago    2m10s  linux/amd64,linux/386 (trial)  registry.example/app:1.0
        01ARZ3NDEKTSV4RRFFQ69G5FAV  running                                      default  2m ago    2m10s  linux/amd64,linux/386 (trial)  registry.example/app:1.0
        01ARZ3NDEKTSV4RRFFQ69G5FAA  succeeded, 1 trial failed                    default  2m ago    1m02s  linux/amd64,linux/386 (trial)  registry.example/app:1.0  rerun of Q69G5FAB
        ");
    }
}
