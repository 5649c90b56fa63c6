//! Advisory locks that processes of one machine hold on files, and that end with their holder.
//!
//! The kernel lets go of them whatever way a process ends, so none is ever stale.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Between two tries for a lock that another runner holds: it is bringing the same context.
pub(crate) const RETRY: Duration = Duration::from_millis(10);

/// An open file that is locked.
#[derive(Debug)]
pub(crate) struct Lock {
    pub(crate) file: File,
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

impl Lock {
    /// Opens the file, which is made when it is not there, and locks it; none while others hold it.
    pub(crate) fn try_open(path: &Path, mode: Mode) -> io::Result<Option<Self>> {
        loop {
            let file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
            let lock = Self { file };
            if !lock.try_mode(mode)? {
                return Ok(None);
            }
            // Removed between opening and locking: whoever opens the name now gets another file.
            if lock.is_linked()? {
                return Ok(Some(lock));
            }
        }
    }

    /// The same, waiting for as long as it takes. Dropping the future gives up.
    pub(crate) async fn open(path: &Path, mode: Mode) -> io::Result<Self> {
        loop {
            if let Some(lock) = Self::try_open(path, mode)? {
                return Ok(lock);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Whether the file still has a name.
    fn is_linked(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() > 0)
    }

    fn try_mode(&self, mode: Mode) -> io::Result<bool> {
        let operation = match mode {
            Mode::Shared => FlockOperation::NonBlockingLockShared,
            Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match flock(&self.file, operation) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_and_exclusive_exclude_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let one = Lock::try_open(&path, Mode::Shared).unwrap().unwrap();
        let two = Lock::try_open(&path, Mode::Shared).unwrap();
        assert!(two.is_some() && Lock::try_open(&path, Mode::Exclusive).unwrap().is_none());
        drop((one, two));
        let alone = Lock::try_open(&path, Mode::Exclusive).unwrap();
        assert!(alone.is_some() && Lock::try_open(&path, Mode::Shared).unwrap().is_none());
    }

    #[tokio::test]
    async fn waiting_ends_when_the_holder_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = Lock::try_open(&path, Mode::Exclusive).unwrap();
        let waiting = Lock::open(&path, Mode::Shared);
        tokio::pin!(waiting);
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("it is held"),
            () = tokio::time::sleep(Duration::from_millis(30)) => {}
        }
        drop(held);
        waiting.await.unwrap();
    }

    #[test]
    fn a_removed_file_is_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let old = Lock::try_open(&path, Mode::Exclusive).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        let new = Lock::try_open(&path, Mode::Exclusive).unwrap();
        assert!(new.is_some() && !old.is_linked().unwrap());
    }
}
