//! All logs: the one open handle of each that somebody writes or reads.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use archyard_model::{AttemptId, BuildId};

use super::Spool;
use crate::disk;

/// With fewer entries than this nobody looks for stale ones.
const SWEEP_FROM: usize = 256;

/// The folder of logs: `spools/<build>/<job>-<token>`.
#[derive(Debug)]
pub struct Spools {
    data_dir: PathBuf,
    root: PathBuf,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    spools: HashMap<AttemptId, Weak<Spool>>,
    sweep_at: usize,
}

impl Spools {
    /// Opens `spools/` in the data folder.
    pub fn open(data_dir: &Path) -> Result<Self, disk::Error> {
        let root = data_dir.join("spools");
        disk::create_dir(data_dir, &root)?;
        let open = Mutex::new(Open { spools: HashMap::new(), sweep_at: SWEEP_FROM });
        Ok(Self { data_dir: data_dir.to_owned(), root, open })
    }

    /// An attempt's log, shared by everybody who holds it at the same time. Blocks.
    pub fn get(&self, attempt: AttemptId) -> Result<Arc<Spool>, disk::Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spool) = open.spools.get(&attempt).and_then(Weak::upgrade) {
            return Ok(spool);
        }
        let path = self.folder(attempt.job.build).join(format!("{}-{}", attempt.job.index, attempt.token));
        let spool = Arc::new(Spool::open(&self.data_dir, path, attempt)?);
        open.spools.insert(attempt, Arc::downgrade(&spool));
        if open.spools.len() >= open.sweep_at {
            open.spools.retain(|_, spool| spool.strong_count() > 0);
            open.sweep_at = SWEEP_FROM.max(2 * open.spools.len());
        }
        Ok(spool)
    }

    /// The builds that have logs here. Blocks.
    pub(crate) fn builds(&self) -> Result<Vec<BuildId>, disk::Error> {
        let list = || {
            let mut builds = Vec::new();
            for entry in std::fs::read_dir(&self.root)? {
                builds.extend(entry?.file_name().to_string_lossy().parse::<BuildId>());
            }
            std::io::Result::Ok(builds)
        };
        list().map_err(|source| disk::Error::at(&self.data_dir, &self.root, source))
    }

    /// Whether a build has logs here. Blocks.
    pub(crate) fn has(&self, build: BuildId) -> bool {
        self.folder(build).exists()
    }

    /// What a build's logs occupy on the disk. Blocks.
    pub(crate) fn bytes(&self, build: BuildId) -> Result<u64, disk::Error> {
        let folder = self.folder(build);
        let sum = || {
            let mut bytes = 0;
            for entry in std::fs::read_dir(&folder)? {
                bytes += entry?.metadata()?.blocks() * 512;
            }
            std::io::Result::Ok(bytes)
        };
        match sum() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            bytes => bytes.map_err(|source| disk::Error::at(&self.data_dir, &folder, source)),
        }
    }

    /// Removes a build's logs. Doing it again is no error. Whoever reads one of them reads it to its end. Blocks.
    pub(crate) fn remove(&self, build: BuildId) -> Result<(), disk::Error> {
        let folder = self.folder(build);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(disk::Error::at(&self.data_dir, &folder, error));
            }
            _ => {}
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.spools.retain(|attempt, _| attempt.job.build != build);
        drop(open);
        disk::sync_dir(&self.data_dir, &self.root)
    }

    fn folder(&self, build: BuildId) -> PathBuf {
        self.root.join(build.to_string())
    }
}

#[cfg(test)]
mod tests {
    use archyard_model::{BuildId, FencingToken, JobId, limits};

    use super::super::{Error, Progress};
    use super::*;

    fn attempt(token: u64) -> AttemptId {
        AttemptId { job: JobId { build: BuildId::from_parts(1, 2), index: 0 }, token: FencingToken(token) }
    }

    fn spools() -> (tempfile::TempDir, Spools) {
        let dir = tempfile::tempdir().unwrap();
        let spools = Spools::open(dir.path()).unwrap();
        (dir, spools)
    }

    #[test]
    fn overlaps_are_trimmed_and_gaps_refused() {
        let (_dir, spools) = spools();
        let spool = spools.get(attempt(1)).unwrap();
        assert_eq!(spool.append(0, b"hello", false).unwrap(), 5);
        assert_eq!(spool.append(0, b"hello", false).unwrap(), 5, "a repeated piece adds nothing");
        assert_eq!(spool.append(3, b"lo wor", false).unwrap(), 9);
        assert!(matches!(spool.append(10, b"!", false), Err(Error::Gap { offset: 10, held: 9, .. })));
        assert_eq!(spool.append(9, b"ld", true).unwrap(), 11);
        assert_eq!(spool.progress(), Progress { bytes: 11, last: true });
        assert_eq!(spool.read(0, u64::MAX).unwrap(), "hello world");
        assert_eq!(spool.read(6, 9).unwrap(), "wor");
        assert_eq!(spool.read(11, u64::MAX).unwrap(), "");
    }

    #[test]
    fn a_later_scheduler_goes_on_where_the_file_ends() {
        let (dir, spools) = spools();
        let spool = spools.get(attempt(1)).unwrap();
        spool.append(0, b"abc", false).unwrap();
        spool.sync().unwrap();
        drop((spool, spools));
        let spool = Spools::open(dir.path()).unwrap().get(attempt(1)).unwrap();
        assert_eq!(spool.progress().bytes, 3);
        assert_eq!(spool.append(1, b"bcd", false).unwrap(), 4);
        assert_eq!(spool.read(0, u64::MAX).unwrap(), "abcd");
    }

    #[test]
    fn a_log_has_an_end() {
        let (_dir, spools) = spools();
        let spool = spools.get(attempt(1)).unwrap();
        spool.append(0, b"x", false).unwrap();
        // As if a gibibyte less one were there: the file stays sparse.
        spool.append(1, b"", false).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(spool_path(&spools)).unwrap();
        file.set_len(limits::SPOOL_BYTES).unwrap();
        drop(spool);
        let spool = spools.get(attempt(1)).unwrap();
        assert!(matches!(spool.append(limits::SPOOL_BYTES, b"x", false), Err(Error::TooLong(_))));
    }

    #[test]
    fn asking_for_a_log_makes_no_file_and_leaves_no_entry() {
        let (_dir, spools) = spools();
        for token in 1..2 * SWEEP_FROM as u64 {
            spools.get(attempt(token)).unwrap();
        }
        assert_eq!(std::fs::read_dir(&spools.root).unwrap().count(), 0);
        assert!(spools.open.lock().unwrap().spools.len() <= SWEEP_FROM);
    }

    #[tokio::test]
    async fn readers_wake_when_it_grows() {
        let (_dir, spools) = spools();
        let reader = spools.get(attempt(1)).unwrap();
        let mut watch = reader.watch();
        spools.get(attempt(1)).unwrap().append(0, b"x", false).unwrap();
        watch.changed().await.unwrap();
        assert_eq!(watch.borrow().bytes, 1);
    }

    fn spool_path(spools: &Spools) -> PathBuf {
        spools.root.join(attempt(1).job.build.to_string()).join("0-1")
    }
}
