//! A container of an image that was just built, to see whether it works: started, listened to, and gone.
//!
//! What runs in there is nobody's that we trust. It gets [bounded](config) memory, processes, time and disk, none
//! of the machine's folders or devices, and no network unless that was asked for; its output is told while it
//! comes and kept nowhere. Its [volumes] are in memory. However it ends, no container and no volume of it stays; what a
//! killed runner leaves is [found](leftovers) by its agent.
//!
//! This never judges an image: it says [how the program ended](End), and whoever asked knows what that means.

mod config;
mod holder;
mod leftovers;
mod output;
mod pause;
mod refusal;
mod volumes;
mod watch;

use std::fmt;
use std::pin::pin;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use archyard_model::{AttemptId, Failure, FailureClass, Sha256};
use archyard_proto::v1::LogFrame;
use archyard_proto::v1::log_frame::{Frame, Vertex};
use bollard::Docker;
use bollard::container::AttachContainerResults;
use bollard::errors::Error;
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptionsBuilder,
    KillContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{DockerEngine, EngineError};
pub use config::Home;
use holder::Holder;
use output::Output;
use refusal::Refusal;
use volumes::Volumes;

/// How long the Engine may take to make a container. Some copy the whole image for it.
const CREATION: Duration = Duration::from_secs(120);
/// How long it may take to remove one; whoever canceled waits for that.
const REMOVAL: Duration = Duration::from_secs(15);
/// How long what an Engine was asked for may go on after a cancel.
const SETTLING: Duration = Duration::from_secs(5);
/// An Engine may refuse at first.
const REMOVAL_TRIES: u32 = 20;
const REMOVAL_RETRY: Duration = Duration::from_millis(250);
/// What a program wrote before it ended is on its way to us; the Engine ends the stream after it. It may say nothing for
/// so long.
const LAST_OUTPUT: Duration = Duration::from_secs(10);
/// An Engine hears of a kill for want of memory from elsewhere than of the exit that it causes.
const LATE_NEWS: Duration = Duration::from_millis(300);
/// 128 and SIGKILL: how it ends when the kernel takes its memory back.
const KILLED: i64 = 137;

/// A program of an image, and what it may use.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The image's ID, as [`super::Built::image`].
    pub image: Sha256,
    /// What replaces the image's command, as with `docker run IMAGE WORDS`. Empty: its own.
    pub words: Vec<String>,
    /// Whose it is, and which of the attempt's it is: names its container, so no two may be alike.
    pub attempt: AttemptId,
    /// See `attempt`.
    pub number: usize,
    /// Where the worker that runs the attempt is at home.
    pub home: Home,
    /// What the step of the log is called, in one line.
    pub step: String,
    /// Whether it has the Engine's default network; else none but its own loopback.
    pub network: bool,
    /// Whether it may write into its root.
    pub writable: bool,
    /// How long it may run.
    pub timeout: Duration,
    /// Memory it may use, without swap.
    pub memory_bytes: u64,
}

/// A program that was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub end: End,
    /// The end of what it wrote, whichever stream it wrote it to.
    pub tail: String,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// By itself, or by a signal: then with 128 more than its number.
    Exited(i64),
    /// Killed: it, or a process of it, needed more memory than there was.
    OutOfMemory,
    /// Killed: it did not end in time.
    TimedOut,
    /// Killed: it wrote more than [`SMOKE_DISK_BYTES`](archyard_model::limits::SMOKE_DISK_BYTES), or more files than can be counted in time.
    DiskFull,
    /// It never ran: what the image holds below a `VOLUME` does not fit into this many bytes, or so many files.
    VolumeFull(u64),
    /// It never ran: the image has no such program, user or folder. The Engine's own words.
    NotStarted(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code: {code}"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::TimedOut => f.write_str("it did not end in time"),
            Self::DiskFull => f.write_str("it wrote too much"),
            Self::VolumeFull(_) => f.write_str("its VOLUMEs are too small for what the image holds there"),
            Self::NotStarted(reason) => f.write_str(reason),
        }
    }
}

/// A program whose end is not known.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RunError {
    /// The Engine or its machine is at fault.
    #[error("{}", .0.message)]
    Infrastructure(Failure),
    /// Stopped because the caller asked.
    #[error("the smoke test was canceled")]
    Canceled,
}

impl RunError {
    /// The same in the model's words.
    pub fn into_failure(self) -> Failure {
        let message = self.to_string();
        match self {
            Self::Infrastructure(failure) => failure,
            Self::Canceled => Failure::new(FailureClass::Canceled, "canceled", message),
        }
    }

