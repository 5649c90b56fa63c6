//! The embedded journal.
//!
//! The store's own flush only starts the write-back (`sync_file_range`), and values of more than a few KiB go to files
//! it never syncs. So: small chunks under sequential keys, no flusher of its own, and after each flush `fdatasync` on
//! the store's one file. Nothing is ever deleted in place: a snapshot begins a new generation.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::chunk::{self, Joiner};
use super::generations::{Generations, sync_files, sync_folder};
use super::{Error, Journal, witness};
use crate::disk;

/// Appended at a time; a larger group takes several, each synced, and counts only with its last.
const BATCH_BYTES: usize = 256 * 1024;
/// Free space below which nothing is appended: the store must never meet a full disk itself.
const RESERVE_BYTES: u64 = 16 * 1024 * 1024;
/// Appended since the last snapshot before a next one pays.
const SNAPSHOT_BYTES: u64 = 64 * 1024 * 1024;
/// The store's page cache: the journal is read once, at the start.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;

/// A closed store keeps its lock until its last thread has let go of it.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);
const RELEASE_RETRY: Duration = Duration::from_millis(5);

/// A journal in a folder.
#[derive(Debug)]
pub struct Sled {
    generations: Generations,
    store: Store,
    /// Bytes of the snapshot, and appended since.
    packed: u64,
    appended: u64,
}

/// One open generation.
#[derive(Debug)]
struct Store {
    path: PathBuf,
    db: sled::Db,
    file: File,
    next_key: u64,
    next_group: u64,
    /// Groups that the file holds parts of.
    witnessed: u64,
}

impl Sled {
    /// Opens the journal in this folder, made if need be.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let mut generations = Generations::open(folder)?;
        room(folder)?;
        let store = if generations.current() == 0 {
            let store = Store::create(&generations.path(1))?;
            generations.switch(1)?;
            sync_folder(folder.parent().unwrap_or(folder))?;
            store
        } else {
            let path = generations.path(generations.current());
            let witnessed = witness::groups(&path.join("db"))?;
            Store::open(&path, witnessed)?
        };
        Ok(Self { generations, store, packed: 0, appended: 0 })
    }
}

impl Journal for Sled {
    fn place(&self) -> PathBuf {
        self.store.path.clone()
    }

    fn replay(&mut self, each: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        self.appended = self.store.replay(each)?;
        Ok(())
    }

    fn append(&mut self, group: &[Vec<u8>]) -> Result<(), Error> {
        room(&self.store.path)?;
        self.appended += self.store.append(group)?;
        Ok(())
    }

    fn wants_snapshot(&self) -> bool {
        self.appended >= SNAPSHOT_BYTES.max(2 * self.packed)
    }

    fn snapshot(&mut self, records: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), Error> {
        room(&self.store.path)?;
        let next = self.generations.current() + 1;
        let path = self.generations.path(next);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(|error| Error::io(&path, error))?;
        }
        let mut store = Store::create(&path)?;
        let (mut group, mut bytes, mut packed) = (Vec::new(), 0, 0);
        for record in records {
            bytes += record.len();
            group.push(record);
            if bytes >= BATCH_BYTES {
                packed += store.append(&group)?;
                group.clear();
                bytes = 0;
            }
        }
        packed += store.append(&group)?;
        store.settle()?;
        self.generations.switch(next)?;
        self.store = store;
        (self.packed, self.appended) = (packed, 0);
        self.generations.sweep()
    }
}

impl Store {
    fn create(path: &Path) -> Result<Self, Error> {
        if path.exists() {
            fs::remove_dir_all(path).map_err(|error| Error::io(path, error))?;
        }
        let mut store = Self::open(path, 0)?;
        // No generation is empty: an empty one is damaged.
        store.append(&[])?;
        store.settle()?;
        Ok(store)
    }

    fn open(path: &Path, witnessed: u64) -> Result<Self, Error> {
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = open_released(&config).map_err(|error| Error::sled(path, error))?;
        let file_path = path.join("db");
        let file = File::open(&file_path).map_err(|error| Error::io(&file_path, error))?;
        let last = db.last().map_err(|error| Error::sled(path, error))?;
        let next_key = match last {
            Some((key, _)) => number(path, &key)? + 1,
            None => 0,
        };
        Ok(Self { path: path.to_owned(), db, file, next_key, next_group: 0, witnessed })
    }

