//! The Engine over its HTTP API, and BuildKit through the door that API has.

use std::sync::Arc;

use archyard_model::Sha256;
use archyard_proto::v1::LogFrame;
use bollard::errors::Error;
use bollard::query_parameters::RemoveImageOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker};
use bollard_buildkit_proto::moby::buildkit::v1::PruneRequest;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::control::Control;
use super::dial::Endpoint;
use super::session::Sink;
use super::{
    BuildError, BuildRequest, Built, Described, Engine, EngineError, Form, Probe, ProbeError, PushError,
    PushRequest, Pushed, Ran, RunError, RunRequest, Source, TakeRequest, Taken,
};
use super::{build, container, describe, export, probe};

/// How long the Engine may think before it begins to answer: it writes a whole image to disk before it sends
/// the first byte of it.
const ANSWER_TIMEOUT_S: u64 = 600;

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

    /// Asks what listens there, for two seconds at most. No answer is no error: the Engine is waited for.
    ///
    /// # Errors
    /// [`EngineError::NotDocker`] where no waiting helps.
    pub async fn identify(&self) -> Result<(), EngineError> {
        probe::identify(self).await
    }

    /// As given to [`connect`](Self::connect).
    pub fn endpoint(&self) -> String {
        self.endpoint.to_string()
    }

    /// Where it is.
    pub(super) fn at(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A client of the HTTP API.
    pub(super) fn api(&self) -> Result<Docker, EngineError> {
        let api = match &*self.endpoint {
            Endpoint::Unix(path) => {
                Docker::connect_with_unix(&path.to_string_lossy(), ANSWER_TIMEOUT_S, API_DEFAULT_VERSION)
            }
        };
        api.map_err(|error| self.error("be spoken to", &error))
    }

    /// The error of a request that was to `action`.
    pub(super) fn error(&self, action: &'static str, error: &Error) -> EngineError {
        let endpoint = self.endpoint.to_string();
        match error {
            Error::DockerResponseServerError { message, .. } => {
                EngineError::Refused { endpoint, action, message: message.clone() }
            }
            other => EngineError::Unreachable { endpoint, reason: root_cause(other) },
        }
    }
}

impl Engine for DockerEngine {
    async fn probe(&self) -> Result<Probe, ProbeError> {
        probe::probe(self).await
    }

    async fn ping(&self) -> Result<(), EngineError> {
        self.api()?.ping().await.map(drop).map_err(|error| self.error("answer", &error))
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

    async fn files(
        &self,
        request: BuildRequest,
        source: Arc<dyn Source>,
        form: Form,
        sink: mpsc::Sender<Bytes>,
        progress: mpsc::Sender<LogFrame>,
        cancel: CancellationToken,
    ) -> Result<(), BuildError> {
        build::files(&self.endpoint, request, source, Sink { form, tar: sink }, progress, cancel).await
    }

    async fn describe(&self, image: Sha256) -> Result<Described, EngineError> {
        describe::describe(self, image).await
    }

    async fn take(
        &self,
        request: TakeRequest,
        progress: mpsc::Sender<LogFrame>,
        cancel: CancellationToken,
    ) -> Result<Taken, PushError> {
        let api = self.api().map_err(|error| PushError::unreachable(&error))?;
        export::take(&api, request, progress, cancel).await
    }

    async fn push(
        &self,
        request: PushRequest,
        progress: mpsc::Sender<LogFrame>,
        cancel: CancellationToken,
    ) -> Result<Pushed, PushError> {
        let api = self.api().map_err(|error| PushError::unreachable(&error))?;
        export::push(&api, request, progress, cancel).await
    }

    async fn run(
        &self,
        request: RunRequest,
        progress: mpsc::Sender<LogFrame>,
        cancel: CancellationToken,
    ) -> Result<Ran, RunError> {
        container::run(self, request, progress, cancel).await
    }

    async fn remove_image(&self, image: Sha256) -> Result<(), EngineError> {
        // Its layers may serve the next build: parents that are images of their own stay.
        let options = RemoveImageOptionsBuilder::new().noprune(true).force(false).build();
        let removed = self.api()?.remove_image(&image.to_string(), Some(options), None).await;
        match removed {
            // 404: it is not there. 409: somebody else uses it, or gave it a name.
            Ok(_) | Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(error) => Err(self.error("remove an image", &error)),
        }
    }

    async fn prune(&self, keep_bytes: u64) -> Result<u64, EngineError> {
        let refused = |status: tonic::Status| EngineError::Refused {
            endpoint: self.endpoint.to_string(),
            action: "prune its build cache",
            message: status.message().to_owned(),
        };
        // BuildKit's own call: the HTTP API names the limit differently from version to version, and an
        // unknown name means no limit.
        let control = Control::connect(&self.endpoint).await?;
        let reserved_space = i64::try_from(keep_bytes).unwrap_or(i64::MAX);
        let request = PruneRequest { all: true, reserved_space, ..PruneRequest::default() };
        let mut records = control.client().prune(request).await.map_err(refused)?.into_inner();
        let mut reclaimed = 0;
        while let Some(record) = records.message().await.map_err(refused)? {
            reclaimed += u64::try_from(record.size).unwrap_or(0);
        }
        Ok(reclaimed)
    }
}

/// What lies at the bottom of a chain of errors: the socket's own words.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
