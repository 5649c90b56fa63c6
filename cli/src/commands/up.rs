//! `archyard up`: a farm on this machine, in one process.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use archyard_net::Endpoint;
use archyard_worker::{OnExit, Scheduler};
use tokio::task::JoinSet;

use crate::exit::{Exit, Refusal};
use crate::roles::{scheduler, worker};
use crate::{edge, logging, paths, roles, runtime, shutdown};

/// Run a scheduler and a worker in one process: a farm on this machine.
///
/// What `archyard scheduler` and `archyard worker` would run, over the same protocol. More workers may join.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  archyard up
  archyard up --engine unix:///run/user/1000/docker.sock --slots 2

ARCHYARD_LOG sets what it logs, as in ARCHYARD_LOG=debug; SIGTERM and Ctrl-C stop it.")]
pub(crate) struct Args {
    #[command(flatten)]
    scheduler: scheduler::Options,
    #[command(flatten)]
    worker: worker::Options,
    /// Both roles' data, a folder each [default: /var/lib/archyard for root, else in XDG_STATE_HOME]
    #[arg(long, value_name = "DIR", value_parser = edge::path())]
    data_dir: Option<PathBuf>,
    /// How it logs, on standard error
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    log_format: logging::Format,
}

pub(crate) fn run(args: Args) -> Result<Exit> {
    roles::reach_registries()?;
    logging::daemon(args.log_format)?;
    let of =
        |role: &str| args.data_dir.as_ref().map_or_else(|| paths::data_dir(role), |dir| Ok(dir.join(role)));
    let (scheduler_dir, worker_dir) = (of("scheduler")?, of("worker")?);
    runtime::full(async move {
        let (stop, _signals) = shutdown::on_signals()?;
        let running = scheduler::start(args.scheduler, scheduler_dir, stop.clone()).await?;
        let endpoint = running.local_endpoint().ok_or_else(|| {
            Refusal::usage("--listen: the worker of `up` needs a Unix socket or loopback address; add --listen unix:PATH")
        })?;
        next_steps(&endpoint);
        let mut roles = JoinSet::new();
        let scheduler = Scheduler { endpoint, tls: None };
        let worker_stop = stop.clone();
        roles.spawn(async move {
            worker::run(args.worker, scheduler, worker_dir, OnExit::Leave, worker_stop)
                .await
                .context("worker")
        });
        roles.spawn(async move { running.wait().await.context("scheduler") });
        // Whichever ends first takes the other along.
        let mut outcome = Ok(Exit::Success);
        while let Some(ended) = roles.join_next().await {
            stop.cancel();
            if let Err(error) = ended.context("a role of this process broke down").flatten()
                && outcome.is_ok()
            {
                outcome = Err(error);
            }
        }
        outcome
    })
}

fn next_steps(endpoint: &Endpoint) {
    let default = paths::default_socket().map(Endpoint::Unix);
    if default.as_ref() != Some(endpoint) {
        eprintln!("export ARCHYARD_FARM={endpoint}");
    }
    eprintln!(
        "The farm listens at {endpoint}. Next, in another terminal:
  archyard workers          who is there, and what runs natively
  archyard build PATH       build and verify
  archyard ps               what goes on"
    );
}
