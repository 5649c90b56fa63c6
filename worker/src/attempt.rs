//! The folder of one attempt: all that passes between an agent and a runner once the runner was started.
//!
//! Each file has one writer. `lease.pb` is the agent's, before the runner starts; `lock`, `pid`, `spool` and
//! `result.pb` are the runner's; `acked` is the agent's. The runner holds `lock` for life, so that whether it
//! lives is a question to the kernel, whoever asks and whenever it was started. No secret is ever in here.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use archyard_model::AttemptId;
use archyard_proto::v1 as proto;
use prost::Message;

use crate::lock::{Lock, Mode};

/// What a runner is told. Kept in a file, so it names where secrets are and holds none.
#[derive(Clone, PartialEq, Message)]
pub struct Assignment {
    /// The attempt.
    #[prost(message, optional, tag = "1")]
    pub attempt: Option<proto::AttemptRef>,
    /// What to build.
    #[prost(message, optional, tag = "2")]
    pub spec: Option<proto::JobSpec>,
    /// The worker's name, for the log.
    #[prost(string, tag = "3")]
    pub worker: String,
    /// Where the scheduler listens, as `--scheduler` takes it.
    #[prost(string, tag = "4")]
    pub scheduler: String,
    /// The folder with what TLS needs; empty without it.
    #[prost(string, tag = "5")]
    pub tls: String,
    /// Where the Engine listens, as `--engine` takes it.
    #[prost(string, tag = "6")]
    pub engine: String,
    /// The worker's data folder.
    #[prost(string, tag = "7")]
    pub data_dir: String,
    /// The slot it runs in: no two attempts of a worker share one at a time.
    #[prost(uint32, tag = "8")]
    pub slot: u32,
    /// Bytes of compressed layers to keep.
    #[prost(uint64, tag = "9")]
    pub layer_cache_bytes: u64,
    /// Cancel when standard input ends: the agent's death is then the attempt's.
    #[prost(bool, tag = "10")]
    pub tethered: bool,
    /// The Engine takes a source policy: the lock is given to it, and the Dockerfile as its user wrote it.
    #[prost(bool, tag = "11")]
    pub source_policy: bool,
}

/// What a runner that was started ahead of its attempt reads first, length-delimited; credentials follow.
#[derive(Clone, PartialEq, Message)]
pub struct Call {
    /// The attempt that it is to run.
    #[prost(message, optional, tag = "1")]
    pub attempt: Option<proto::AttemptRef>,
}

/// What a runner reads from standard input, length-delimited. Memory only.
#[derive(Clone, PartialEq, Message)]
pub struct Credentials {
    /// One per registry.
    #[prost(message, repeated, tag = "1")]
    pub registries: Vec<proto::RegistryCredential>,
}

/// An attempt's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptDir {
    path: PathBuf,
}

