//! One build, start to end: a Solve, the session it reads from, and the status it is watched by.

use std::sync::Arc;
use std::time::Duration;

use archyard_model::Sha256;
use archyard_proto::v1::LogFrame;
use bollard_buildkit_proto::moby::buildkit::v1::{SolveResponse, StatusRequest, StatusResponse};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};

use super::control::Control;
use super::dial::Endpoint;
use super::failure::judge;
use super::progress::Progress;
use super::session::{self, Dockerfile, Files, Served, Session, Unserved};
use super::solve::{self, dockerfile_name, solve_request};
use super::{BuildError, BuildRequest, Built, EngineError, Source};

/// The rest of the progress, once the Solve has ended. BuildKit sends it at once; a hanging one is given up.
const LAST_STATUS: Duration = Duration::from_secs(5);

/// How long BuildKit may take to stop what is canceled: its progress ends once no step runs any more.
const STOP: Duration = Duration::from_secs(30);

/// What BuildKit calls the image that it made, and its config. 20.10 knows but the former, which is the config's
/// there.
const IMAGE: &str = "containerimage.digest";
const CONFIG: &str = "containerimage.config.digest";

/// Builds; see [`super::Engine::build`].
pub(super) async fn build(
    endpoint: &Endpoint,
    request: BuildRequest,
    source: Arc<dyn Source>,
    progress: mpsc::Sender<LogFrame>,
    cancel: CancellationToken,
) -> Result<Built, BuildError> {
    let mut watch = Watch::new(endpoint, solve::IMAGE, progress, cancel);
    let response = watch.solved(&request, source, None).await?;
    let (steps, cached_steps) = watch.progress.counts();
    let told = |name: &str| response.exporter_response.get(name)?.parse::<Sha256>().ok();
    let image = told(IMAGE).ok_or_else(|| watch.lost("BuildKit named no image"))?;
    Ok(Built { image, config: told(CONFIG), steps, cached_steps })
}

/// Sends files; see [`super::Engine::files`].
pub(super) async fn files(
    endpoint: &Endpoint,
    request: BuildRequest,
    source: Arc<dyn Source>,
    sink: mpsc::Sender<Bytes>,
    progress: mpsc::Sender<LogFrame>,
    cancel: CancellationToken,
) -> Result<(), BuildError> {
    let mut watch = Watch::new(endpoint, solve::FILES, progress, cancel);
    watch.solved(&request, source, Some(sink)).await?;
    // What ran a second time is not what was looked at: its cache was pruned in between.
    match watch.progress.ran() {
        Some(step) => Err(infrastructure(
            "cache_lost",
            &format!(
                "{step} ran again when its files were asked for, so they are not those of the image that was inspected; \
                 is the Engine's build cache too small?"
            ),
        )),
        None => Ok(()),
    }
}

/// What BuildKit answered.
type Solved = Result<Response<SolveResponse>, Status>;

/// A build that is being watched.
struct Watch<'a> {
    endpoint: &'a Endpoint,
    exporter: &'static str,
    progress: Progress,
    sink: mpsc::Sender<LogFrame>,
    cancel: CancellationToken,
}

impl<'a> Watch<'a> {
    fn new(
        endpoint: &'a Endpoint,
        exporter: &'static str,
        sink: mpsc::Sender<LogFrame>,
        cancel: CancellationToken,
    ) -> Self {
        Self { endpoint, exporter, progress: Progress::default(), sink, cancel }
    }

