//! One worker in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use archyard_model::convert::{self, JobSpec};
use archyard_model::{
    AttemptId, Blake3, BuildId, ContextRef, FencingToken, JobId, Output, Pool, ProjectName,
};
use archyard_proto::v1 as proto;
use archyard_worker::attempt::AttemptDir;
use archyard_worker::{Worker, WorkerConfig, WorkerError};
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::scheduler::{Control, Scheduler, adopt_all};
use crate::script::Script;

/// What `cargo xtask test` brought up, as far as these tests need it.
#[derive(Deserialize)]
pub(crate) struct Coordinates {
    pub(crate) engines: Vec<EngineAt>,
    pub(crate) registry: String,
    pub(crate) base: Base,
    pub(crate) archyard: PathBuf,
}

#[derive(Deserialize)]
pub(crate) struct EngineAt {
    pub(crate) address: String,
}

#[derive(Deserialize)]
pub(crate) struct Base {
    pub(crate) reference: String,
}

pub(crate) fn coordinates() -> Coordinates {
    let path = std::env::var_os("ARCHYARD_TEST_ENV")
        .expect("ARCHYARD_TEST_ENV is not set: these tests need a Docker Engine; run `cargo xtask test`");
    let text = fs::read_to_string(&path).expect("the file that ARCHYARD_TEST_ENV names can be read");
    serde_json::from_str(&text).expect("the file that ARCHYARD_TEST_ENV names holds coordinates")
}

/// A worker, its scheduler, and what its runners do.
pub(crate) struct Farm {
    pub(crate) scheduler: Scheduler,
    pub(crate) script: Script,
    pub(crate) config: WorkerConfig,
    agent: JoinSet<Result<(), WorkerError>>,
    shutdown: CancellationToken,
    folder: tempfile::TempDir,
}

impl Farm {
    /// A worker whose runners are scripts.
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// The same with a lease of an attempt whose log will have so many bytes.
    pub(crate) async fn leased(log_bytes: u64) -> (Self, Control, AttemptId) {
        let mut farm = Self::start();
        let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
        let id = attempt();
        farm.script.expect(id, log_bytes);
        control.lease(lease(id, &spec(Output::Check))).await;
        (farm, control, id)
    }

    /// A worker with other settings.
    pub(crate) fn with(change: impl FnOnce(&mut WorkerConfig)) -> Self {
        // Visible with --no-capture, and where a test fails.
        drop(
            tracing_subscriber::fmt().with_test_writer().with_env_filter("archyard_worker=debug").try_init(),
        );
        let folder = tempfile::tempdir().unwrap();
        let scheduler = Scheduler::start(folder.path());
        let script = Script::new(folder.path());
        let at = archyard_worker::Scheduler { endpoint: scheduler.endpoint(), tls: None };
        let engine = coordinates().engines[0].address.clone();
        let mut config =
            WorkerConfig::new(at, engine, folder.path().join("data"), "worker-1".parse().unwrap());
        config.slots = Some(2);
        config.runner_command = script.command();
        // Scripts are started for their attempt.
        config.warm_runner = false;
        change(&mut config);
        let mut farm = Self {
            scheduler,
            script,
            config,
            agent: JoinSet::new(),
            shutdown: CancellationToken::new(),
            folder,
        };
        farm.start_agent();
        farm
    }

    /// Has attempts run by the program's own runner.
    pub(crate) fn real_runner(config: &mut WorkerConfig) {
        config.runner_command = vec![coordinates().archyard.into(), "runner".into()];
        config.warm_runner = true;
    }

    pub(crate) fn start_agent(&mut self) {
        self.shutdown = CancellationToken::new();
        self.agent.spawn(Worker::run(self.config.clone(), self.shutdown.clone()));
    }

    /// The agent is gone from one moment to the next, as by SIGKILL.
    pub(crate) async fn kill_agent(&mut self) {
        self.agent.shutdown().await;
    }

    /// Asks the agent to end, as SIGTERM does.
    pub(crate) fn ask_to_stop(&self) {
        self.shutdown.cancel();
    }

    /// Waits for the agent's own end.
    pub(crate) async fn agent_ended(&mut self) -> Result<(), WorkerError> {
        crate::scheduler::within(self.agent.join_next()).await.unwrap().unwrap()
    }

    pub(crate) fn attempt_dir(&self, id: AttemptId) -> AttemptDir {
        AttemptDir::at(self.config.data_dir.join("attempts").join(id.file_name()))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        // Runners outlive their agents: that is what they are for.
        let Ok(attempts) = fs::read_dir(self.config.data_dir.join("attempts")) else { return };
        for attempt in attempts.flatten() {
            let dir = AttemptDir::at(attempt.path());
            if let (Ok(None), Some(pid)) = (dir.try_lock(), dir.pid()) {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
        }
    }
}

/// An attempt that no other test has.
pub(crate) fn attempt() -> AttemptId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let random = u128::from(std::process::id()) << 32 | u128::from(NEXT.fetch_add(1, Ordering::Relaxed));
    let build = BuildId::from_parts(now.as_millis().try_into().unwrap(), random);
    AttemptId { job: JobId { build, index: 0 }, token: FencingToken(1) }
}

/// A job of an empty context.
pub(crate) fn spec(output: Output) -> JobSpec {
    let context = ContextRef {
        digest: Blake3::of(b""),
        manifest_digest: Blake3::of(b""),
        files: 0,
        total_bytes: 0,
        partial: false,
    };
    JobSpec {
        platform: "linux/amd64".parse().unwrap(),
        project: ProjectName::default(),
        pool: Pool::Trusted,
        output,
        repositories: Vec::new(),
        context,
        dockerfile: Blake3::of(b""),
        dockerfile_name: "Dockerfile".to_owned(),
        target: None,
        build_args: Default::default(),
        labels: Default::default(),
        no_cache: false,
        pull: false,
        bases: Vec::new(),
        lock: Default::default(),
        insecure_registries: Vec::new(),
        checks: archyard_model::Checks::default(),
        annotations: std::collections::BTreeMap::new(),
        cross: false,
    }
}

pub(crate) fn lease(id: AttemptId, spec: &JobSpec) -> proto::Lease {
    proto::Lease {
        attempt: Some(convert::attempt_to_proto(id)),
        spec: Some(convert::spec_to_proto(spec)),
        credentials: Vec::new(),
    }
}

/// Asks every 5 ms until it is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}: it takes too long");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
