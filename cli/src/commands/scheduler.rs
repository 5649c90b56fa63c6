//! `archyard scheduler`.

use std::path::PathBuf;

use anyhow::Result;

use crate::exit::Exit;
use crate::roles::scheduler::{self, Options};
use crate::{edge, logging, paths, roles, runtime, shutdown};

/// Run a scheduler: it takes builds, leases jobs to workers, and publishes.
///
/// Clients and workers reach it at --listen. Beyond a Unix socket or loopback it must have --tls; its authority is made
/// at the first start, and `archyard cert issue` gives out certificates. Everything that must outlive it is in --data-dir.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Beyond a Unix socket or loopback it must have --tls: its authority is made at the
first start, and `archyard cert issue` gives out certificates.

Examples:
  archyard scheduler
  archyard scheduler --listen unix:/run/archyard/scheduler.sock \\
    --listen 0.0.0.0:7420 --tls --tls-name farm.example

ARCHYARD_LOG sets what it logs, as in ARCHYARD_LOG=debug. SIGTERM and Ctrl-C stop
it; running builds go on, and it finds them again.")]
pub(crate) struct Args {
    #[command(flatten)]
    options: Options,
    /// Journal, contexts, logs and authority [default: /var/lib/archyard/scheduler for root, else in XDG_STATE_HOME]
    #[arg(long, value_name = "DIR", value_parser = edge::path())]
    data_dir: Option<PathBuf>,
    /// How it logs, on standard error
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    log_format: logging::Format,
}

pub(crate) fn run(args: Args) -> Result<Exit> {
    roles::reach_registries()?;
    logging::daemon(args.log_format)?;
    let data_dir = args.data_dir.map_or_else(|| paths::data_dir("scheduler"), Ok)?;
    runtime::full(async {
        let (stop, _signals) = shutdown::on_signals()?;
        scheduler::start(args.options, data_dir, stop).await?.wait().await?;
        Ok(Exit::Success)
    })
}