/// Whoever holds it is the attempt's runner, or stands in its place.
#[derive(Debug)]
pub struct RunnerLock(#[expect(dead_code, reason = "held, never looked at")] Lock);

impl AttemptDir {
    /// The folder at `path`, there or not.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// A new folder for this attempt, with what its runner is told.
    ///
    /// # Errors
    /// When it exists, or the disk refuses.
    pub fn create(attempts: &Path, id: AttemptId, assignment: &Assignment) -> io::Result<Self> {
        let dir = Self::at(attempts.join(id.file_name()));
        fs::create_dir(&dir.path)?;
        // Whole or not there: an agent that dies right here leaves a folder without an assignment.
        dir.replace("lease.pb", &assignment.encode_to_vec())?;
        Ok(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The log.
    pub fn spool(&self) -> PathBuf {
        self.path.join("spool")
    }

    /// What the runner's process itself says, for operators.
    pub fn runner_log(&self) -> PathBuf {
        self.path.join("runner.log")
    }

    /// The same, to write at its end.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open_runner_log(&self) -> io::Result<File> {
        File::options().create(true).append(true).open(self.runner_log())
    }

    /// What the runner was told; none when the folder was never finished.
    ///
    /// # Errors
    /// When it cannot be read, or is not what an agent of this version writes.
    pub fn assignment(&self) -> io::Result<Option<Assignment>> {
        self.read("lease.pb")
    }

    /// How the attempt ended; none while it has not.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn result(&self) -> io::Result<Option<proto::AttemptResult>> {
        let path = self.path.join("result.pb");
        match fs::read(&path) {
            Ok(bytes) => Ok(whole_result(&bytes).or_else(|| {
                tracing::warn!(file = %path.display(), "is no result: the machine went down while it was written");
                None
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says how the attempt ended. The last thing a runner does.
    ///
    /// The rename makes it whole for whoever reads it, whatever process is killed. It is not synced: with its
    /// machine an attempt ends anyway, and what a power cut may leave here (a file that is empty, cut off or full
    /// of zeros) reads as no result, as of a runner that died.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_result(&self, result: &proto::AttemptResult) -> io::Result<()> {
        self.replace("result.pb", &result.encode_length_delimited_to_vec())
    }

    /// Whether the scheduler has the result.
    pub fn is_acked(&self) -> bool {
        self.path.join("acked").exists()
    }

    /// The scheduler has the result: it is not told again after a restart.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_acked(&self) -> io::Result<()> {
        File::create(self.path.join("acked")).map(drop)
    }

    /// The process that holds the lock, or held it last.
    pub fn pid(&self) -> Option<rustix::process::Pid> {
        let text = fs::read_to_string(self.path.join("pid")).ok()?;
        text.trim().parse().ok().and_then(rustix::process::Pid::from_raw)
    }

    /// Says who runs here.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_pid(&self, pid: u32) -> io::Result<()> {
        self.replace("pid", pid.to_string().as_bytes())
    }

    /// Takes the runner's place; none while a runner lives.
    ///
    /// # Errors
    /// When the lock's file cannot be opened.
    pub fn try_lock(&self) -> io::Result<Option<RunnerLock>> {
        // Opened for writing: an agent that watches this folder is told when the last holder closes it.
        Ok(Lock::try_open(&self.path.join("lock"), Mode::Exclusive)?.map(RunnerLock))
    }

    /// Bytes in the spool.
    pub fn spool_bytes(&self) -> u64 {
        fs::metadata(self.spool()).map_or(0, |spool| spool.len())
    }

    /// Removes the folder and all in it.
    ///
    /// # Errors
    /// When something stays.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn read<M: Message + Default>(&self, name: &str) -> io::Result<Option<M>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => M::decode(bytes.as_slice()).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a file that is there whole or not at all.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.path.join(format!(".{name}.new"));
        fs::write(&new, bytes)?;
        fs::rename(&new, self.path.join(name))
    }
}

/// The result that these bytes are; none when they are not all of one. Its length comes first, for a message
/// that is cut off may well be another message.
fn whole_result(mut bytes: &[u8]) -> Option<proto::AttemptResult> {
    let result = proto::AttemptResult::decode_length_delimited(&mut bytes).ok()?;
    (bytes.is_empty() && result.attempt.is_some()).then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use archyard_model::{BuildId, FencingToken, JobId};

    fn attempt() -> AttemptId {
        AttemptId { job: JobId { build: BuildId::from_parts(5, 7), index: 0 }, token: FencingToken(1) }
    }

    fn result() -> proto::AttemptResult {
        let attempt = Some(archyard_model::convert::attempt_to_proto(attempt()));
        proto::AttemptResult {
            attempt,
            image: Some(Default::default()),
            failure: None,
            log_bytes: 9,
            log_warning: String::new(),
        }
    }

    #[test]
    fn what_a_power_cut_leaves_is_no_result() {
        let folder = tempfile::tempdir().unwrap();
        let dir = AttemptDir::create(folder.path(), attempt(), &Assignment::default()).unwrap();
        dir.set_result(&result()).unwrap();
        let path = dir.path().join("result.pb");
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(dir.result().unwrap(), None, "{length} bytes");
            fs::write(&path, vec![0; length]).unwrap();
            assert_eq!(dir.result().unwrap(), None, "{length} zeros");
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(dir.result().unwrap(), Some(result()));
    }

    #[test]
    fn one_runner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let dir = AttemptDir::create(folder.path(), attempt(), &Assignment::default()).unwrap();
        let lock = dir.try_lock().unwrap();
        assert!(lock.is_some() && dir.try_lock().unwrap().is_none());
        drop(lock);
        assert!(dir.try_lock().unwrap().is_some());
    }

    #[test]
    fn files_come_back_as_they_went() {
        let folder = tempfile::tempdir().unwrap();
        let told = Assignment { slot: 3, tethered: true, ..Assignment::default() };
        let dir = AttemptDir::create(folder.path(), attempt(), &told).unwrap();
        assert!(AttemptDir::create(folder.path(), attempt(), &told).is_err());
        assert_eq!(dir.assignment().unwrap(), Some(told));
        assert_eq!(dir.result().unwrap(), None);
        let result = result();
        dir.set_result(&result).unwrap();
        assert_eq!(dir.result().unwrap(), Some(result));
        dir.set_pid(std::process::id()).unwrap();
        assert_eq!(dir.pid(), Some(rustix::process::getpid()));
        dir.remove().unwrap();
        dir.remove().unwrap();
    }
}
