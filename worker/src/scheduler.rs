//! Where the scheduler is, for every process of a worker that dials it.

use std::path::PathBuf;

use archyard_net::{ClientTls, Endpoint};
use tonic::transport::Channel;

/// An address, and the folder with what TLS needs. The folder is read for every connection: certificates that
/// were renewed are used at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduler {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// With `ca.pem`, `cert.pem` and `key.pem`; needed for `https`.
    pub tls: Option<PathBuf>,
}

impl Scheduler {
    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Channel, archyard_net::Error> {
        let tls = match &self.tls {
            Some(folder) if self.endpoint.needs_tls() => Some(ClientTls::from_dir(folder)?),
            _ => None,
        };
        archyard_net::connect(&self.endpoint, tls.as_ref()).await
    }
}