    /// Hands out the records of all whole groups, and drops a torn last one.
    fn replay(&mut self, each: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<u64, Error> {
        let (mut joiner, mut expected, mut whole, mut bytes) = (Joiner::default(), 0, 0, 0);
        for entry in self.db.iter() {
            let (key, value) = entry.map_err(|error| Error::sled(&self.path, error))?;
            if number(&self.path, &key)? != expected {
                return Err(self.damaged(format!("chunk {expected} is missing")));
            }
            expected += 1;
            bytes += value.len() as u64;
            let mut deliver = |record: &[u8]| each(record).map_err(Fault::Theirs);
            joiner.take(&value, &mut deliver).map_err(|fault| match fault {
                Fault::Ours(damage) => self.damaged(format!("chunk {}: {damage}", expected - 1)),
                Fault::Theirs(error) => error,
            })?;
            if !joiner.is_open() {
                whole = expected;
            }
        }
        // The last group may have been torn by a crash. One behind it was written when that was durable.
        if joiner.whole() == 0 || self.witnessed > joiner.whole() + 1 {
            let (found, written) = (joiner.whole(), self.witnessed);
            return Err(self.damaged(format!("{written} groups were written and {found} can be read")));
        }
        if whole < expected {
            tracing::warn!(journal = %self.path.display(), chunks = expected - whole, "dropped a torn last group");
            for key in whole..expected {
                self.db.remove(key.to_be_bytes()).map_err(|error| Error::sled(&self.path, error))?;
            }
            self.sync()?;
        }
        self.next_key = whole;
        self.next_group = joiner.whole();
        Ok(bytes)
    }

    /// All of the group is durable when this returns.
    fn append(&mut self, group: &[Vec<u8>]) -> Result<u64, Error> {
        let mut bytes = 0;
        for chunks in chunk::split(self.next_group, group).chunks(BATCH_BYTES / chunk::CHUNK_BYTES) {
            let mut batch = sled::Batch::default();
            for chunk in chunks {
                bytes += chunk.len() as u64;
                batch.insert(&self.next_key.to_be_bytes(), chunk.as_slice());
                self.next_key += 1;
            }
            self.db.apply_batch(batch).map_err(|error| Error::sled(&self.path, error))?;
            self.sync()?;
        }
        self.next_group += 1;
        debug_assert!(self.has_no_blobs(), "the store put a chunk into a file that it never syncs");
        Ok(bytes)
    }

    /// The store's flush leaves the data in the kernel: `sync_data` makes it durable.
    fn sync(&self) -> Result<(), Error> {
        self.db.flush().map_err(|error| Error::sled(&self.path, error))?;
        self.file.sync_data().map_err(|error| Error::io(&self.path, error))
    }

    /// Makes a new generation durable with its files' names.
    fn settle(&self) -> Result<(), Error> {
        self.sync()?;
        if !self.has_no_blobs() {
            return Err(self.damaged("the store keeps chunks in files that it never syncs".to_owned()));
        }
        sync_files(&self.path)?;
        sync_folder(self.path.parent().unwrap_or(&self.path))
    }

    fn has_no_blobs(&self) -> bool {
        fs::read_dir(self.path.join("blobs")).map_or(true, |mut entries| entries.next().is_none())
    }

    fn damaged(&self, problem: String) -> Error {
        Error::Corrupt { path: self.path.join("db"), problem }
    }
}

/// Whose error ended a replay.
enum Fault {
    Ours(chunk::Damage),
    Theirs(Error),
}

impl From<chunk::Damage> for Fault {
    fn from(damage: chunk::Damage) -> Self {
        Self::Ours(damage)
    }
}

fn number(path: &Path, key: &[u8]) -> Result<u64, Error> {
    <[u8; 8]>::try_from(key).map(u64::from_be_bytes).map_err(|_| Error::Corrupt {
        path: path.join("db"),
        problem: format!("a key has {} bytes", key.len()),
    })
}

/// Refuses when the disk is nearly full, before the store finds out in the middle of a write.
fn room(path: &Path) -> Result<(), Error> {
    if disk::free_bytes(path).map_err(|error| Error::io(path, error))? < RESERVE_BYTES {
        return Err(Error::DiskFull(path.to_owned()));
    }
    Ok(())
}

/// Opens a store; waits for whoever has just closed it. Nobody else can have it: the scheduler's folder is locked.
fn open_released(config: &sled::Config) -> sled::Result<sled::Db> {
    let deadline = Instant::now() + RELEASE_PATIENCE;
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if is_locked(&error) && Instant::now() < deadline => {
                thread::sleep(RELEASE_RETRY);
            }
            opened => return opened,
        }
    }
}

