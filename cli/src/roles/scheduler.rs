//! Starts a scheduler, and issues its authority's certificates.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use archyard_net::Endpoint;
use archyard_scheduler::tls::{self, Authority};
use archyard_scheduler::{Config, Error, Listen, Scheduler, TlsConfig};
use bytesize::ByteSize;
use tokio_util::sync::CancellationToken;

use crate::commands::cert::Role;
use crate::exit::Refusal;
use crate::roles::retention;
use crate::{edge, paths};

/// A scheduler's flags.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Where to listen, as unix:PATH or ADDRESS:PORT; repeat for several [default: the default socket]
    #[arg(long, value_name = "ADDRESS", value_parser = edge::listen)]
    pub(crate) listen: Vec<Listen>,
    /// TLS on every address; clients and workers need a certificate then
    #[arg(long)]
    pub(crate) tls: bool,
    /// Name or address by which it is reached, for its certificate; repeat for several
    #[arg(long, value_name = "NAME", requires = "tls")]
    pub(crate) tls_name: Vec<String>,
    /// Registry that may be spoken to without TLS, as HOST[:PORT]; loopback always may
    #[arg(long, value_name = "HOST")]
    pub(crate) insecure_registry: Vec<String>,
    /// Silence after which a worker is taken for lost, as in 30s
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) lease: Option<Duration>,
    /// How much it keeps for clients to fetch, of what workers left, as in 100GiB [default: 256GiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) artifacts_size: Option<ByteSize>,
    /// How long after a build's end, as in 6h [default: 6h]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) artifacts_kept: Option<Duration>,
    #[command(flatten)]
    pub(crate) retention: retention::Flags,
    /// The scheduler serves only this process.
    #[arg(skip)]
    pub(crate) alone: bool,
}

impl Options {
    fn into_config(self, data_dir: PathBuf) -> Result<Config> {
        let listen = if self.listen.is_empty() { vec![Listen::Unix(default_socket()?)] } else { self.listen };
        if let Some(default) =
            paths::default_socket().filter(|path| listen.contains(&Listen::Unix(path.clone())))
        {
            make_folder(&default)?;
        }
        let mut config = Config::new(data_dir, listen);
        config.tls = self.tls.then_some(TlsConfig { names: self.tls_name });
        config.insecure_registries = self.insecure_registry;
        if let Some(size) = self.artifacts_size {
            config.artifacts.bytes = size.as_u64();
        }
        if let Some(kept) = self.artifacts_kept {
            config.artifacts.kept = kept;
        }
        config.retention = self.retention.into_options();
        config.retention.alone = self.alone;
        if let Some(lease) = self.lease {
            config.times.lease = lease;
            // A heartbeat or two may be late.
            config.times.heartbeat = config.times.heartbeat.min(lease / 4);
        }
        Ok(config)
    }
}

fn default_socket() -> Result<PathBuf> {
    paths::default_socket().ok_or_else(|| {
        Refusal::usage("--listen: XDG_RUNTIME_DIR is not set, so there is no default socket; give unix:PATH")
    })
}

/// The folder of the default socket is ours to make, whether a flag names it or not: a machine that has just started
/// has none.
fn make_folder(socket: &Path) -> Result<()> {
    let Some(folder) = socket.parent() else { return Ok(()) };
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Refusal::unavailable(format!(
                "cannot create {} for the default socket: {error}; create it, or give --listen unix:PATH",
                folder.display()
            )))
        }
        _ => Ok(()),
    }
}

/// A scheduler that listens.
#[derive(Debug)]
pub(crate) struct Running {
    running: archyard_scheduler::Running,
    tls: bool,
    shutdown: CancellationToken,
}

/// Listens, and serves until `shutdown` fires.
pub(crate) async fn start(
    options: Options,
    data_dir: PathBuf,
    shutdown: CancellationToken,
) -> Result<Running> {
    let config = options.into_config(std::path::absolute(data_dir)?)?;
    let tls = config.tls.is_some();
    let running = Scheduler::start(config).await.map_err(|error| match error {
        Error::Config(_) | Error::Tls(tls::Error::Invalid(_)) => Refusal::usage(error.to_string()),
        other => other.into(),
    })?;
    Ok(Running { running, tls, shutdown })
}

