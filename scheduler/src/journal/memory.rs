//! A journal in memory, for simulations: it can crash and lose what was not yet durable.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Error, Journal};

/// What survives a crash; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    records: Arc<Mutex<Vec<Vec<u8>>>>,
    full: Arc<AtomicBool>,
}

/// A journal on such a disk.
#[derive(Debug)]
pub struct Memory {
    disk: Disk,
    appended: usize,
    snapshot_every: usize,
}

impl Disk {
    /// All records that are durable.
    pub fn records(&self) -> Vec<Vec<u8>> {
        self.lock().clone()
    }

    /// From here on every append fails as it does on a full disk, and keeps nothing; or there is room again.
    pub fn fill_up(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Opens a disk. A snapshot is wanted after so many records.
    pub fn open(disk: Disk, snapshot_every: usize) -> Self {
        Self { disk, appended: 0, snapshot_every }
    }
}

impl Journal for Memory {
    fn place(&self) -> PathBuf {
        "memory".into()
    }

    fn replay(&mut self, each: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        self.disk.records().iter().try_for_each(|record| each(record))
    }

    fn append(&mut self, group: &[Vec<u8>]) -> Result<(), Error> {
        if self.disk.full.load(Ordering::SeqCst) {
            return Err(Error::DiskFull("memory".into()));
        }
        self.disk.lock().extend_from_slice(group);
        self.appended += group.len();
        Ok(())
    }

    fn wants_snapshot(&self) -> bool {
        self.appended >= self.snapshot_every
    }

    fn snapshot(&mut self, records: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), Error> {
        *self.disk.lock() = records.collect();
        self.appended = 0;
        Ok(())
    }
}
