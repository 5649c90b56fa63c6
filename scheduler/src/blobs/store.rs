//! Where blobs lie, which of them are here, and how they become durable.
//!
//! ```text
//! blobs/ab/cdef...     a blob, by the digits of its digest
//! blobs/partial/...    a manifest some of whose files are not here yet
//! blobs/verified/...   a manifest was looked through and all its files were here; a cache, safe to remove
//! blobs/incoming/...   uploads under way, and what is being removed; emptied at the start
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use archyard_model::{Blake3, limits};

use super::Error;
use super::pins::Pins;
use crate::clock::Clock;
use crate::disk;

/// With fewer files than this each is synced by itself: syncing the whole file system would wait for what others write.
const SYNC_ALL_FROM: usize = 16;

/// What a store is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Sources. Some blobs are manifests that name others.
    Contexts,
    /// What workers leave for clients. A blob is a blob.
    Artifacts,
}

impl Holds {
    /// The longest blob, in bytes, and what to say of a longer one.
    pub(super) fn longest(self) -> (u64, &'static str) {
        match self {
            Self::Contexts => (limits::CONTEXT_BYTES, "a context holds at most that; use a .dockerignore"),
            Self::Artifacts => (limits::ARTIFACT_BYTES, "a layer or a root file system has at most that"),
        }
    }
}

/// The store. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Store {
    data_dir: PathBuf,
    root: PathBuf,
    pub(super) holds: Holds,
    pub(super) pins: Pins,
    /// Something came since somebody looked.
    grown: AtomicBool,
}

impl Store {
    /// Opens `blobs/` in the data folder, and drops what broken uploads left.
    pub fn open(data_dir: &Path) -> Result<Self, disk::Error> {
        Self::open_at(data_dir, data_dir.join("blobs"), Holds::Contexts)
    }

    /// Opens a store in another folder below the data folder.
    pub fn open_at(data_dir: &Path, root: PathBuf, holds: Holds) -> Result<Self, disk::Error> {
        Self::open_by(data_dir, root, holds, Clock::system())
    }

    /// The same, by a clock of the caller's.
    pub(crate) fn open_by(
        data_dir: &Path,
        root: PathBuf,
        holds: Holds,
        clock: Clock,
    ) -> Result<Self, disk::Error> {
        let store = Self {
            data_dir: data_dir.to_owned(),
            root,
            holds,
            pins: Pins::new(clock),
            grown: AtomicBool::new(true),
        };
        let incoming = store.incoming();
        if incoming.exists() {
            std::fs::remove_dir_all(&incoming).map_err(|source| store.wrong(&incoming, source))?;
        }
        for folder in ["incoming", "partial", "verified"] {
            disk::create_dir(data_dir, &store.root.join(folder))?;
        }
        for shard in 0..=u8::MAX {
            disk::create_dir(data_dir, &store.root.join(format!("{shard:02x}")))?;
        }
        disk::sync_dir(data_dir, &store.root)?;
        Ok(store)
    }

    /// Those of `digests` that are not here, each once, in order. A context's blobs that are here are pinned: whoever
    /// asks is about to submit.
    pub fn missing(&self, digests: &[Blake3]) -> Vec<Blake3> {
        let mut seen = std::collections::HashSet::with_capacity(digests.len());
        let asked: Vec<Blake3> = digests.iter().copied().filter(|digest| seen.insert(*digest)).collect();
        let present = self.present(&asked, |digest| self.has(digest));
        asked.into_iter().zip(present).filter(|(_, present)| !present).map(|(digest, _)| digest).collect()
    }

    /// Which of `digests` are here by `exists`, in order; a context's are pinned from now on.
    pub(super) fn present(&self, digests: &[Blake3], exists: impl Fn(Blake3) -> bool) -> Vec<bool> {
        match self.holds {
            Holds::Contexts => self.pins.present(digests, exists),
            // Links of builds hold artifacts.
            Holds::Artifacts => digests.iter().map(|digest| exists(*digest)).collect(),
        }
    }

    /// Whether a blob is here; a manifest is only with all that it names.
    pub fn has(&self, digest: Blake3) -> bool {
        exists(&self.path(digest))
    }

    /// Whether a blob's bytes can be read, even if it is a manifest with gaps.
    pub(super) fn has_bytes(&self, digest: Blake3) -> bool {
        self.has(digest) || exists(&self.partial(digest))
    }

