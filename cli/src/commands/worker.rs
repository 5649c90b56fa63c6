//! `archyard worker`.

use std::path::PathBuf;

use anyhow::Result;
use archyard_net::Endpoint;
use archyard_worker::{OnExit, Scheduler};

use crate::args::Named;
use crate::exit::{Exit, Refusal};
use crate::roles::worker::{self, Options};
use crate::{edge, logging, paths, roles, runtime, shutdown};

/// Run a worker beside its Engine: it takes leases and builds natively.
///
/// It dials the scheduler and nobody dials it. Platforms are measured, not configured. Running attempts outlive it: the
/// next worker on the same data folder takes them over.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It dials the scheduler, and nobody dials it. Platforms are measured, not configured.

Examples:
  archyard worker --scheduler unix:/run/archyard/scheduler.sock
  archyard worker --scheduler https://farm.example:7420 --tls-dir arm-1-tls \\
    --name arm-1 --slots 4

ARCHYARD_LOG sets what it logs, as in ARCHYARD_LOG=debug. SIGTERM and Ctrl-C stop
it; running attempts go on, and the next worker on its data folder adopts them.")]
pub(crate) struct Args {
    /// The scheduler: unix:PATH, http://127.0.0.1:PORT or https://HOST:PORT [default: the default socket]
    #[arg(long, value_name = "ENDPOINT", value_parser = edge::endpoint)]
    scheduler: Option<Endpoint>,
    /// Folder with ca.pem, cert.pem and key.pem, as `archyard cert issue` writes it
    #[arg(long, env = "ARCHYARD_TLS_DIR", value_name = "DIR", hide_env_values = true, value_parser = edge::named_path())]
    tls_dir: Option<Named<PathBuf>>,
    #[command(flatten)]
    options: Options,
    /// Attempts, caches and logs [default: /var/lib/archyard/worker for root, else in XDG_STATE_HOME]
    #[arg(long, value_name = "DIR", value_parser = edge::path())]
    data_dir: Option<PathBuf>,
    /// How it logs, on standard error
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    log_format: logging::Format,
}

pub(crate) fn run(args: Args) -> Result<Exit> {
    roles::reach_registries()?;
    logging::daemon(args.log_format)?;
    let endpoint = match args.scheduler {
        Some(endpoint) => endpoint,
        None => Endpoint::Unix(paths::default_socket().ok_or_else(|| {
            Refusal::usage("--scheduler: XDG_RUNTIME_DIR is not set, so there is no default socket; name one")
        })?),
    };
    let tls = args.tls_dir.and_then(|dir| dir.0);
    if endpoint.needs_tls() && tls.is_none() {
        return Err(Refusal::usage(format!(
            "{endpoint} asks for a client certificate; give the folder that `archyard cert issue` wrote with --tls-dir"
        )));
    }
    let scheduler = Scheduler { endpoint, tls };
    let data_dir = args.data_dir.map_or_else(|| paths::data_dir("worker"), Ok)?;
    runtime::full(async {
        let (stop, _signals) = shutdown::on_signals()?;
        worker::run(args.options, scheduler, data_dir, OnExit::Leave, stop).await?;
        Ok(Exit::Success)
    })
}
