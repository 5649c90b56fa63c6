//! The one process that speaks for its machine: it takes leases, starts a runner for each, tells the scheduler how
//! they fare, and copies their logs to it.
//!
//! It builds nothing, and holds nothing that a runner needs: when it dies its runners go on, and the next agent
//! on the same data folder finds them by the locks they hold.

mod adopt;
mod attempt;
mod attempts;
mod control;
mod descriptor;
mod health;
mod hello;
mod housekeeping;
mod launch;
mod lease;
mod process;
mod spools;
mod supervise;
mod tail;
mod warm;
mod watcher;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use archyard_model::{Invalid, Platform, WorkerName};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::config::{OnExit, WorkerConfig};
use crate::engine::{DockerEngine, EngineError};
use crate::layout::Layout;
use crate::platform::{self, Measured, UnknownMachine};
use attempts::Attempts;
use health::Health;
use warm::Warm;
use watcher::Watcher;

/// How long canceled runners are waited for; the Engine has to stop their steps.
const STOP_PATIENCE: Duration = Duration::from_secs(25);
/// How long the scheduler may take to hear of results before this agent is gone.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(3);

/// A machine of the farm.
#[derive(Debug)]
pub struct Worker;

/// Why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A setting.
    #[error(transparent)]
    Config(#[from] Invalid),
    /// The Engine's address.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The data folder.
    #[error("data_dir {:?}: {error}; the worker needs a folder that it may write, set it with --data-dir", .path.display().to_string())]
    DataDir {
        /// Which folder.
        path: PathBuf,
        /// What the disk said.
        error: io::Error,
    },
    /// Two agents on one data folder.
    #[error("data_dir {:?}: another worker is running there; give each its own --data-dir", .path.display().to_string())]
    Taken {
        /// Which folder.
        path: PathBuf,
    },
    /// The scheduler refuses this worker, or a file that is needed to dial it is not usable.
    #[error(
        "worker {worker}: {reason}; running attempts go on, and the next worker on this data folder takes them over"
    )]
    Refused {
        /// Which worker.
        worker: WorkerName,
        /// Why, and the remedy.
        reason: String,
    },
    /// A defect.
    #[error("a task of the worker broke down: {0}; restart it, and report this")]
    Crashed(tokio::task::JoinError),
    /// A machine nobody builds images for.
    #[error(transparent)]
    Machine(#[from] UnknownMachine),
}

/// What every part of an agent works with.
#[derive(Debug)]
struct Shared {
    config: WorkerConfig,
    layout: Layout,
    measured: Measured,
    session_id: String,
    /// Of the data folder.
    instance_id: String,
    engine: DockerEngine,
    health: Health,
    attempts: Attempts,
    watcher: Watcher,
    warm: Warm,
    /// This machine wants no new lease.
    drain: CancellationToken,
    /// This agent ends.
    stop: CancellationToken,
}

impl Worker {
    /// Works until `shutdown` fires; then takes no further lease and ends as [`OnExit`] says. A scheduler or an
    /// Engine that is away is waited for, with one line that says why.
    ///
    /// # Errors
    /// When the worker cannot start, or what it was given for an Engine is none; no scheduler was dialed then. And when
    /// the scheduler refuses the worker in a way that no waiting changes.
    pub async fn run(mut config: WorkerConfig, shutdown: CancellationToken) -> Result<(), WorkerError> {
        config.check()?;
        // Measured once: a lease is not kept waiting for it.
        config.slots = Some(config.slots());
        let engine = DockerEngine::connect(&config.engine)?;
        engine.identify().await?;
        let layout = Layout::at(&config.data_dir);
        let disk = |error| WorkerError::DataDir { path: config.data_dir.clone(), error };
        layout.create().map_err(disk)?;
        let Some(_alone) = layout.lock_agent().map_err(disk)? else {
            return Err(WorkerError::Taken { path: config.data_dir });
        };
        let instance_id = layout.instance_id().map_err(disk)?;
        Cache::open(layout.cache()).map_err(disk)?;
        let measured = measure(&layout, &config.engine).await?;
        let on_exit = config.on_exit;
        let shared = Arc::new(Shared {
            session_id: crate::machine::random_id(),
            instance_id,
            health: Health::unknown(),
            attempts: Attempts::default(),
            watcher: Watcher::new(),
            warm: Warm::default(),
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
            config,
            layout,
            measured,
            engine,
        });
        let mut tasks = JoinSet::new();
        adopt::all(&shared, &mut tasks);
        tasks.spawn(health::run(shared.clone()));
        tasks.spawn(watcher::run(shared.clone()));
        tasks.spawn(housekeeping::run(shared.clone()));
        if shared.config.warm_runner {
            tasks.spawn(warm::run(shared.clone()));
        }
        let mut streams = JoinSet::new();
        streams.spawn(control::run(shared.clone()));
        let logs = spools::run(shared.clone());
        streams.spawn(async move {
            logs.await;
            Ok(())
        });

        // A stream ends by itself only when it is refused for good.
        let ended = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            Some(ended) = streams.join_next() => ended.unwrap_or_else(|error| Err(WorkerError::Crashed(error))),
        };
        tracing::info!(worker = %shared.config.name, ?on_exit, "stopping");
        shared.drain.cancel();
        shared.warm.dismiss();
        if on_exit == OnExit::Stop {
            stop_runners(&shared).await;
        }
        shared.stop.cancel();
        while streams.join_next().await.is_some() {}
        ended
    }
}

/// Cancels every attempt, and waits until the scheduler has heard the last of each.
async fn stop_runners(shared: &Shared) {
    for attempt in shared.attempts.all() {
        attempt.cancel();
    }
    let exited = shared.attempts.until(|all| all.iter().all(|attempt| attempt.has_exited()));
    if tokio::time::timeout(STOP_PATIENCE, exited).await.is_err() {
        tracing::warn!("some runners do not stop");
    }
    let told = shared.attempts.until(<[_]>::is_empty);
    if tokio::time::timeout(FAREWELL_PATIENCE, told).await.is_err() {
        tracing::warn!("the scheduler did not hear of every attempt's end");
    }
}

async fn measure(layout: &Layout, engine: &str) -> Result<Measured, WorkerError> {
    let mut measured = platform::measure(layout.root())?;
    for platform in platform::dockerd::emulated(engine).await {
        if !measured.native.contains(&platform) && !measured.emulated.contains(&platform) {
            measured.emulated.push(platform);
        }
    }
    for warning in &measured.warnings {
        tracing::warn!("{warning}");
    }
    let names =
        |platforms: &[Platform]| platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    tracing::info!(
        native = names(&measured.native),
        emulated = names(&measured.emulated),
        "measured this machine; what is emulated is never used"
    );
    Ok(measured)
}