    /// Opens a blob for reading; its length comes along.
    pub fn open_blob(&self, digest: Blake3) -> Result<(File, u64), Error> {
        for path in [self.path(digest), self.partial(digest)] {
            match File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file))) {
                Ok((size, file)) => return Ok((file, size)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(self.wrong(&path, source).into()),
            }
        }
        Err(Error::NotFound(digest))
    }

    /// A whole blob, which the caller knows to be of bounded size.
    pub(super) fn read_whole(&self, digest: Blake3) -> Result<Vec<u8>, Error> {
        use std::io::Read as _;
        let (mut file, size) = self.open_blob(digest)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.read_to_end(&mut bytes).map_err(|source| self.wrong(&self.path(digest), source))?;
        Ok(bytes)
    }

    /// Refuses bytes that would leave the journal, on the same disk, no room to go on: without it the scheduler stops.
    pub(super) fn spare(&self, bytes: u64) -> Result<(), disk::Error> {
        let free = disk::free_bytes(&self.root).map_err(|source| self.wrong(&self.root, source))?;
        if free < bytes.saturating_add(limits::DISK_SPARE_BYTES) {
            return Err(disk::Error::Full(self.data_dir.clone()));
        }
        Ok(())
    }

    /// Moves a synced file under a blob's name. Durable after [`sync_names`](Self::sync_names).
    pub(super) fn place(&self, from: &Path, digest: Blake3) -> Result<(), disk::Error> {
        let to = self.path(digest);
        if self.holds == Holds::Contexts {
            // Before it has its name: it must not go again at once.
            self.pins.touch(digest);
            self.grown.store(true, Ordering::SeqCst);
        }
        std::fs::rename(from, &to).map_err(|source| self.wrong(&to, source))
    }

    /// Makes the content of these files durable.
    pub(super) fn sync_content(&self, files: &[PathBuf]) -> Result<(), disk::Error> {
        if files.len() >= SYNC_ALL_FROM {
            return self.sync_file_system();
        }
        for path in files {
            File::open(path).and_then(|file| file.sync_all()).map_err(|source| self.wrong(path, source))?;
        }
        Ok(())
    }

    /// Makes it durable that these blobs have their names.
    pub(super) fn sync_names(&self, digests: &[Blake3]) -> Result<(), disk::Error> {
        if digests.len() >= SYNC_ALL_FROM {
            return self.sync_file_system();
        }
        let mut shards: Vec<u8> = digests.iter().map(|digest| digest.as_bytes()[0]).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
            .into_iter()
            .try_for_each(|shard| disk::sync_dir(&self.data_dir, &self.root.join(format!("{shard:02x}"))))
    }

    fn sync_file_system(&self) -> Result<(), disk::Error> {
        File::open(&self.root)
            .and_then(|root| rustix::fs::syncfs(&root).map_err(Into::into))
            .map_err(|source| self.wrong(&self.root, source))
    }

    /// Where a blob lies, if it is here.
    pub fn path(&self, digest: Blake3) -> PathBuf {
        let hex = digest.hex();
        let (shard, rest) = hex.split_at(2);
        self.root.join(shard).join(rest)
    }

    /// The folders of blobs.
    pub fn shards(&self) -> impl Iterator<Item = PathBuf> {
        (0..=u8::MAX).map(|shard| self.root.join(format!("{shard:02x}")))
    }

    /// Whether something came since [`take_grown`](Self::take_grown).
    pub(crate) fn is_grown(&self) -> bool {
        self.grown.load(Ordering::SeqCst)
    }

    /// Counts from here on.
    pub(crate) fn take_grown(&self) {
        self.grown.store(false, Ordering::SeqCst);
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn partial(&self, digest: Blake3) -> PathBuf {
        self.root.join("partial").join(digest.hex())
    }

    pub(super) fn verified(&self, digest: Blake3) -> PathBuf {
        self.root.join("verified").join(digest.hex())
    }

    pub(super) fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    pub(super) fn wrong(&self, path: &Path, source: std::io::Error) -> disk::Error {
        disk::Error::at(&self.data_dir, path, source)
    }
}

pub(super) fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn twenty_thousand_digests_are_looked_up_fast() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digests: Vec<Blake3> = (0..20_000u32).map(|n| Blake3::of(&n.to_le_bytes())).collect();
        for digest in &digests[..100] {
            std::fs::write(store.path(*digest), b"").unwrap();
        }
        let started = Instant::now();
        assert_eq!(store.missing(&digests).len(), 19_900);
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        assert_eq!(store.missing(&[digests[500], digests[500]]), [digests[500]], "each once");
    }

    #[test]
    fn what_a_broken_upload_left_is_dropped_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let left = store.incoming().join("left");
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("x"), "x").unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(store.incoming()).unwrap().count(), 0);
    }
}
