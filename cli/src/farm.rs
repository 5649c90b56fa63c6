//! Finds the farm and connects to it.
//!
//! A farm that was named and does not answer is an error that names it; nobody's build ever goes to another farm
//! than the one that was asked for.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::Result;
use archyard_net::{ClientTls, Endpoint, Error, Outlook, outlook};
use archyard_proto::v1 as proto;
use proto::artifact_service_client::ArtifactServiceClient;
use proto::build_service_client::BuildServiceClient;
use proto::context_service_client::ContextServiceClient;
use proto::disk_service_client::DiskServiceClient;
use proto::farm_service_client::FarmServiceClient;
use tonic::transport::Channel;

use crate::args::FarmArgs;
use crate::exit::Refusal;
use crate::paths;

/// A connection to a farm. Cheap to clone; it redials by itself.
#[derive(Debug, Clone)]
pub(crate) struct Farm {
    channel: Channel,
}

impl Farm {
    /// Connects to the farm that was named, or that listens at the default socket.
    pub(crate) async fn find(args: &FarmArgs) -> Result<Self> {
        match Self::known(args) {
            Some(endpoint) => Self::connect(endpoint, args.tls_dir().map(Path::to_owned)).await,
            None => Err(Refusal::unavailable(nowhere())),
        }
    }

    /// Where [`find`](Self::find) would go. None: no farm was named, and nobody listens at the default socket.
    pub(crate) fn known(args: &FarmArgs) -> Option<Endpoint> {
        args.endpoint().cloned().or_else(|| {
            let socket = paths::default_socket()?;
            UnixStream::connect(&socket).is_ok().then_some(Endpoint::Unix(socket))
        })
    }

    /// Connects there.
    pub(crate) async fn connect(endpoint: Endpoint, tls_dir: Option<PathBuf>) -> Result<Self> {
        let tls = match tls_dir {
            Some(dir) if endpoint.needs_tls() => {
                Some(ClientTls::from_dir(&dir).map_err(|error| refusal(&error))?)
            }
            _ => None,
        };
        let channel =
            archyard_net::connect(&endpoint, tls.as_ref()).await.map_err(|error| refusal(&error))?;
        Ok(Self { channel })
    }

    /// Submit, ask, watch, read logs, cancel.
    pub(crate) fn builds(&self) -> BuildServiceClient<Channel> {
        BuildServiceClient::new(self.channel.clone())
    }

    /// Contexts and other blobs.
    pub(crate) fn contexts(&self) -> ContextServiceClient<Channel> {
        ContextServiceClient::new(self.channel.clone())
    }

    /// What builds left for their clients.
    pub(crate) fn artifacts(&self) -> ArtifactServiceClient<Channel> {
        ArtifactServiceClient::new(self.channel.clone())
    }

    /// What the scheduler keeps.
    pub(crate) fn disk(&self) -> DiskServiceClient<Channel> {
        DiskServiceClient::new(self.channel.clone())
    }

    /// Workers.
    pub(crate) fn farm(&self) -> FarmServiceClient<Channel> {
        FarmServiceClient::new(self.channel.clone())
    }
}

fn nowhere() -> String {
    let socket = paths::default_socket().map_or_else(
        || "XDG_RUNTIME_DIR is not set, so there is no default socket".to_owned(),
        |socket| format!("nobody listens at {}", socket.display()),
    );
    format!("no farm: {socket}; start one with `archyard up`, or name one with --farm or ARCHYARD_FARM")
}

/// A permanent error needs another command, file or certificate; after any other the caller tries again.
fn refusal(error: &Error) -> anyhow::Error {
    match outlook(error) {
        Outlook::Permanent => Refusal::usage(error.to_string()),
        Outlook::Transient | Outlook::Unclear => Refusal::unavailable(error.to_string()),
    }
}
