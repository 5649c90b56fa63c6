//! One build, start to end: a Solve, the session it reads from, and the status it is watched by.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use archyard_model::{Sha256, limits};
use archyard_proto::v1::LogFrame;
use archyard_proto::v1::log_frame::{Clipped, Frame};
use bollard_buildkit_proto::moby::buildkit::v1::{SolveResponse, StatusRequest, StatusResponse};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};

use super::control::Control;
use super::dial::Endpoint;
use super::failure::judge;
use super::progress::Progress;
use super::session::{self, Dockerfile, Files, Served, Session, Sink, Unserved};
use super::solve::{self, dockerfile_name, solve_request};
use super::{BuildError, BuildRequest, Built, EngineError, Source};

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
    sink: Sink,
    progress: mpsc::Sender<LogFrame>,
    cancel: CancellationToken,
) -> Result<(), BuildError> {
    let mut watch = Watch::new(endpoint, solve::files(sink.form), progress, cancel);
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
    /// Frames were dropped: the build was canceled while the log was behind.
    dropped: bool,
    /// See [`limits::STATUS_STALL`].
    stall: Duration,
}

impl<'a> Watch<'a> {
    fn new(
        endpoint: &'a Endpoint,
        exporter: &'static str,
        sink: mpsc::Sender<LogFrame>,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            endpoint,
            exporter,
            progress: Progress::default(),
            sink,
            cancel,
            dropped: false,
            stall: limits::STATUS_STALL,
        }
    }

    /// One Solve with a session of its own, and what BuildKit answered.
    async fn solved(
        &mut self,
        request: &BuildRequest,
        source: Arc<dyn Source>,
        sink: Option<Sink>,
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
        let status = match self.solve(&control, request).await? {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => status,
        };
        // First: how BuildKit ends a build whose files were refused, it says in several ways.
        Err(match files.failure() {
            Some(Unserved::Unreadable(reason)) => infrastructure("context_unreadable", reason),
            Some(Unserved::Incomplete(reason)) => infrastructure("context_incomplete", reason),
            None if is_transport(&status) || control.is_closed() => self.lost(status.message()),
            None if status.message().contains("context canceled") => {
                self.lost("the Engine stopped the build; is it shutting down?")
            }
            None => judge(&status, &self.progress, request),
        })
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
        let mut end = None;
        let solved = loop {
            tokio::select! {
                solved = solving.join_next() => break solved,
                message = messages.next(), if end.is_none() => match message {
                    Some(Ok(message)) => self.tell(message).await,
                    Some(Err(status)) => end = Some(Err(broke_off(&status))),
                    None => end = Some(Ok(())),
                },
            }
        };
        let end = match end {
            Some(end) => end,
            None if matches!(solved, Some(Ok(None))) => timeout(STOP, self.rest(&mut messages))
                .await
                .unwrap_or_else(|_| Err("BuildKit did not stop the build's steps in time".to_owned())),
            None => self.rest(&mut messages).await,
        };
        if let Err(reason) = end {
            self.incomplete(reason).await;
        } else if self.dropped {
            self.incomplete("the build was canceled".to_owned()).await;
        }
        match solved {
            Some(Ok(Some(solved))) => Ok(solved),
            Some(Ok(None)) => Err(BuildError::Canceled),
            Some(Err(_)) | None => Err(infrastructure("engine_failed", "the build's own task broke")),
        }
    }

    /// Tells the rest of the progress, once the Solve has ended. There may be much of it: BuildKit sends the output of
    /// steps more slowly than they write it. Only silence ends it early; a reader of the log may take its time.
    async fn rest(
        &mut self,
        messages: &mut (impl Stream<Item = Result<StatusResponse, Status>> + Unpin),
    ) -> Result<(), String> {
        loop {
            match timeout(self.stall, messages.next()).await {
                Ok(Some(Ok(message))) => self.tell(message).await,
                Ok(Some(Err(status))) => return Err(broke_off(&status)),
                Ok(None) => return Ok(()),
                Err(_) => {
                    let silence = self.stall.as_secs();
                    return Err(format!("BuildKit sent no progress for {silence} s and did not end it"));
                }
            }
        }
    }

    /// Says in the log that it is not whole. What the log says of this, the attempt's record repeats.
    async fn incomplete(&mut self, reason: String) {
        tracing::warn!(reason, "the log is not whole");
        let message = format!("the rest of this log is missing: {reason}");
        let frame = Frame::Clipped(Clipped { vertex: String::new(), message });
        self.send(LogFrame { at: Some(SystemTime::now().into()), frame: Some(frame) }).await;
    }

    /// Tells one message on.
    async fn tell(&mut self, message: StatusResponse) {
        for frame in self.progress.tell(message) {
            self.send(frame).await;
        }
    }

    /// Sends a frame. A canceled build does not wait for a reader.
    async fn send(&mut self, frame: LogFrame) {
        tokio::select! {
            biased;
            // An error says that the receiver is gone: the build goes on without a log.
            room = self.sink.reserve() => if let Ok(room) = room { room.send(frame) },
            () = self.cancel.cancelled() => self.dropped = true,
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

/// Why the progress ended early.
fn broke_off(status: &Status) -> String {
    format!("BuildKit's progress broke off: {}", status.message())
}

fn unreachable(error: &EngineError) -> BuildError {
    infrastructure("engine_unreachable", &error.to_string())
}

fn infrastructure(code: &str, message: &str) -> BuildError {
    use archyard_model::{Failure, FailureClass};
    BuildError::Infrastructure(Failure::new(FailureClass::Infrastructure, code, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_buildkit_proto::moby::buildkit::v1::VertexLog;

    const STALL: Duration = Duration::from_millis(300);
    /// Well within [`STALL`], and several of them are longer than it.
    const STEP: Duration = Duration::from_millis(120);

    fn message(text: &str) -> Result<StatusResponse, Status> {
        let log =
            VertexLog { vertex: "v".to_owned(), stream: 1, msg: text.as_bytes().to_vec(), timestamp: None };
        Ok(StatusResponse { logs: vec![log], ..StatusResponse::default() })
    }

    /// What a log says after a Solve has ended and its progress goes on like this; the reader pauses before each frame.
    async fn rest(
        messages: impl Stream<Item = Result<StatusResponse, Status>>,
        pause: Duration,
    ) -> (Result<(), String>, String) {
        let endpoint = Endpoint::parse("unix:///nonexistent/docker.sock").unwrap();
        let (sink, mut frames) = mpsc::channel(1);
        let mut watch = Watch::new(&endpoint, solve::IMAGE, sink, CancellationToken::new());
        watch.stall = STALL;
        let mut messages = Box::pin(messages);
        let reading = async {
            let mut said = String::new();
            while let Some(frame) = frames.recv().await {
                tokio::time::sleep(pause).await;
                match frame.frame {
                    Some(Frame::Output(output)) => said.push_str(&String::from_utf8_lossy(&output.data)),
                    Some(Frame::Clipped(clipped)) => said.push_str(&clipped.message),
                    other => panic!("{other:?}"),
                }
            }
            said
        };
        let telling = async move {
            let end = watch.rest(&mut messages).await;
            if let Err(reason) = &end {
                watch.incomplete(reason.clone()).await;
            }
            end
        };
        tokio::join!(telling, reading)
    }

    #[tokio::test]
    async fn progress_that_goes_on_is_read_to_its_end() {
        let messages = stream::iter(["a", "b", "c", "d", "e"]).then(|text| async move {
            tokio::time::sleep(STEP).await;
            message(text)
        });
        assert_eq!(rest(messages, Duration::ZERO).await, (Ok(()), "abcde".to_owned()));
    }

    #[tokio::test]
    async fn a_slow_reader_of_the_log_is_no_stall() {
        let messages = stream::iter(["a", "b", "c"].map(message));
        assert_eq!(rest(messages, 2 * STALL).await, (Ok(()), "abc".to_owned()));
    }

    #[tokio::test]
    async fn a_log_that_is_not_whole_says_so() {
        let silent = stream::iter([message("a")]).chain(stream::pending());
        let (end, said) = rest(silent, Duration::ZERO).await;
        assert!(
            end.is_err() && said.starts_with("athe rest of this log is missing: BuildKit sent no"),
            "{said}"
        );
        let broken = stream::iter([message("a"), Err(Status::unavailable("gone"))]);
        let (end, said) = rest(broken, Duration::ZERO).await;
        assert!(end.is_err(), "{said}");
        assert_eq!(said, "athe rest of this log is missing: BuildKit's progress broke off: gone");
    }
}
