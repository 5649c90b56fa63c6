//! `archyard workers`: who is there, and what keeps them from working.

use std::io::Write as _;

use anyhow::Result;
use archyard_proto::v1 as proto;

use crate::args::FarmArgs;
use crate::commands::table::Table;
use crate::exit::Exit;
use crate::farm::Farm;
use crate::{runtime, view};

/// List the farm's workers, sorted by name.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    farm: FarmArgs,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let workers = runtime::small(async {
        let mut client = Farm::find(&args.farm).await?.farm();
        Ok(client.list_workers(proto::ListWorkersRequest {}).await?.into_inner().workers)
    })?;
    let workers = workers.into_iter().map(view::Worker::from);
    let mut out = std::io::stdout().lock();
    if args.json {
        for worker in workers {
            writeln!(out, "{}", serde_json::to_string(&worker)?)?;
        }
        return Ok(Exit::Success);
    }
    let mut table = Table::new(&["NAME", "STATE", "SLOTS", "PLATFORMS", "POOL", "ENGINE", "VERSION"]);
    let mut problems = Vec::new();
    for worker in workers {
        table.row([
            worker.name.clone(),
            worker.state.to_owned(),
            format!("{}/{}", worker.used_slots, worker.slots),
            worker.platforms.join(","),
            worker.pool,
            worker.engine,
            worker.version,
        ]);
        if let Some(problem) = worker.problem {
            problems.push(format!("{}: {problem}", worker.name));
        }
    }
    write!(out, "{table}")?;
    for problem in problems {
        writeln!(out, "{problem}")?;
    }
    Ok(Exit::Success)
}