/// The store wraps the system's error in words.
fn is_locked(error: &std::io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: usize) -> Vec<u8> {
        format!("record {n} ").repeat(n % 900 + 1).into_bytes()
    }

    fn read(journal: &mut Sled) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        journal
            .replay(&mut |record| {
                records.push(record.to_vec());
                Ok(())
            })
            .unwrap();
        records
    }

    #[test]
    fn gives_back_what_was_appended_and_continues() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Sled::open(folder.path()).unwrap();
        let mut expected = Vec::new();
        for round in 0..3 {
            assert_eq!(read(&mut journal), expected);
            for group in 0..20 {
                let records: Vec<_> = (0..group).map(|n| record(n * 50 + round)).collect();
                journal.append(&records).unwrap();
                expected.extend(records);
            }
            drop(journal);
            journal = Sled::open(folder.path()).unwrap();
        }
        assert_eq!(read(&mut journal), expected);
        assert!(journal.store.has_no_blobs());
    }

    #[test]
    fn a_store_that_is_just_being_closed_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let config = sled::Config::new().path(folder.path()).flush_every_ms(None);
        let held = config.open().unwrap();
        assert!(matches!(config.open(), Err(sled::Error::Io(error)) if is_locked(&error)));
        let closing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            drop(held);
        });
        assert!(open_released(&config).is_ok());
        closing.join().unwrap();
    }

    #[test]
    fn a_snapshot_replaces_all_in_a_generation_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Sled::open(folder.path()).unwrap();
        journal.append(&[record(1), record(2)]).unwrap();
        let large: Vec<_> = (0..300).map(record).collect();
        journal.snapshot(&mut large.clone().into_iter()).unwrap();
        journal.append(&[record(7)]).unwrap();
        drop(journal);
        let mut journal = Sled::open(folder.path()).unwrap();
        assert_eq!(read(&mut journal), [large, vec![record(7)]].concat());
        assert!(!journal.generations.path(1).exists() && journal.generations.path(2).exists());
    }

    #[test]
    fn a_torn_last_group_is_dropped_and_its_place_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Sled::open(folder.path()).unwrap();
        journal.append(&[record(1)]).unwrap();
        let chunks = chunk::split(2, &[vec![9; 20_000]]);
        for (key, chunk) in (2u64..).zip(&chunks[..3]) {
            journal.store.db.insert(key.to_be_bytes(), chunk.as_slice()).unwrap();
        }
        drop(journal);
        let mut journal = Sled::open(folder.path()).unwrap();
        assert_eq!(read(&mut journal), [record(1)]);
        journal.append(&[record(2)]).unwrap();
        drop(journal);
        assert_eq!(read(&mut Sled::open(folder.path()).unwrap()), [record(1), record(2)]);
    }

    #[test]
    fn damage_in_the_middle_is_refused_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Sled::open(folder.path()).unwrap();
        for n in 0..3 {
            journal.append(&[record(n)]).unwrap();
        }
        let mut changed = journal.store.db.get(1u64.to_be_bytes()).unwrap().unwrap().to_vec();
        changed[chunk::HEAD_BYTES] ^= 1;
        journal.store.db.insert(1u64.to_be_bytes(), changed).unwrap();
        let error = journal.replay(&mut |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("generation-00000001/db") && error.contains("damaged"), "{error}");
        journal.store.db.remove(1u64.to_be_bytes()).unwrap();
        let error = journal.replay(&mut |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("chunk 1 is missing"), "{error}");
    }

    #[test]
    fn damage_that_the_store_itself_overlooks_is_refused() {
        for at in [100, 3_000, 40_000, 90_000] {
            let folder = tempfile::tempdir().unwrap();
            let mut journal = Sled::open(folder.path()).unwrap();
            for n in 0..100 {
                journal.append(&[vec![7; 1_000 + n]]).unwrap();
            }
            let db = journal.store.path.join("db");
            drop(journal);
            let mut bytes = fs::read(&db).unwrap();
            bytes[at..at + 8].iter_mut().for_each(|byte| *byte ^= 0x5a);
            fs::write(&db, bytes).unwrap();
            let error = Sled::open(folder.path()).and_then(|mut journal| journal.replay(&mut |_| Ok(())));
            let error = error.unwrap_err().to_string();
            assert!(error.contains("/db: the journal is damaged"), "{at}: {error}");
        }
    }

    #[test]
    fn a_generation_without_its_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Sled::open(folder.path()).unwrap();
        let db = journal.store.path.join("db");
        drop(journal);
        fs::write(&db, []).unwrap();
        let error = Sled::open(folder.path()).and_then(|mut journal| journal.replay(&mut |_| Ok(())));
        assert!(error.unwrap_err().to_string().contains("can be read"));
        fs::remove_file(&db).unwrap();
        assert!(Sled::open(folder.path()).unwrap_err().to_string().contains("it is missing"));
    }
}
