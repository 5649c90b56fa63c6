//! Keeping the cache within its bound: the contexts that were used longest ago go, and what only they named.
//!
//! What a live runner uses is never touched: its context is pinned by a lock on the marker.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use archyard_model::{Blake3, ContextManifest};

use super::context::files;
use super::{Cache, path_in};
use crate::lock::{Lock, Mode};

/// What an eviction removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evicted {
    /// Contexts that are not complete here any more.
    pub contexts: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Cache {
    /// When a blob was last added; none when none ever was.
    pub fn grown_at(&self) -> Option<SystemTime> {
        fs::metadata(self.root.join("grown")).and_then(|grown| grown.modified()).ok()
    }

    /// Removes what is past `limit_bytes`, down to four fifths of it. Blocks, and reads every folder of the cache.
    /// Nothing is done, and nothing returned, while a context is being brought.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn evict(&self, limit_bytes: u64) -> io::Result<Option<Evicted>> {
        if self.total_bytes()? <= limit_bytes {
            return Ok(Some(Evicted::default()));
        }
        let Some(_alone) = Lock::try_open(&self.root.join("lock"), Mode::Exclusive)? else { return Ok(None) };
        let mut evicted = Evicted::default();
        let kept = self.choose(limit_bytes / 5 * 4, &mut evicted)?;
        for folder in [self.blobs(), self.old()] {
            for shard in fs::read_dir(&folder)? {
                self.sweep(&shard?.path(), &kept, &mut evicted)?;
            }
        }
        // Nobody writes now: what is there was left by a runner that died.
        for left in fs::read_dir(self.tmp())? {
            remove(&left?.path(), &mut evicted)?;
        }
        Ok(Some(evicted))
    }

    /// The blobs that stay: of the contexts used last, as many as fit, and of every pinned one.
    fn choose(&self, target_bytes: u64, evicted: &mut Evicted) -> io::Result<HashSet<u64>> {
        let mut markers = Vec::new();
        for marker in fs::read_dir(self.contexts())? {
            let marker = marker?;
            markers.push((marker.metadata()?.modified()?, marker.path()));
        }
        markers.sort_unstable_by(|a, b| b.cmp(a));
        let mut kept = HashSet::new();
        let mut kept_bytes = 0;
        for (_, marker) in markers {
            let named = self.named(&marker);
            let fresh: Vec<Blake3> = named.into_iter().filter(|blob| !kept.contains(&key(blob))).collect();
            let fresh_bytes: u64 = fresh.iter().map(|blob| self.size(blob)).sum();
            // Held for exclusive use while its name goes: a runner that opens it meanwhile makes a new one.
            let unpinned = if kept_bytes + fresh_bytes > target_bytes {
                Lock::try_open(&marker, Mode::Exclusive)?
            } else {
                None
            };
            if unpinned.is_some() {
                fs::remove_file(&marker)?;
                evicted.contexts += 1;
            } else {
                kept_bytes += fresh_bytes;
                kept.extend(fresh.iter().map(key));
            }
        }
        Ok(kept)
    }

    /// The blobs of a complete context, its manifest included.
    fn named(&self, marker: &Path) -> Vec<Blake3> {
        let name = marker.file_name().unwrap_or_default().to_string_lossy();
        let Ok(digest) = format!("blake3:{name}").parse::<Blake3>() else { return Vec::new() };
        let manifest = fs::read(self.blob_path(&digest)).ok();
        let manifest = manifest.and_then(|encoded| ContextManifest::decode(&encoded).ok());
        let mut named = manifest.map(|manifest| files(&manifest)).unwrap_or_default();
        named.push(digest);
        named.sort_unstable();
        named.dedup();
        named
    }

    fn size(&self, digest: &Blake3) -> u64 {
        fs::metadata(path_in(&self.blobs(), digest)).map_or(0, |blob| blob.len())
    }

    fn sweep(&self, shard: &Path, kept: &HashSet<u64>, evicted: &mut Evicted) -> io::Result<()> {
        for blob in fs::read_dir(shard)? {
            let path: PathBuf = blob?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let digest = format!("blake3:{name}").parse::<Blake3>();
            let stays = shard.starts_with(self.blobs()) && digest.is_ok_and(|d| kept.contains(&key(&d)));
            if !stays {
                remove(&path, evicted)?;
            }
        }
        Ok(())
    }

    fn total_bytes(&self) -> io::Result<u64> {
        let mut total = 0;
        for folder in [self.blobs(), self.old()] {
            for shard in fs::read_dir(&folder)? {
                for blob in fs::read_dir(shard?.path())? {
                    total += size_now(&blob?.path())?;
                }
            }
        }
        Ok(total)
    }
}

/// Eight bytes tell blobs apart well enough to keep one too many, never one too few.
fn key(digest: &Blake3) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

fn remove(path: &Path, evicted: &mut Evicted) -> io::Result<()> {
    let bytes = size_now(path)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    evicted.blobs += 1;
    evicted.bytes += bytes;
    Ok(())
}

/// None of what went in the meantime.
fn size_now(path: &Path) -> io::Result<u64> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}
