//! One attempt's log.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use archyard_model::{AttemptId, limits};
use bytes::Bytes;
use tokio::sync::watch;

use super::Error;
use crate::disk;

/// How far a log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Its length in bytes.
    pub bytes: u64,
    /// Its runner said that nothing follows.
    pub last: bool,
}

/// A log file, and who waits for it to grow.
#[derive(Debug)]
pub struct Spool {
    attempt: AttemptId,
    data_dir: PathBuf,
    path: PathBuf,
    /// None until the first byte arrives: asking for a log makes no file.
    file: Mutex<Option<Arc<File>>>,
    progress: watch::Sender<Progress>,
}

impl Spool {
    /// The log of an attempt, with what an earlier scheduler received of it.
    pub(super) fn open(data_dir: &Path, path: PathBuf, attempt: AttemptId) -> Result<Self, disk::Error> {
        let (file, bytes) = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => {
                let length =
                    file.metadata().map_err(|source| disk::Error::at(data_dir, &path, source))?.len();
                (Some(Arc::new(file)), length)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (None, 0),
            Err(source) => return Err(disk::Error::at(data_dir, &path, source)),
        };
        let progress = watch::Sender::new(Progress { bytes, last: false });
        Ok(Self { attempt, data_dir: data_dir.to_owned(), path, file: Mutex::new(file), progress })
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Wakes whenever it grows.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Appends what is new of `data`, and gives the length then. Blocks; [`sync`](Self::sync) makes it durable.
    pub fn append(&self, offset: u64, data: &[u8], last: bool) -> Result<u64, Error> {
        let mut file = self.lock();
        let held = self.progress().bytes;
        if offset > held {
            return Err(Error::Gap { attempt: self.attempt, offset, held });
        }
        let known = usize::try_from(held - offset).unwrap_or(usize::MAX);
        let new = data.get(known..).unwrap_or_default();
        let length = held + new.len() as u64;
        if length > limits::SPOOL_BYTES {
            return Err(Error::TooLong(self.attempt));
        }
        if !new.is_empty() {
            let file = match &mut *file {
                Some(file) => file,
                none => none.insert(Arc::new(self.create()?)),
            };
            if let Err(source) = file.write_all_at(new, held) {
                // Half a piece must not stay: the length is what readers and the worker go by.
                if let Err(error) = file.set_len(held) {
                    tracing::error!(attempt = %self.attempt, %error, "cannot cut a log back to its length");
                }
                return Err(self.wrong(source).into());
            }
        }
        self.progress.send_if_modified(|progress| {
            let grown = Progress { bytes: length, last: progress.last || last };
            let changed = *progress != grown;
            *progress = grown;
            changed
        });
        Ok(length)
    }

    /// Makes what was appended durable. Blocks.
    pub fn sync(&self) -> Result<(), disk::Error> {
        let file = self.lock().clone();
        file.map_or(Ok(()), |file| file.sync_data().map_err(|source| self.wrong(source)))
    }

    /// Bytes from `offset` on, at most one message's worth and never past `end`. Blocks.
    pub fn read(&self, offset: u64, end: u64) -> Result<Bytes, disk::Error> {
        let end = end.min(self.progress().bytes);
        let wanted = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let file = self.lock().clone();
        let Some(file) = file.filter(|_| wanted > 0) else { return Ok(Bytes::new()) };
        let mut data = vec![0; wanted.min(limits::LOG_CHUNK_BYTES)];
        file.read_exact_at(&mut data, offset).map_err(|source| self.wrong(source))?;
        Ok(data.into())
    }

    fn create(&self) -> Result<File, disk::Error> {
        let folder = self.path.parent().unwrap_or(&self.data_dir);
        disk::create_dir(&self.data_dir, folder)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .map_err(|source| self.wrong(source))?;
        disk::sync_dir(&self.data_dir, folder)?;
        disk::sync_dir(&self.data_dir, folder.parent().unwrap_or(&self.data_dir))?;
        Ok(file)
    }

    fn wrong(&self, source: std::io::Error) -> disk::Error {
        disk::Error::at(&self.data_dir, &self.path, source)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<File>>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
