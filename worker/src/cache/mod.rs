//! The machine's blobs by BLAKE3 digest: every runner of a worker shares them, so a context, or the part of it
//! that did not change, crosses the network once.
//!
//! ```text
//! cache/blobs/ab/<hex>      a blob, whole and verified: it gets its name last
//! cache/contexts/<hex>      one per context: says whether all its blobs are here; its flock pins them
//! cache/tmp/                what is being written
//! cache/old/                blobs of an earlier boot: nothing was synced, so each is read before it is trusted
//! cache/lock                shared by whoever brings a context, exclusive for whoever removes blobs
//! ```
//! A context that is complete is opened with one lock and one read, whatever its size. Nothing here decides
//! when to give up on the scheduler, and nothing is held in memory but the manifest and digests.

mod boot;
mod context;
mod download;
mod error;
mod evict;
mod receive;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use archyard_model::Blake3;

pub use context::Context;
pub use download::Downloads;
pub use error::CacheError;
pub use evict::Evicted;

/// A blob cache. Cheap to clone; any number of processes may have it open.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache in `root`, made when it is not there.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let cache = Self { root: root.into() };
        // A runner finds all this in place: the agent has opened the cache before it.
        if !boot::is_current(&cache.root) {
            for folder in [cache.blobs(), cache.contexts(), cache.tmp(), cache.old()] {
                fs::create_dir_all(folder)?;
            }
            boot::enter(&cache)?;
        }
        Ok(cache)
    }

    /// Opens a blob; an error of kind `NotFound` when it is not here.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn blob(&self, digest: &Blake3) -> io::Result<File> {
        File::open(self.blob_path(digest))
    }

    fn has(&self, digest: &Blake3) -> bool {
        self.blob_path(digest).exists() || boot::recover(self, digest)
    }

    fn blob_path(&self, digest: &Blake3) -> PathBuf {
        path_in(&self.blobs(), digest)
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    fn contexts(&self) -> PathBuf {
        self.root.join("contexts")
    }

    fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn old(&self) -> PathBuf {
        self.root.join("old")
    }
}

/// Where a blob lies under a folder of blobs.
fn path_in(folder: &Path, digest: &Blake3) -> PathBuf {
    let hex = digest.hex();
    folder.join(&hex[..2]).join(hex)
}