    fn of(code: &str, error: &impl fmt::Display) -> Self {
        Self::Infrastructure(Failure::new(FailureClass::Infrastructure, code, error.to_string()))
    }
}

/// Runs a program; see [`super::Engine::run`].
pub(super) async fn run(
    engine: &DockerEngine,
    request: RunRequest,
    progress: mpsc::Sender<LogFrame>,
    cancel: CancellationToken,
) -> Result<Ran, RunError> {
    let api = engine.api().map_err(|error| RunError::of("engine_unreachable", &error))?;
    let name = config::name(request.attempt, request.number);
    let container = Container { engine, api, name, request, volumes: OnceLock::new() };
    let mut output = Output::new(container.name.clone(), progress.clone());
    let step = Step { sender: progress, request: &container.request, started: SystemTime::now() };
    step.tell(&container.name, None, String::new()).await;
    let ran = container.run_until(&mut output, &cancel).await;
    container.remove().await;
    let error = match &ran {
        Ok(End::Exited(0)) => String::new(),
        Ok(end) => end.to_string(),
        Err(error) => error.to_string(),
    };
    step.tell(&container.name, Some(SystemTime::now()), error).await;
    ran.map(|end| Ran { end, tail: output.tail() })
}

/// The step of the log that a program is.
struct Step<'a> {
    sender: mpsc::Sender<LogFrame>,
    request: &'a RunRequest,
    started: SystemTime,
}

impl Step<'_> {
    async fn tell(&self, digest: &str, completed: Option<SystemTime>, error: String) {
        let vertex = Vertex {
            digest: digest.to_owned(),
            name: self.request.step.clone(),
            cached: false,
            started_at: Some(self.started.into()),
            completed_at: completed.map(Into::into),
            error,
        };
        let frame = LogFrame { at: Some(SystemTime::now().into()), frame: Some(Frame::Vertex(vertex)) };
        // Nobody listens any more: the program goes on without.
        self.sender.send(frame).await.ok();
    }
}

/// A container by its name, there or not.
struct Container<'a> {
    engine: &'a DockerEngine,
    api: Docker,
    name: String,
    request: RunRequest,
    /// Once the Engine was asked for any.
    volumes: OnceLock<Volumes>,
}

