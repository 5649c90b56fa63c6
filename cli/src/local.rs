//! A farm for one build, in this process: what `archyard build` runs when there is none.
//!
//! The same scheduler and the same worker over the same protocol; only the socket is nobody else's. What is kept between
//! builds (contexts, caches) lies in the state folder; two builds at once have a folder each.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use archyard_net::Endpoint;
use archyard_proto::v1 as proto;
use archyard_scheduler::Listen;
use archyard_worker::{OnExit, Scheduler};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::exit::Refusal;
use crate::farm::Farm;
use crate::paths;
use crate::roles::{scheduler, worker};

/// Builds at once that may each have a farm of their own.
const FOLDERS: usize = 64;
/// The longest path of a socket, less its own name.
const SOCKET_FOLDER: usize = 80;
/// How long the worker may take to join; a build that waits for it says why.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to end; runners cancel themselves when this process is gone.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// A farm that lives as long as this value.
#[derive(Debug)]
pub(crate) struct LocalFarm {
    /// The connection to it.
    pub(crate) farm: Farm,
    scheduler: Role,
    worker: Role,
    _socket: TempDir,
    _folder: File,
}

/// A part of it, and how to end it.
#[derive(Debug)]
struct Role {
    stop: CancellationToken,
    task: JoinSet<Result<()>>,
}

impl LocalFarm {
    /// Starts both roles, and connects.
    pub(crate) async fn start(engine: Option<&str>) -> Result<Self> {
        let engine = engine.map_or_else(paths::default_engine, |engine| Ok(engine.to_owned()))?;
        probe(&engine)?;
        let state = paths::state_dir()?.join("local");
        let (folder, lock) = own_folder(&state)?;
        let socket = socket_folder(&state)?;
        let path = socket.path().join("s.sock");
        let listen = vec![Listen::Unix(path.clone())];
        let options = scheduler::Options { listen, alone: true, ..Default::default() };
        let stop = CancellationToken::new();
        let running = scheduler::start(options, folder.join("scheduler"), stop.clone()).await?;
        let scheduler = Role::start(stop, running.wait());
        let endpoint = Endpoint::Unix(path);
        let farm = Farm::connect(endpoint.clone(), None).await?;
        // What an earlier client left behind when it was killed is nobody's wish any more.
        cancel_all(&farm).await?;
        let (options, dial) = (worker::Options::local(&engine), Scheduler { endpoint, tls: None });
        let stop = CancellationToken::new();
        let work = worker::run(options, dial, folder.join("worker"), OnExit::Stop, stop.clone());
        let worker = Role::start(stop, work);
        let mut local = Self { farm, scheduler, worker, _socket: socket, _folder: lock };
        let farm = local.farm.clone();
        tokio::select! {
            joined = joined(&farm) => joined?,
            error = local.broken() => return Err(error),
        }
        Ok(local)
    }

    /// Completes when a role has ended though nobody asked it to, and says why.
    pub(crate) async fn broken(&mut self) -> anyhow::Error {
        let ended = tokio::select! {
            ended = self.scheduler.task.join_next() => ended,
            ended = self.worker.task.join_next() => ended,
        };
        match ended {
            Some(Ok(Err(error))) => error.context("this build's own farm"),
            Some(Err(error)) => anyhow::Error::from(error).context("this build's own farm"),
            Some(Ok(Ok(()))) | None => anyhow::anyhow!("this build's own farm ended before the build did"),
        }
    }

    /// Ends the worker and whatever it still runs; then the scheduler, which hears of that.
    pub(crate) async fn stop(self) {
        self.worker.end().await;
        self.scheduler.end().await;
    }
}

impl Role {
    fn start(stop: CancellationToken, role: impl Future<Output = Result<()>> + Send + 'static) -> Self {
        let mut task = JoinSet::new();
        task.spawn(role);
        Self { stop, task }
    }

    async fn end(mut self) {
        self.stop.cancel();
        let ended = async { while self.task.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_PATIENCE, ended).await.is_err() {
            tracing::warn!("this build's own farm did not end in time");
        }
    }
}

/// An Engine that is not there is told before anything is started for it.
fn probe(engine: &str) -> Result<()> {
    let Some(path) = engine.strip_prefix("unix://") else { return Ok(()) };
    UnixStream::connect(path).map(drop).map_err(|error| {
        Refusal::unavailable(format!(
            "no farm, and no Docker Engine at {engine} to run one on: {error}; start Docker, name another with --engine \
             or DOCKER_HOST, or name a farm with --farm"
        ))
    })
}

/// Returns when the worker is there: a build would wait for it, and say so.
async fn joined(farm: &Farm) -> Result<()> {
    let began = Instant::now();
    while farm.farm().list_workers(proto::ListWorkersRequest {}).await?.into_inner().workers.is_empty()
        && began.elapsed() < JOIN_PATIENCE
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn cancel_all(farm: &Farm) -> Result<()> {
    let active = [proto::BuildState::Waiting, proto::BuildState::Running, proto::BuildState::Publishing];
    let states = active.map(Into::into).to_vec();
    let request = proto::ListBuildsRequest { states, ..Default::default() };
    for build in farm.builds().list_builds(request).await?.into_inner().builds {
        let reason = "its client is gone".to_owned();
        let request = proto::CancelBuildRequest { build_id: build.build_id, reason };
        // One that publishes goes on, and that is right.
        farm.builds().cancel_build(request).await.ok();
    }
    Ok(())
}

/// The first folder that no other build has; it is ours for as long as the file stays open.
fn own_folder(state: &Path) -> Result<(PathBuf, File)> {
    for number in 1..=FOLDERS {
        let folder = state.join(number.to_string());
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join("lock");
        let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok((folder, file));
        }
    }
    anyhow::bail!("{FOLDERS} builds run without a farm already; run one for all of them: archyard up")
}

/// A folder for the socket; elsewhere if the path would be too long for one.
fn socket_folder(state: &Path) -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".s");
    let folder =
        if state.as_os_str().len() <= SOCKET_FOLDER { builder.tempdir_in(state) } else { builder.tempdir() };
    folder.with_context(|| format!("cannot make a folder for a socket in {}", state.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{self, Exit};

    #[test]
    fn two_builds_at_once_have_a_folder_each() {
        let state = tempfile::tempdir().unwrap();
        let (first, lock) = own_folder(state.path()).unwrap();
        let (second, _) = own_folder(state.path()).unwrap();
        assert_ne!(first, second);
        drop(lock);
        assert_eq!(own_folder(state.path()).unwrap().0, first);
    }

    #[test]
    fn an_engine_that_is_not_there_is_named_with_the_remedy() {
        let error = probe("unix:///nowhere/docker.sock").unwrap_err();
        assert_eq!(exit::of(&error), Exit::Unavailable);
        let error = error.to_string();
        assert!(error.contains("/nowhere/docker.sock") && error.contains("--engine"), "{error}");
    }

    #[test]
    fn sockets_have_short_paths() {
        let state = tempfile::tempdir().unwrap();
        assert!(socket_folder(state.path()).unwrap().path().starts_with(state.path()));
        let long = state.path().join("x".repeat(100));
        assert!(!socket_folder(&long).unwrap().path().starts_with(&long));
    }
}
