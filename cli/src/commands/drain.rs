//! `archyard drain WORKER`.

use std::io::Write as _;

use anyhow::Result;
use archyard_model::WorkerName;
use archyard_proto::v1 as proto;

use crate::args::FarmArgs;
use crate::exit::Exit;
use crate::farm::Farm;
use crate::{runtime, text};

/// Let a worker finish what it runs and take no more.
///
/// Safe to repeat. The worker is free when `archyard workers` shows none of its slots in use.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  archyard drain arm-1           before its machine is switched off
  archyard drain arm-1 --undo    take work again")]
pub(crate) struct Args {
    /// The worker's name
    worker: WorkerName,
    /// Take work again
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    farm: FarmArgs,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let request = proto::DrainWorkerRequest { name: args.worker.to_string(), draining: !args.undo };
    let worker = runtime::small(async {
        let mut client = Farm::find(&args.farm).await?.farm();
        Ok(client.drain_worker(request).await?.into_inner().worker.unwrap_or_default())
    })?;
    let what = match (args.undo, usize::try_from(worker.used_slots).unwrap_or(usize::MAX)) {
        (true, _) => "takes work".to_owned(),
        (false, 0) => "drained: it runs nothing and takes nothing".to_owned(),
        (false, used) => format!("draining: {} to finish", text::count(used, "attempt")),
    };
    writeln!(std::io::stdout(), "{} {what}", args.worker)?;
    Ok(Exit::Success)
}