impl Container<'_> {
    async fn run_until(&self, output: &mut Output, cancel: &CancellationToken) -> Result<End, RunError> {
        if cancel.is_cancelled() {
            return Err(RunError::Canceled);
        }
        let mut starting = pin!(self.start());
        let started = tokio::select! {
            biased;
            () = cancel.cancelled() => {
                // An Engine goes on with what it was asked for, and what is half made cannot be removed.
                timeout(SETTLING, starting).await.ok();
                return Err(RunError::Canceled);
            }
            started = &mut starting => started,
        };
        let attached = match started {
            Ok(attached) => attached,
            Err(refusal) => return refusal.into_end(self.engine),
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(RunError::Canceled),
            end = self.listen(attached, output) => end,
        }
    }

    async fn start(&self) -> Result<AttachContainerResults, Refusal> {
        let volumes = self.declared().await?;
        if volumes.is_empty() {
            return self.start_with(&volumes).await;
        }
        let volumes = self.volumes.get_or_init(|| volumes);
        let holder = Holder::start(&self.api, &self.name, &self.request, volumes).await?;
        let attached = self.start_with(volumes).await?;
        holder.end().await?;
        Ok(attached)
    }

    async fn start_with(&self, volumes: &Volumes) -> Result<AttachContainerResults, Refusal> {
        self.create(volumes).await?;
        let options = AttachContainerOptionsBuilder::new().stream(true).stdout(true).stderr(true).build();
        // Before it starts, or its first words were lost.
        let attached = self.api.attach_container(&self.name, Some(options)).await.map_err(Refusal::of)?;
        let started = self.api.start_container(&self.name, None::<StartContainerOptions>).await;
        started.map(|()| attached).map_err(Refusal::of)
    }

    /// Until it has ended, by itself or not.
    async fn listen(&self, attached: AttachContainerResults, output: &mut Output) -> Result<End, RunError> {
        let mut stopped = pin!(self.until_stopped());
        let ended = CancellationToken::new();
        let mut told = pin!(output.take(attached.output, &ended, LAST_OUTPUT));
        let mut telling = true;
        let end = loop {
            tokio::select! {
                end = &mut stopped => break end?,
                () = &mut told, if telling => telling = false,
            }
        };
        if !matches!(end, End::Exited(_)) {
            self.kill().await;
        }
        ended.cancel();
        if telling {
            told.await;
        }
        self.look_closer(end).await
    }

    /// The image's volumes.
    async fn declared(&self) -> Result<Volumes, Refusal> {
        let image = self.api.inspect_image(&self.request.image.to_string()).await.map_err(Refusal::of)?;
        let declared = image.config.and_then(|config| config.volumes).unwrap_or_default();
        Volumes::of(&self.request, &declared).map_err(Refusal::Image)
    }

    async fn create(&self, volumes: &Volumes) -> Result<(), Refusal> {
        let body = config::body(&self.request, volumes);
        let options = CreateContainerOptionsBuilder::new().name(&self.name).build();
        match timeout(CREATION, self.api.create_container(Some(options), body)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(Error::DockerResponseServerError { message, .. })) if volumes.are_too_small(&message) => {
                Err(Refusal::VolumeFull(volumes.each_bytes()))
            }
            Ok(Err(error)) => Err(Refusal::of(error)),
            Err(_) => Err(Refusal::Slow(CREATION)),
        }
    }

    /// Until it has ended, or has to be.
    async fn until_stopped(&self) -> Result<End, RunError> {
        tokio::select! {
            code = self.exit_code() => Ok(End::Exited(code?)),
            () = sleep(self.request.timeout) => Ok(End::TimedOut),
            () = watch::filled(&self.api, &self.name), if self.request.writable => Ok(End::DiskFull),
        }
    }

    async fn exit_code(&self) -> Result<i64, RunError> {
        let mut waiting = pin!(self.api.wait_container(&self.name, None::<WaitContainerOptions>));
        match waiting.next().await {
            Some(Ok(ended)) => Ok(ended.status_code),
            Some(Err(Error::DockerContainerWaitError { code, error })) if error.is_empty() => Ok(code),
            Some(Err(error)) => Err(self.lost(&error)),
            None => Err(RunError::of("engine_lost", &self.engine_lost("it hung up"))),
        }
    }

    /// What an exit code does not say.
    async fn look_closer(&self, end: End) -> Result<End, RunError> {
        let End::Exited(code) = end else { return Ok(end) };
        if code == 0 && !self.request.writable {
            return Ok(end);
        }
        let look = || async {
            let options = InspectContainerOptionsBuilder::new().size(self.request.writable).build();
            self.api.inspect_container(&self.name, Some(options)).await.map_err(|error| self.lost(&error))
        };
        let mut seen = look().await?;
        if seen.size_rw.is_some_and(watch::is_too_much) {
            return Ok(End::DiskFull);
        }
        let for_memory = |state: Option<bollard::models::ContainerState>| {
            state.and_then(|state| state.oom_killed).unwrap_or_default()
        };
        if code == KILLED && !for_memory(seen.state.clone()) {
            sleep(LATE_NEWS).await;
            seen = look().await?;
        }
        // A process of it may have been killed without harm.
        Ok(if code != 0 && for_memory(seen.state) { End::OutOfMemory } else { end })
    }

    async fn kill(&self) {
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        if let Err(error) = self.api.kill_container(&self.name, Some(options)).await {
            tracing::debug!(container = self.name, %error, "cannot be killed");
        }
    }

    /// With its processes and whatever it wrote.
    async fn remove(&self) {
        let all_of_it = async {
            remove(&self.api, &self.name).await?;
            let Some(volumes) = self.volumes.get() else { return Ok(()) };
            remove(&self.api, &holder::name(&self.name)).await?;
            volumes.remove(&self.api).await
        };
        match timeout(REMOVAL, all_of_it).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(container = self.name, %error, "a container stays until the agent removes it");
            }
            Err(_) => {
                tracing::warn!(container = self.name, "the Engine takes long to remove a container");
            }
        }
    }

    fn lost(&self, error: &Error) -> RunError {
        RunError::of("engine_lost", &self.engine.error("run a smoke test", error))
    }

    fn engine_lost(&self, reason: &str) -> EngineError {
        EngineError::Unreachable { endpoint: self.engine.endpoint(), reason: reason.to_owned() }
    }
}

/// Ends and removes a container; one that is not there is fine.
async fn remove(api: &Docker, name: &str) -> Result<(), Error> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    persist(|| api.remove_container(name, Some(options.clone()))).await
}

/// Has the Engine remove something, until it is gone.
async fn persist<F: Future<Output = Result<(), Error>>>(removal: impl Fn() -> F) -> Result<(), Error> {
    let mut tries = REMOVAL_TRIES;
    loop {
        match removal().await {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(()),
            // It is being removed, or was started in this very moment, or what has it is.
            Err(Error::DockerResponseServerError { .. }) if tries > 0 => tries -= 1,
            Err(error) => return Err(error),
        }
        sleep(REMOVAL_RETRY).await;
    }
}