    /// One Solve with a session of its own, and what BuildKit answered.
    async fn solved(
        &mut self,
        request: &BuildRequest,
        source: Arc<dyn Source>,
        sink: Option<mpsc::Sender<Bytes>>,
    ) -> Result<SolveResponse, BuildError> {
        let dockerfile = Dockerfile::new(dockerfile_name(request), request.dockerfile.clone());
        let files = Arc::new(Files::new(source, dockerfile, request.whole_context));
        let served = Served {
            id: request.build_ref.clone(),
            shared_key: request.shared_key.clone(),
            files: files.clone(),
            credentials: request.credentials.clone(),
            sink,
        };
        let endpoint = self.endpoint;
        let connected =
            async { tokio::try_join!(Control::connect(endpoint), Session::open(endpoint, served)) };
        let (control, _session) = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(BuildError::Canceled),
            connected = connected => connected.map_err(|error| unreachable(&error))?,
        };
        match self.solve(&control, request).await? {
            Ok(response) => Ok(response.into_inner()),
            Err(status) if is_transport(&status) || control.is_closed() => Err(self.lost(status.message())),
            Err(status) if status.message().contains("context canceled") => {
                Err(self.lost("the Engine stopped the build; is it shutting down?"))
            }
            Err(status) => Err(match files.failure() {
                Some(Unserved::Unreadable(reason)) => infrastructure("context_unreadable", reason),
                Some(Unserved::Incomplete(reason)) => infrastructure("context_incomplete", reason),
                None => judge(&status, &self.progress, request),
            }),
        }
    }

    /// Runs the Solve and tells its progress, all of it, until both have ended.
    async fn solve(&mut self, control: &Control, request: &BuildRequest) -> Result<Solved, BuildError> {
        let build_ref = request.build_ref.clone();
        let solve = solve_request(request, session::session_id(&build_ref), self.exporter);
        let (mut solver, cancel) = (control.client(), self.cancel.clone());
        // A task of its own: whoever reads the progress may be slow, and must not delay a stop.
        let mut solving = JoinSet::new();
        solving.spawn(async move {
            tokio::select! {
                biased;
                // Hanging up on the Solve is how BuildKit is told to stop.
                () = cancel.cancelled() => None,
                solved = solver.solve(solve) => Some(solved),
            }
        });
        let mut watcher = control.client();
        let opened = async move { watcher.status(StatusRequest { r#ref: build_ref }).await };
        let mut messages = Box::pin(stream::once(opened).map_ok(Response::into_inner).try_flatten());
        let mut watching = true;
        let solved = loop {
            tokio::select! {
                solved = solving.join_next() => break solved,
                message = messages.next(), if watching => match message {
                    Some(Ok(message)) => self.tell(message).await,
                    // However it ended: why is the Solve's to say.
                    Some(Err(_)) | None => watching = false,
                },
            }
        };
        let patience = if matches!(solved, Some(Ok(None))) { STOP } else { LAST_STATUS };
        let rest = async {
            while let Some(Ok(message)) = messages.next().await {
                self.tell(message).await;
            }
        };
        if watching && timeout(patience, rest).await.is_err() {
            tracing::warn!("BuildKit did not end its progress in time");
        }
        match solved {
            Some(Ok(Some(solved))) => Ok(solved),
            Some(Ok(None)) => Err(BuildError::Canceled),
            Some(Err(_)) | None => Err(infrastructure("engine_failed", "the build's own task broke")),
        }
    }

    /// Tells one message on. A canceled build waits for no reader.
    async fn tell(&mut self, message: StatusResponse) {
        for frame in self.progress.tell(message) {
            tokio::select! {
                biased;
                room = self.sink.reserve() => match room {
                    Ok(room) => room.send(frame),
                    // Nobody listens any more: the build goes on without.
                    Err(_) => break,
                },
                () = self.cancel.cancelled() => break,
            }
        }
    }

    fn lost(&self, reason: &str) -> BuildError {
        BuildError::EngineLost { endpoint: self.endpoint.to_string(), reason: reason.to_owned() }
    }
}

/// Whether an error is the connection's, not BuildKit's answer.
fn is_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

fn unreachable(error: &EngineError) -> BuildError {
    infrastructure("engine_unreachable", &error.to_string())
}

fn infrastructure(code: &str, message: &str) -> BuildError {
    use archyard_model::{Failure, FailureClass};
    BuildError::Infrastructure(Failure::new(FailureClass::Infrastructure, code, message))
}
