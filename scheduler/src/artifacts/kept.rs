//! Which blobs are kept, for which builds, and how many bytes that makes.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use archyard_model::{Blake3, BuildId, limits};

use super::Error;
use crate::blobs::{Holds, Store};
use crate::disk;

/// How much is kept, and how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of all builds, in bytes.
    pub bytes: u64,
    /// After a build's end.
    pub kept: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { bytes: limits::ARTIFACTS_KEPT_BYTES, kept: limits::ARTIFACTS_KEPT }
    }
}

/// The store. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Artifacts {
    data_dir: PathBuf,
    builds: PathBuf,
    blobs: Arc<Store>,
    pub(super) options: Options,
    /// Held while links are made or removed, so that no blob goes in between.
    links: Mutex<Bytes>,
}

/// What counts against the limit.
#[derive(Debug, Default)]
struct Bytes {
    kept: u64,
    /// Announced by uploads under way.
    coming: u64,
}

impl Artifacts {
    /// Opens `artifacts/` in the data folder, and drops what no build needs.
    pub fn open(data_dir: &Path, options: Options) -> Result<Self, disk::Error> {
        let root = data_dir.join("artifacts");
        let builds = root.join("builds");
        disk::create_dir(data_dir, &builds)?;
        let blobs = Arc::new(Store::open_at(data_dir, root.join("blobs"), Holds::Artifacts)?);
        disk::sync_dir(data_dir, &root)?;
        let store = Self {
            data_dir: data_dir.to_owned(),
            builds,
            blobs,
            options,
            links: Mutex::new(Bytes::default()),
        };
        let mut kept = 0;
        for shard in store.blobs.shards() {
            kept += drop_unneeded(&shard).map_err(|source| store.wrong(&shard, source))?;
        }
        store.lock().kept = kept;
        Ok(store)
    }

    /// The blobs themselves.
    pub fn blobs(&self) -> &Arc<Store> {
        &self.blobs
    }

    /// Those of `digests` that are not here, each once. Those that are stay for as long as this build's do.
    pub fn missing(&self, build: BuildId, digests: &[Blake3]) -> Result<Vec<Blake3>, Error> {
        let missing = self.blobs.missing(digests);
        let present: Vec<Blake3> =
            digests.iter().copied().filter(|digest| !missing.contains(digest)).collect();
        self.keep(build, &present)?;
        Ok(missing)
    }

    /// Keeps blobs, which are here, for a build.
    pub(super) fn keep(&self, build: BuildId, digests: &[Blake3]) -> Result<(), Error> {
        if digests.is_empty() {
            return Ok(());
        }
        let folder = self.folder(build);
        let _links = self.lock();
        if !folder.exists() {
            disk::create_dir(&self.data_dir, &folder)?;
            disk::sync_dir(&self.data_dir, &self.builds)?;
        }
        for digest in digests {
            match fs::hard_link(self.blobs.path(*digest), folder.join(digest.hex())) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return Err(Error::Raced),
                Err(source) => return Err(self.wrong(&folder, source).into()),
            }
        }
        Ok(disk::sync_dir(&self.data_dir, &folder)?)
    }

    /// Lets go of all that a build needs. Doing it again is no error.
    pub fn release(&self, build: BuildId) -> Result<(), disk::Error> {
        let folder = self.folder(build);
        let mut links = self.lock();
        let freed = match remove_links(&folder, &self.blobs) {
            Ok(freed) => freed,
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(source) => return Err(self.wrong(&folder, source)),
        };
        links.kept = links.kept.saturating_sub(freed);
        drop(links);
        disk::sync_dir(&self.data_dir, &self.builds)
    }

    /// Whether anything is kept for this build.
    pub fn keeps(&self, build: BuildId) -> bool {
        self.folder(build).exists()
    }

    /// How long it is, after the build's end.
    pub fn kept(&self) -> Duration {
        self.options.kept
    }

    /// The builds for which something is kept.
    pub fn builds(&self) -> Result<Vec<BuildId>, disk::Error> {
        let list = || {
            let mut builds = Vec::new();
            for entry in fs::read_dir(&self.builds)? {
                builds.extend(entry?.file_name().to_string_lossy().parse::<BuildId>());
            }
            io::Result::Ok(builds)
        };
        list().map_err(|source| self.wrong(&self.builds, source))
    }

    /// What is kept for a build, in bytes; what other builds need too counts in full.
    pub(crate) fn bytes_of(&self, build: BuildId) -> Result<u64, disk::Error> {
        let folder = self.folder(build);
        let sum = || {
            let mut bytes = 0;
            for entry in fs::read_dir(&folder)? {
                bytes += entry?.metadata()?.len();
            }
            io::Result::Ok(bytes)
        };
        match sum() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            bytes => bytes.map_err(|source| self.wrong(&folder, source)),
        }
    }

    /// Bytes that are kept now.
    pub fn kept_bytes(&self) -> u64 {
        self.lock().kept
    }

    /// Sets room aside for a blob that is coming. A disk that would be full to the brim takes none: the journal lies on
    /// it too, and could not go on.
    pub(super) fn reserve(&self, size: u64) -> Result<(), Error> {
        let free = disk::free_bytes(&self.builds).map_err(|source| self.wrong(&self.builds, source))?;
        let mut bytes = self.lock();
        if free < bytes.coming.saturating_add(size).saturating_add(limits::DISK_SPARE_BYTES) {
            return Err(disk::Error::Full(self.data_dir.clone()).into());
        }
        let kept = bytes.kept + bytes.coming;
        if kept.saturating_add(size) > self.options.bytes {
            return Err(Error::Full { kept, most: self.options.bytes, size });
        }
        bytes.coming += size;
        Ok(())
    }

    /// An upload is over: of what was set aside so much has come to stay.
    pub(super) fn settle(&self, reserved: u64, stored: u64) {
        let mut bytes = self.lock();
        bytes.coming = bytes.coming.saturating_sub(reserved);
        bytes.kept += stored;
    }

    fn folder(&self, build: BuildId) -> PathBuf {
        self.builds.join(build.to_string())
    }

    fn wrong(&self, path: &Path, source: io::Error) -> disk::Error {
        disk::Error::at(&self.data_dir, path, source)
    }

    fn lock(&self) -> MutexGuard<'_, Bytes> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the blobs of a shard that no build needs, and gives the bytes of the others.
fn drop_unneeded(shard: &Path) -> io::Result<u64> {
    let mut kept = 0;
    for entry in fs::read_dir(shard)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.nlink() > 1 {
            kept += metadata.len();
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(kept)
}

/// Removes a build's folder, and the blobs that only it needed. Returns their bytes.
fn remove_links(folder: &Path, blobs: &Store) -> io::Result<u64> {
    let mut freed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        // Two names: this one, and the blob's own.
        if metadata.nlink() == 2
            && let Ok(digest) = format!("blake3:{}", entry.file_name().to_string_lossy()).parse()
        {
            fs::remove_file(blobs.path(digest))?;
            freed += metadata.len();
        }
        fs::remove_file(entry.path())?;
    }
    fs::remove_dir(folder)?;
    Ok(freed)
}