impl Running {
    /// An address that needs no certificate, for a worker in the same process.
    pub(crate) fn local_endpoint(&self) -> Option<Endpoint> {
        self.running.listening().iter().find_map(|listen| match listen {
            Listen::Unix(path) => Some(Endpoint::Unix(path.clone())),
            Listen::Tcp(address) if !self.tls && address.ip().is_loopback() => {
                Some(Endpoint::Http { host: address.ip().to_string(), port: address.port() })
            }
            Listen::Tcp(_) => None,
        })
    }

    /// Returns when it has ended.
    pub(crate) async fn wait(self) -> Result<()> {
        let mut running = self.running;
        let failed = tokio::select! {
            () = self.shutdown.cancelled() => None,
            failed = running.failed() => Some(failed),
        };
        let stopped = running.stop().await;
        match failed {
            // The journal's own error says more than that a server ended.
            Some(failed) => Err(stopped.err().unwrap_or(failed).into()),
            None => Ok(stopped?),
        }
    }
}

/// Writes a certificate of the farm's own authority to a folder.
pub(crate) fn issue(data_dir: &Path, role: Role, name: &str, out: &Path) -> Result<()> {
    if !data_dir.is_dir() {
        return Err(Refusal::usage(format!(
            "--data-dir {}: no scheduler has its data there; run this where `archyard scheduler` runs, with its --data-dir",
            data_dir.display()
        )));
    }
    if out.join(archyard_net::ClientTls::KEY).exists() {
        return Err(Refusal::usage(format!(
            "--out {}: it holds a key already; name a new folder",
            out.display()
        )));
    }
    let role = match role {
        Role::Worker => tls::Role::Worker,
        Role::Client => tls::Role::Client,
    };
    let issued = Authority::open(data_dir)?.issue(name, role).map_err(|error| match error {
        tls::Error::Invalid(_) => Refusal::usage(error.to_string()),
        other => other.into(),
    })?;
    Ok(issued.write(out)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{self, Exit};

    #[test]
    fn a_short_lease_has_a_short_heartbeat() {
        let listen = vec!["unix:/s".parse().unwrap()];
        let options = Options { listen, lease: Some(Duration::from_secs(4)), ..Options::default() };
        let config = options.into_config("/data".into()).unwrap();
        assert!(config.times.heartbeat * 4 <= config.times.lease);
    }

    #[test]
    fn the_default_sockets_folder_is_made_and_one_that_cannot_be_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("archyard/scheduler.sock");
        make_folder(&socket).unwrap();
        make_folder(&socket).unwrap();
        assert!(socket.parent().unwrap().is_dir());
        let error = make_folder(&dir.path().join("none/archyard/scheduler.sock")).unwrap_err();
        assert!(error.to_string().contains("--listen"), "{error}");
        assert_eq!(exit::of(&error), Exit::Unavailable);
    }

    #[test]
    fn certificates_come_from_a_schedulers_folder_and_overwrite_none() {
        let dir = tempfile::tempdir().unwrap();
        let (data, out) = (dir.path().join("data"), dir.path().join("out"));
        let error = issue(&data, Role::Client, "alice", &out).unwrap_err().to_string();
        assert!(error.contains("--data-dir"), "{error}");
        std::fs::create_dir(&data).unwrap();
        issue(&data, Role::Client, "alice", &out).unwrap();
        archyard_net::ClientTls::from_dir(&out).unwrap();
        let error = issue(&data, Role::Worker, "arm-1", &out).unwrap_err().to_string();
        assert!(error.contains("--out"), "{error}");
        let error = issue(&data, Role::Worker, "Not A Name", &dir.path().join("other")).unwrap_err();
        assert_eq!(exit::of(&error), Exit::Usage);
    }
}
