//! Starts a worker's agent.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use archyard_model::{Invalid, Pool, WorkerName};
use archyard_worker::{OnExit, Scheduler, Worker, WorkerConfig, WorkerError};
use bytesize::ByteSize;
use tokio_util::sync::CancellationToken;

use crate::exit::Refusal;
use crate::{edge, paths};

/// A worker's flags.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct Options {
    /// The Engine's socket, as unix:///PATH [default: DOCKER_HOST or unix:///var/run/docker.sock]
    #[arg(long, value_name = "ENDPOINT", value_parser = edge::engine)]
    pub(crate) engine: Option<String>,
    /// Its name, unique in the farm [default: the host's]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<WorkerName>,
    /// Its trust level: trusted or untrusted
    #[arg(long, value_name = "POOL", default_value_t = Pool::Trusted)]
    pub(crate) pool: Pool,
    /// Attempts at a time [default: half the cores, or one per 4 GiB of memory where that is less]
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<u32>,
    /// Label, as NAME=VALUE; repeat for several
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Take no lease with less room than this on the data folder's disk, as 512MiB or 2GB [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) min_free: Option<ByteSize>,
    /// Contexts to keep, as a size [default: 20GiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) cache_size: Option<ByteSize>,
    /// Compressed layers to keep, as a size [default: 10GiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) layer_cache_size: Option<ByteSize>,
}

impl Options {
    /// For a farm that lives as long as one build.
    pub(crate) fn local(engine: &str) -> Self {
        Self {
            engine: Some(engine.to_owned()),
            name: None,
            pool: Pool::Trusted,
            slots: None,
            labels: Vec::new(),
            min_free: None,
            cache_size: None,
            layer_cache_size: None,
        }
    }
}

/// Works until `shutdown` fires.
pub(crate) async fn run(
    options: Options,
    scheduler: Scheduler,
    data_dir: PathBuf,
    on_exit: OnExit,
    shutdown: CancellationToken,
) -> Result<()> {
    let engine = options.engine.map_or_else(paths::default_engine, Ok)?;
    let name = match options.name {
        Some(name) => name,
        None => own_name(&rustix::system::uname().nodename().to_string_lossy())?,
    };
    let program =
        std::env::current_exe().context("cannot find this program's own file, to start runners from")?;
    let mut config = WorkerConfig::new(scheduler, engine, std::path::absolute(&data_dir)?, name);
    config.pool = options.pool;
    config.slots = options.slots;
    config.labels = options.labels.into_iter().collect();
    config.runner_command = vec![program.into(), "runner".into()];
    config.on_exit = on_exit;
    for (setting, size) in [
        (&mut config.min_free_bytes, options.min_free),
        (&mut config.cache_bytes, options.cache_size),
        (&mut config.layer_cache_bytes, options.layer_cache_size),
    ] {
        *setting = size.map_or(*setting, |size| size.as_u64());
    }
    Worker::run(config, shutdown).await.map_err(|error| match error {
        WorkerError::Config(_) | WorkerError::Engine(_) | WorkerError::Refused { .. } => {
            Refusal::usage(error.to_string())
        }
        other => other.into(),
    })
}

fn label(text: &str) -> Result<(String, String), Invalid> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Invalid::new("--label", text, "expected NAME=VALUE")),
    }
}

/// A host's name, made to fit: lowercase, and a '-' for whatever no worker's name may hold.
fn own_name(host: &str) -> Result<WorkerName> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let name: String =
        host.to_ascii_lowercase().chars().map(|c| if fits(c) { c } else { '-' }).take(63).collect();
    let name = name.trim_matches(['-', '.']);
    name.parse().map_err(|_| {
        Refusal::usage(format!("--name: the host's own, {host:?}, is no worker's name; give one"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names() {
        for (host, want) in [("build-1", "build-1"), ("Build_1.Example", "build-1.example"), ("-x-", "x")] {
            assert_eq!(own_name(host).unwrap().as_str(), want);
        }
        assert_eq!(own_name(&"x".repeat(100)).unwrap().as_str().len(), 63);
        assert!(own_name("___").unwrap_err().to_string().contains("--name"));
    }

    #[test]
    fn labels_are_pairs() {
        assert_eq!(label("zone=a=b").unwrap(), ("zone".to_owned(), "a=b".to_owned()));
        assert!(label("zone").is_err() && label("=a").is_err());
    }
}
