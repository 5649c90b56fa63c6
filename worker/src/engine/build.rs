//! One build, start to end: a Solve, the session it reads from, and the status it is watched by.

use std::sync::Arc;
use std::time::Duration;

use archyard_model::Sha256;
use archyard_proto::v1::LogFrame;
use bollard_buildkit_proto::moby::buildkit::v1::{SolveResponse, StatusRequest, StatusResponse};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming};

use super::control::Control;
use super::dial::Endpoint;
use super::failure::judge;
use super::progress::Progress;
use super::session::{self, Dockerfile, Files, Served, Session};
use super::solve::{dockerfile_name, solve_request};
use super::{BuildError, BuildRequest, Built, EngineError, Source};

/// The rest of the progress, once the Solve has ended. BuildKit sends it at once; a hanging one is given up.
const LAST_STATUS: Duration = Duration::from_secs(5);

/// How long BuildKit may take to stop what is canceled.
const STOP: Duration = Duration::from_secs(30);

/// Builds; see [`super::Engine::build`].
pub(super) async fn build(
    endpoint: &Endpoint,
    request: BuildRequest,
    source: Arc<dyn Source>,
    progress: mpsc::Sender<LogFrame>,
    cancel: CancellationToken,
) -> Result<Built, BuildError> {
    let dockerfile = Dockerfile::new(dockerfile_name(&request), request.dockerfile.clone());
    let files = Arc::new(Files::new(source, dockerfile));
    let served = Served {
        id: request.build_ref.clone(),
        shared_key: request.shared_key.clone(),
        files: files.clone(),
        credentials: request.credentials.clone(),
    };
    let connected = async { tokio::try_join!(Control::connect(endpoint), Session::open(endpoint, served)) };
    let (control, _session) = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(BuildError::Canceled),
        connected = connected => connected.map_err(|error| unreachable(&error))?,
    };
    let mut watch = Watch { endpoint, progress: Progress::default(), sink: progress };
    let solved = watch.solve(&control, &request, &cancel).await?;
    match solved {
        Ok(response) => {
            let (steps, cached_steps) = watch.progress.counts();
            let image = image_id(response.get_ref()).ok_or_else(|| watch.lost("BuildKit named no image"))?;
            Ok(Built { image, steps, cached_steps })
        }
        Err(status) if is_transport(&status) || control.is_closed() => Err(watch.lost(status.message())),
        Err(status) if status.message().contains("context canceled") => {
            Err(watch.lost("the Engine stopped the build; is it shutting down?"))
        }
        Err(status) => Err(match files.failure() {
            Some(reason) => infrastructure("context_unreadable", reason),
            None => judge(&status, &watch.progress, &request),
        }),
    }
}

/// A build that is being watched.
struct Watch<'a> {
    endpoint: &'a Endpoint,
    progress: Progress,
    sink: mpsc::Sender<LogFrame>,
}

impl Watch<'_> {
    /// Runs the Solve and tells its progress, all of it, until both have ended.
    async fn solve(
        &mut self,
        control: &Control,
        request: &BuildRequest,
        cancel: &CancellationToken,
    ) -> Result<Result<Response<SolveResponse>, Status>, BuildError> {
        let build_ref = request.build_ref.clone();
        let (mut solver, mut watcher) = (control.client(), control.client());
        let mut solve = Box::pin(solver.solve(solve_request(request, session::session_id(&build_ref))));
        let mut status = Box::pin(watcher.status(StatusRequest { r#ref: build_ref }));
        let mut stream: Option<Streaming<StatusResponse>> = None;
        let mut watching = true;
        let solved = loop {
            tokio::select! {
                solved = &mut solve => break solved,
                () = cancel.cancelled() => {
                    // Hanging up on the Solve is how BuildKit is told to stop.
                    drop(solve);
                    self.until_stopped(stream).await;
                    return Err(BuildError::Canceled);
                }
                opened = &mut status, if watching && stream.is_none() => match opened {
                    Ok(opened) => stream = Some(opened.into_inner()),
                    Err(error) => {
                        tracing::debug!(%error, "no progress from BuildKit");
                        watching = false;
                    }
                },
                message = next(&mut stream), if watching && stream.is_some() => match message {
                    Some(message) => self.tell(message).await,
                    None => watching = false,
                },
            }
        };
        if watching {
            let rest = async {
                if stream.is_none() {
                    stream = (&mut status).await.ok().map(Response::into_inner);
                }
                while let Some(message) = next(&mut stream).await {
                    self.tell(message).await;
                }
            };
            if timeout(LAST_STATUS, rest).await.is_err() {
                tracing::warn!("BuildKit did not end its progress in time");
            }
        }
        Ok(solved)
    }

    async fn tell(&mut self, message: StatusResponse) {
        for frame in self.progress.tell(message) {
            // Nobody listens any more: the build goes on without.
            if self.sink.send(frame).await.is_err() {
                break;
            }
        }
    }

    /// Follows a canceled build until BuildKit has told that no step of it runs.
    async fn until_stopped(&mut self, mut stream: Option<Streaming<StatusResponse>>) {
        let stopped = async {
            while let Some(message) = next(&mut stream).await {
                self.tell(message).await;
            }
        };
        if timeout(STOP, stopped).await.is_err() {
            tracing::warn!("BuildKit did not confirm that the build has stopped");
        }
    }

    fn lost(&self, reason: &str) -> BuildError {
        BuildError::EngineLost { endpoint: self.endpoint.to_string(), reason: reason.to_owned() }
    }
}

/// The next message; none once the stream has ended, however it did: why is the Solve's to say.
async fn next(stream: &mut Option<Streaming<StatusResponse>>) -> Option<StatusResponse> {
    stream.as_mut()?.message().await.unwrap_or_else(|error| {
        tracing::debug!(%error, "progress ended");
        None
    })
}

/// Whether an error is the connection's, not BuildKit's answer.
fn is_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

fn image_id(response: &SolveResponse) -> Option<Sha256> {
    response.exporter_response.get("containerimage.digest")?.parse().ok()
}

fn unreachable(error: &EngineError) -> BuildError {
    infrastructure("engine_unreachable", &error.to_string())
}

fn infrastructure(code: &str, message: &str) -> BuildError {
    use archyard_model::{Failure, FailureClass};
    BuildError::Infrastructure(Failure::new(FailureClass::Infrastructure, code, message))
}
