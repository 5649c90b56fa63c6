//! The Engine over its HTTP API, and BuildKit through the door that API has.

use std::sync::Arc;

use archyard_model::Sha256;
use archyard_proto::v1::LogFrame;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::build;
use super::dial::Endpoint;
use super::{
    BuildError, BuildRequest, Built, Engine, EngineError, Probe, ProbeError, PushError, PushRequest, Pushed,
    Source,
};

/// A Docker Engine at one endpoint. Cheap to clone; connects when it is asked for something.
#[derive(Debug, Clone)]
pub struct DockerEngine {
    endpoint: Arc<Endpoint>,
}

impl DockerEngine {
    /// The Engine at `endpoint`, `unix:///path/to.sock`. Nothing is dialed yet.
    ///
    /// # Errors
    /// [`EngineError::Endpoint`] when it cannot be dialed by this version.
    pub fn connect(endpoint: &str) -> Result<Self, EngineError> {
        Ok(Self { endpoint: Arc::new(Endpoint::parse(endpoint)?) })
    }

    /// As given to [`connect`](Self::connect).
    pub fn endpoint(&self) -> String {
        self.endpoint.to_string()
    }

    fn not_yet(&self, action: &'static str) -> EngineError {
        EngineError::Refused {
            endpoint: self.endpoint.to_string(),
            action,
            message: "not written yet".to_owned(),
        }
    }
}

impl Engine for DockerEngine {
    async fn probe(&self) -> Result<Probe, ProbeError> {
        Err(self.not_yet("probe").into())
    }

    async fn build(
        &self,
        request: BuildRequest,
        source: Arc<dyn Source>,
        progress: mpsc::Sender<LogFrame>,
        cancel: CancellationToken,
    ) -> Result<Built, BuildError> {
        build::build(&self.endpoint, request, source, progress, cancel).await
    }

    async fn push(
        &self,
        _request: PushRequest,
        _progress: mpsc::Sender<LogFrame>,
        _cancel: CancellationToken,
    ) -> Result<Pushed, PushError> {
        Err(PushError::Canceled)
    }

    async fn remove_image(&self, _image: Sha256) -> Result<(), EngineError> {
        Err(self.not_yet("remove an image"))
    }

    async fn prune(&self, _keep_bytes: u64) -> Result<u64, EngineError> {
        Err(self.not_yet("prune its build cache"))
    }
}
