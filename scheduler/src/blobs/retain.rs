//! What retention does to the store: which contexts there are, what they name, and removing what is not kept.
//!
//! A manifest goes before the files that it names, and durably: whoever finds a manifest may count on its files, also
//! when the scheduler is killed in between. What is removed loses its name under the lock of the pins, and its bytes
//! after it.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use archyard_model::{Blake3, ContextManifest, limits};

use super::Store;
use super::manifest::{HEAD, files, remove_if_there};
use super::pins::key;
use super::store::exists;
use crate::clock::Clock;
use crate::disk;
use crate::pace::{Pace, Stopped};

/// A context whose files are all here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) manifest: Blake3,
    /// When a build was last submitted from it, or it was brought.
    pub(crate) used: SystemTime,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Removed {
    pub(crate) blobs: u64,
    /// On the disk.
    pub(crate) bytes: u64,
}

/// Why a pass over the store ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cut {
    #[error("the scheduler stops")]
    Stopped,
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

impl From<Stopped> for Cut {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl Store {
    pub(crate) fn clock(&self) -> &Clock {
        self.pins.clock()
    }

    /// All contexts whose files are here, in no order.
    pub(crate) fn contexts(&self) -> Result<Vec<Context>, disk::Error> {
        let folder = self.root().join("verified");
        let list = || {
            let mut contexts = Vec::new();
            for marker in fs::read_dir(&folder)? {
                let marker = marker?;
                let Some(manifest) = digest_of(&marker.file_name().to_string_lossy()) else { continue };
                match marker.metadata().and_then(|metadata| metadata.modified()) {
                    Ok(used) if self.has(manifest) => contexts.push(Context { manifest, used }),
                    // A marker without its manifest says nothing.
                    Ok(_) => remove_if_there(&marker.path())?,
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            io::Result::Ok(contexts)
        };
        list().map_err(|source| self.wrong(&folder, source))
    }

    /// The blobs of a context, its manifest included, each once. None: the manifest is not here, or is none.
    pub(crate) fn named(&self, manifest: Blake3) -> Option<Vec<Blake3>> {
        let (_, size) = self.open_blob(manifest).ok()?;
        if size > limits::CONTEXT_MANIFEST_BYTES {
            return None;
        }
        let decoded = ContextManifest::decode(&self.read_whole(manifest).ok()?).ok()?;
        let mut named = files(&decoded);
        named.push(manifest);
        Some(named)
    }

    /// What a blob occupies on the disk: holes do not count.
    pub(crate) fn bytes_on_disk(&self, digest: Blake3) -> u64 {
        let size = |path: &Path| fs::symlink_metadata(path).ok().map(|metadata| metadata.blocks() * 512);
        size(&self.path(digest)).or_else(|| size(&self.partial(digest))).unwrap_or_default()
    }

    /// Whether somebody was told of a blob, or brought it, at `since` or later, or counts on it now.
    pub(crate) fn is_pinned(&self, digest: Blake3, since: Duration) -> bool {
        self.pins.is_pinned(digest, since)
    }

    /// Forgets pins of before `since`.
    pub(crate) fn forget_pins(&self, since: Duration) {
        self.pins.forget(since);
    }

    /// Removes a manifest, so that its context is not here any more. False: it is pinned.
    /// Durable after [`sync_removed`](Self::sync_removed).
    pub(crate) fn remove_manifest(
        &self,
        manifest: Blake3,
        since: Duration,
        removed: &mut Removed,
    ) -> Result<bool, disk::Error> {
        if !self.remove(&self.path(manifest), manifest, since, removed)? {
            return Ok(false);
        }
        let marker = self.verified(manifest);
        remove_if_there(&marker).map_err(|source| self.wrong(&marker, source))?;
        Ok(true)
    }

    /// Makes it durable that these blobs have no names any more.
    pub(crate) fn sync_removed(&self, digests: &[Blake3]) -> Result<(), disk::Error> {
        self.sync_names(digests)
    }

    /// Removes manifests with gaps that nobody completes.
    pub(crate) fn sweep_partial(
        &self,
        kept: &HashSet<u64>,
        since: Duration,
        removed: &mut Removed,
    ) -> Result<(), disk::Error> {
        for path in self.paths_in(&self.root().join("partial"))? {
            let Some(digest) = path.file_name().and_then(|name| digest_of(&name.to_string_lossy())) else {
                continue;
            };
            if !kept.contains(&key(digest)) {
                self.remove(&path, digest, since, removed)?;
            }
        }
        Ok(())
    }

    /// Removes manifests that are not in `kept` and that nothing lists: their markers were lost. Returns those that are
    /// pinned: what they name must stay too. A file that only looks like a manifest goes as well.
    pub(crate) fn sweep_manifests(
        &self,
        kept: &HashSet<u64>,
        since: Duration,
        pace: &mut Pace,
        removed: &mut Removed,
    ) -> Result<Vec<Blake3>, Cut> {
        let (mut gone, mut pinned) = (Vec::new(), Vec::new());
        self.walk(pace, |path, digest| {
            if !kept.contains(&key(digest)) && begins_as_manifest(path) {
                match self.remove(path, digest, since, removed)? {
                    true => gone.push(digest),
                    false => pinned.push(digest),
                }
            }
            Ok(())
        })?;
        self.sync_removed(&gone)?;
        Ok(pinned)
    }

    /// Removes the other blobs that are not in `kept`. What looks like a manifest has come since and stays.
    pub(crate) fn sweep_files(
        &self,
        kept: &HashSet<u64>,
        since: Duration,
        pace: &mut Pace,
        removed: &mut Removed,
    ) -> Result<(), Cut> {
        self.walk(pace, |path, digest| {
            if !kept.contains(&key(digest)) && !begins_as_manifest(path) {
                self.remove(path, digest, since, removed)?;
            }
            Ok(())
        })
    }

    /// Calls `see` for every blob that is here.
    pub(crate) fn walk(
        &self,
        pace: &mut Pace,
        mut see: impl FnMut(&Path, Blake3) -> Result<(), disk::Error>,
    ) -> Result<(), Cut> {
        for shard in self.shards() {
            let first = shard.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for path in self.paths_in(&shard)? {
                let rest = path.file_name().unwrap_or_default().to_string_lossy();
                if let Some(digest) = digest_of(&format!("{first}{rest}")) {
                    see(&path, digest)?;
                }
                pace.step()?;
            }
        }
        Ok(())
    }

    fn paths_in(&self, folder: &Path) -> Result<Vec<PathBuf>, disk::Error> {
        let list = || {
            fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
        };
        list().map_err(|source| self.wrong(folder, source))
    }

    /// Takes a blob's name away unless it is pinned, then frees its bytes. False: it is pinned.
    fn remove(
        &self,
        path: &Path,
        digest: Blake3,
        since: Duration,
        removed: &mut Removed,
    ) -> Result<bool, disk::Error> {
        let bytes = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata.blocks() * 512,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
            Err(source) => return Err(self.wrong(path, source)),
        };
        // Freeing a large file takes long; losing its name does not, and only that is done under the lock.
        let aside = self.incoming().join(format!("removed-{}", digest.hex()));
        let taken = self.pins.take_away(digest, since, || fs::rename(path, &aside));
        if !taken.map_err(|source| self.wrong(path, source))? {
            return Ok(false);
        }
        fs::remove_file(&aside).map_err(|source| self.wrong(&aside, source))?;
        removed.blobs += 1;
        removed.bytes += bytes;
        Ok(true)
    }
}

fn digest_of(hex: &str) -> Option<Blake3> {
    format!("blake3:{hex}").parse().ok()
}

/// Whether a blob begins as manifests do. One that is not here any more does not.
fn begins_as_manifest(path: &Path) -> bool {
    let mut head = [0; HEAD.len()];
    exists(path)
        && fs::File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok_and(|()| head == HEAD)
}
