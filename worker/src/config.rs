//! What a worker is told when it starts. Checked before anything is dialed or written.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use archyard_model::{Invalid, Pool, WorkerName, limits};
use archyard_net::Endpoint;

use crate::machine;
use crate::scheduler::Scheduler;

const GIB: u64 = 1024 * 1024 * 1024;

/// Of a cache of contexts, unless told otherwise.
pub const DEFAULT_CACHE_BYTES: u64 = 20 * GIB;
/// Of compressed layers, unless told otherwise.
pub const DEFAULT_LAYER_CACHE_BYTES: u64 = 10 * GIB;
/// Below this no lease is taken, unless told otherwise.
pub const DEFAULT_MIN_FREE_BYTES: u64 = GIB;

/// A worker's settings. How often it says that it is alive is the scheduler's to tell.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Whom to dial. Only the worker dials: it may stand behind NAT.
    pub scheduler: Scheduler,
    /// The Engine's socket: `unix:///var/run/docker.sock`.
    pub engine: String,
    /// Attempts, caches and logs. One agent at a time uses it; made when it is not there.
    pub data_dir: PathBuf,
    /// Unique in the farm.
    pub name: WorkerName,
    /// Its trust level.
    pub pool: Pool,
    /// Attempts at a time; [`default_slots`] unless set.
    pub slots: Option<u32>,
    /// For people and for placement.
    pub labels: BTreeMap<String, String>,
    /// Program and leading arguments of a runner; the attempt's folder follows as the last one.
    pub runner_command: Vec<OsString>,
    /// Whether a runner is started ahead of its attempt. What follows `runner_command` is `--warm` then, and the
    /// folder that attempts are in.
    pub warm_runner: bool,
    /// What becomes of running attempts when this agent is asked to stop.
    pub on_exit: OnExit,
    /// Bytes of contexts to keep.
    pub cache_bytes: u64,
    /// Bytes of compressed layers to keep.
    pub layer_cache_bytes: u64,
    /// With less room on the data folder's disk no lease is taken.
    pub min_free_bytes: u64,
}

/// What becomes of running attempts when their agent is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExit {
    /// They go on, and the next agent on this data folder adopts them.
    #[default]
    Leave,
    /// They are canceled and waited for; should the agent be killed they cancel themselves.
    Stop,
}

impl WorkerConfig {
    /// A worker with every default.
    pub fn new(scheduler: Scheduler, engine: String, data_dir: PathBuf, name: WorkerName) -> Self {
        Self {
            scheduler,
            engine,
            data_dir,
            name,
            pool: Pool::Trusted,
            slots: None,
            labels: BTreeMap::new(),
            runner_command: Vec::new(),
            warm_runner: true,
            on_exit: OnExit::default(),
            cache_bytes: DEFAULT_CACHE_BYTES,
            layer_cache_bytes: DEFAULT_LAYER_CACHE_BYTES,
            min_free_bytes: DEFAULT_MIN_FREE_BYTES,
        }
    }

    /// Attempts at a time.
    pub fn slots(&self) -> u32 {
        self.slots.unwrap_or_else(|| default_slots(machine::cores(), machine::memory_bytes()))
    }

    /// Refuses what no worker could work with.
    ///
    /// # Errors
    /// Names the first setting that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        let slots = self.slots();
        if slots == 0 || slots > limits::WORKER_SLOTS {
            let problem = format!("a worker has 1 to {} slots; set it with --slots", limits::WORKER_SLOTS);
            return Err(Invalid::new("slots", slots, problem));
        }
        if self.labels.len() > limits::WORKER_LABELS {
            let problem = format!("a worker has at most {} labels", limits::WORKER_LABELS);
            return Err(Invalid::new("labels", self.labels.len(), problem));
        }
        if self.runner_command.is_empty() {
            return Err(Invalid::new("runner_command", "", "it names the program that runs one attempt"));
        }
        // Runners are told these paths and have a working folder of their own.
        if !self.data_dir.is_absolute() {
            return Err(Invalid::new("data_dir", self.data_dir.display(), "an absolute path is needed"));
        }
        if let Some(tls) = self.scheduler.tls.as_ref().filter(|tls| !tls.is_absolute()) {
            return Err(Invalid::new("scheduler.tls", tls.display(), "an absolute path is needed"));
        }
        if let Endpoint::Unix(socket) = &self.scheduler.endpoint
            && !socket.is_absolute()
        {
            return Err(Invalid::new("scheduler.endpoint", socket.display(), "an absolute path is needed"));
        }
        Ok(())
    }
}

/// A build keeps about two cores busy and may need 4 GiB.
pub fn default_slots(cores: u64, memory_bytes: u64) -> u32 {
    // Machines report a little less than their nominal memory.
    let by_memory = (memory_bytes + GIB / 2) / (4 * GIB);
    u32::try_from((cores / 2).min(by_memory).clamp(1, 64)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> WorkerConfig {
        let scheduler = Scheduler { endpoint: "unix:/s".parse().unwrap(), tls: None };
        let mut config = WorkerConfig::new(
            scheduler,
            "unix:///var/run/docker.sock".to_owned(),
            "/var/lib/archyard".into(),
            "w".parse().unwrap(),
        );
        config.runner_command = vec!["archyard".into(), "runner".into()];
        config
    }

    #[test]
    fn slots_follow_cores_and_memory() {
        for (cores, gib, slots) in
            [(1, 1, 1), (2, 24, 1), (8, 32, 4), (16, 8, 2), (4, 16, 2), (512, 4096, 64), (8, 0, 1)]
        {
            assert_eq!(default_slots(cores, gib * GIB), slots, "{cores} cores, {gib} GiB");
        }
        assert_eq!(default_slots(8, 16 * GIB - 300 * 1024 * 1024), 4);
    }

    #[test]
    fn wrong_settings_are_named() {
        assert_eq!(config().check(), Ok(()));
        type Change = fn(&mut WorkerConfig);
        let changes: [(&str, Change); 6] = [
            ("slots", |c| c.slots = Some(0)),
            ("slots", |c| c.slots = Some(limits::WORKER_SLOTS + 1)),
            ("runner_command", |c| c.runner_command.clear()),
            ("data_dir", |c| c.data_dir = "relative".into()),
            ("scheduler.tls", |c| c.scheduler.tls = Some("relative".into())),
            ("scheduler.endpoint", |c| c.scheduler.endpoint = "unix:relative.sock".parse().unwrap()),
        ];
        for (field, change) in changes {
            let mut config = config();
            change(&mut config);
            assert_eq!(config.check().unwrap_err().field, field);
        }
    }
}
