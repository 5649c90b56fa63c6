//! What a reboot does to the cache.
//!
//! Blobs are renamed without being synced, which is fast, and safe for as long as the kernel that holds them
//! runs. After a reboot a file may be there with other bytes: so the blobs of an earlier boot are put aside, and
//! each comes back when it is asked for and its bytes still are what its name says.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use archyard_model::Blake3;

use super::{Cache, path_in};
use crate::lock::{Lock, Mode};

/// Whether the cache at `root` was made ready since this machine booted.
pub(super) fn is_current(root: &Path) -> bool {
    fs::read_to_string(root.join("boot")).is_ok_and(|boot| boot == crate::machine::boot_id())
}

/// Puts the blobs of an earlier boot aside.
pub(super) fn enter(cache: &Cache) -> io::Result<()> {
    let lock = loop {
        if let Some(lock) = Lock::try_open(&cache.root.join("lock"), Mode::Exclusive)? {
            break lock;
        }
        // Another process of this boot is at it, or has done it and brings a context already.
        if is_current(&cache.root) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    };
    if !is_current(&cache.root) {
        for context in fs::read_dir(cache.contexts())? {
            fs::remove_file(context?.path())?;
        }
        for shard in fs::read_dir(cache.blobs())? {
            let shard = shard?;
            let aside = cache.old().join(shard.file_name());
            fs::create_dir_all(&aside)?;
            for blob in fs::read_dir(shard.path())? {
                let blob = blob?;
                fs::rename(blob.path(), aside.join(blob.file_name()))?;
            }
        }
        fs::write(cache.root.join("boot"), crate::machine::boot_id())?;
    }
    drop(lock);
    Ok(())
}

/// Brings a blob of an earlier boot back, when it is here and unharmed.
pub(super) fn recover(cache: &Cache, digest: &Blake3) -> bool {
    let old = path_in(&cache.old(), digest);
    let Ok(mut file) = File::open(&old) else { return false };
    let mut hasher = blake3::Hasher::new();
    if io::copy(&mut file, &mut hasher).is_err() || Blake3::from(hasher.finalize()) != *digest {
        // Harmed: the next eviction removes it.
        return false;
    }
    let path = cache.blob_path(digest);
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::rename(&old, &path)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_blobs(contents: &[&[u8]]) -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        for content in contents {
            let path = cache.blob_path(&Blake3::of(content));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::write(cache.contexts().join("any"), "complete").unwrap();
        (folder, cache)
    }

    #[test]
    fn the_same_boot_trusts_what_is_there() {
        let (folder, cache) = with_blobs(&[b"a"]);
        Cache::open(folder.path()).unwrap();
        assert!(cache.blob(&Blake3::of(b"a")).is_ok());
        assert_eq!(fs::read_dir(cache.contexts()).unwrap().count(), 1);
    }

    #[test]
    fn after_a_reboot_only_unharmed_blobs_come_back() {
        let (folder, cache) = with_blobs(&[b"whole", b"harmed"]);
        fs::write(cache.blob_path(&Blake3::of(b"harmed")), "\0\0\0\0\0\0").unwrap();
        fs::write(folder.path().join("boot"), "an earlier one").unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        assert_eq!(fs::read_dir(cache.contexts()).unwrap().count(), 0, "no context is taken for complete");
        assert!(cache.blob(&Blake3::of(b"whole")).is_err(), "nothing is trusted yet");
        assert!(cache.has(&Blake3::of(b"whole")) && cache.blob(&Blake3::of(b"whole")).is_ok());
        assert!(!cache.has(&Blake3::of(b"harmed")));
    }
}
