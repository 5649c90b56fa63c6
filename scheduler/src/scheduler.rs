//! Starting a scheduler, and stopping it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, Shared};
use crate::artifacts::Artifacts;
use crate::config::{Config, Listen};
use crate::credentials::Credentials;
use crate::driver;
use crate::error::Error;
use crate::lock::Ahead;
use crate::registry::Registries;
use crate::retention::{Retention, Stores};
use crate::server::Listener;
use crate::shell::{Effects, Hands};
use crate::spools::Spools;
use crate::tls::{Authority, Issued};
use crate::views::Views;
use crate::{artifacts, blobs, core, disk, journal};

/// Starts schedulers.
#[derive(Debug)]
pub struct Scheduler;

/// A scheduler that serves. Dropping it ends it without waiting; [`stop`](Running::stop) does it properly.
#[derive(Debug)]
pub struct Running {
    listening: Vec<Listen>,
    driver: driver::Running,
    servers: JoinSet<Result<(), tonic::transport::Error>>,
    tasks: TaskTracker,
    end: End,
    patience: Duration,
    /// Held for as long as the folder is used.
    _lock: File,
}

/// What ends it: idempotent, and done in any case.
#[derive(Debug)]
struct End {
    handle: driver::Handle,
    stopping: CancellationToken,
}

impl Drop for End {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.handle.stop();
    }
}

/// Runs a scheduler until `shutdown`, or until its journal fails.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let mut running = Scheduler::start(config).await?;
    let failed = tokio::select! {
        () = shutdown.cancelled() => None,
        failed = running.failed() => Some(failed),
    };
    let stopped = running.stop().await;
    match failed {
        // The journal's own error says more than that a server ended.
        Some(failed) => Err(stopped.err().unwrap_or(failed)),
        None => stopped,
    }
}

impl Scheduler {
    /// Starts one: checks everything, opens the stores, binds, recovers the state, serves.
    pub async fn start(config: Config) -> Result<Running, Error> {
        config.check()?;
        let data_dir = config.data_dir.as_path();
        disk::create_dir(data_dir, data_dir)?;
        let lock = lock_folder(data_dir)?;
        let issued = issue(&config)?;
        // Bound before the stores are opened: who connects meanwhile waits and is not refused.
        let mut listeners = Vec::new();
        for listen in &config.listen {
            let listener = Listener::bind(listen).await?;
            listeners.push((listener.address(listen), listener));
        }
        let blobs = Arc::new(blobs::Store::open(data_dir)?);
        let artifacts = Arc::new(Artifacts::open(data_dir, config.artifacts.clone())?);
        let spools = Arc::new(Spools::open(data_dir)?);
        let views = Arc::new(Views::open(data_dir)?);
        let credentials = Arc::new(Credentials::default());
        let registries = Arc::new(Registries::new(config.insecure_registries.clone()));
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let ahead = Arc::new(Ahead::new(tasks.clone(), stopping.clone()));
        let hands = Hands {
            tasks: tasks.clone(),
            runtime: tokio::runtime::Handle::current(),
            stopping: stopping.clone(),
            credentials: Arc::clone(&credentials),
            registries: Arc::clone(&registries),
            ahead: Arc::clone(&ahead),
            views: Arc::clone(&views),
            lock_patience: config.times.lock,
        };
        let (handle, driver) = recover(data_dir, config.times.core(), hands).await?;
        let sweep =
            artifacts::sweep(Arc::clone(&artifacts), handle.clone(), Arc::clone(&views), stopping.clone());
        tasks.spawn(sweep);
        let stores = Stores {
            blobs: Arc::clone(&blobs),
            artifacts: Arc::clone(&artifacts),
            spools: Arc::clone(&spools),
            views: Arc::clone(&views),
        };
        let retention =
            Retention::open(data_dir, config.retention, stores, handle.clone(), stopping.clone())?;
        let retention = Arc::new(retention);
        tasks.spawn(Arc::clone(&retention).keep());
        let shared = Shared {
            driver: handle.clone(),
            blobs,
            artifacts,
            spools,
            views,
            retention,
            credentials,
            registries,
            ahead,
            lock_patience: config.times.lock,
            tasks: tasks.clone(),
            stopping: stopping.clone(),
            heartbeat: config.times.heartbeat,
            lease: config.times.lease,
        };
        let routes = api::routes(&shared).await?;
        let mut servers = JoinSet::new();
        let mut listening = Vec::new();
        for (address, listener) in listeners {
            let tls = issued.is_some() && matches!(address, Listen::Tcp(_));
            tracing::info!(listen = %address, tls, "scheduler listens");
            listening.push(address);
            servers.spawn(listener.serve(routes.clone(), issued.clone(), stopping.clone()));
        }
        let patience = config.times.shutdown;
        let end = End { handle, stopping };
        Ok(Running { listening, driver, servers, tasks, end, patience, _lock: lock })
    }
}

impl Running {
    /// Where it listens, with the ports that were free.
    pub fn listening(&self) -> &[Listen] {
        &self.listening
    }

    /// Waits for what ends a scheduler by itself.
    pub async fn failed(&mut self) -> Error {
        // The driver's thread closes its inbox when it ends; asking is cheap and every caller learns of it too.
        let mut look = tokio::time::interval(Duration::from_millis(250));
        loop {
            tokio::select! {
                served = self.servers.join_next() => {
                    return match served {
                        Some(Ok(Err(error))) => error.into(),
                        _ => Error::Crashed,
                    };
                }
                _ = look.tick() => {
                    if self.end.handle.is_stopped() {
                        return Error::Crashed;
                    }
                }
            }
        }
    }

    /// Takes nothing new, ends streams with UNAVAILABLE, lets calls end, and then commits what was taken.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.end.stopping.cancel();
        self.tasks.close();
        let calls = async {
            while self.servers.join_next().await.is_some() {}
            self.tasks.wait().await;
        };
        if tokio::time::timeout(self.patience, calls).await.is_err() {
            tracing::warn!("calls were still open at the end of the scheduler's patience");
            self.servers.shutdown().await;
        }
        drop(self.end);
        self.driver.ended().await?;
        tracing::info!("scheduler stopped");
        Ok(())
    }
}

fn lock_folder(data_dir: &Path) -> Result<File, Error> {
    let path = data_dir.join("lock");
    let file = File::create(&path).map_err(|source| disk::Error::at(data_dir, &path, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::DataInUse(data_dir.to_owned())),
        Err(error) => Err(disk::Error::at(data_dir, &path, error.into()).into()),
    }
}

/// A server certificate of its own for every start: it is never stored.
fn issue(config: &Config) -> Result<Option<Issued>, Error> {
    let Some(tls) = &config.tls else { return Ok(None) };
    Ok(Some(Authority::open(&config.data_dir)?.issue_server(&tls.names)?))
}

/// Replays the journal. Blocks while it does, so not on a thread that serves.
async fn recover(
    data_dir: &Path,
    times: core::Times,
    hands: Hands,
) -> Result<(driver::Handle, driver::Running), Error> {
    let folder = data_dir.join("journal");
    let started = tokio::task::spawn_blocking(move || {
        let journal = Box::new(journal::sled::Sled::open(&folder)?);
        let options = driver::Options { times, ..driver::Options::default() };
        driver::start(journal, &options, |handle| Effects::new(hands, handle))
    });
    Ok(started.await.map_err(|_| Error::Crashed)??)
}
