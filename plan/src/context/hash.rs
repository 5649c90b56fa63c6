//! Reads files on all cores, each with a buffer: a mapped file that shrinks would kill the process.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use archyard_model::Blake3;
use rustix::fs::{FileType, fstat};

use super::stamp::Stamp;
use super::walk::as_path;
use super::{open, xattr};
use crate::Error;

const BUFFER_BYTES: usize = 256 * 1024;
/// Pauses before a file that changed while it was read is read again; then it counts as one that never rests.
const PAUSES_MS: [u64; 5] = [0, 10, 50, 200, 500];

/// A file to read.
pub(super) struct Pending<'a> {
    /// Its place in the walk.
    pub(super) at: usize,
    /// Relative to the root.
    pub(super) path: &'a [u8],
}

/// A file that did not change while it was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hashed {
    pub(super) stamp: Stamp,
    pub(super) digest: Blake3,
    pub(super) xattrs: Vec<(String, Vec<u8>)>,
}

/// Reads them all; in no particular order. The first error ends it.
pub(super) fn all(
    root: &OwnedFd,
    pending: &[Pending<'_>],
    threads: usize,
) -> Result<Vec<(usize, Hashed)>, Error> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let work = || {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut done = Vec::new();
        while !failed.load(Ordering::Relaxed)
            && let Some(file) = pending.get(next.fetch_add(1, Ordering::Relaxed))
        {
            let hashed = settled(root, as_path(file.path), &mut buffer)
                .inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            done.push((file.at, hashed));
        }
        Ok(done)
    };
    let threads = threads.min(pending.len().div_ceil(16));
    if threads <= 1 {
        return work();
    }
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut done = Vec::with_capacity(pending.len());
        for handle in handles {
            done.extend(handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(done)
    })
}

/// Reads a file that stays the same from before to after. One that does not is read again a few times.
fn settled(root: &OwnedFd, path: &Path, buffer: &mut [u8]) -> Result<Hashed, Error> {
    for pause_ms in PAUSES_MS {
        std::thread::sleep(Duration::from_millis(pause_ms));
        match once(root, path, buffer) {
            Ok(Some(hashed)) => return Ok(hashed),
            Ok(None) => {}
            Err(error) if open::is_replaced(&error) => break,
            Err(error) => return Err(Error::read(path, error)),
        }
    }
    Err(Error::FileChanged { path: path.to_owned() })
}

fn once(root: &OwnedFd, path: &Path, buffer: &mut [u8]) -> io::Result<Option<Hashed>> {
    let mut file = open::file(root, path)?;
    let before = Stamp::from(fstat(&file)?);
    if before.file_type() != FileType::RegularFile {
        return Ok(None);
    }
    let xattrs = xattr::of(&file)?;
    let (digest, length) = digest(&mut file, before.size, buffer)?;
    let after = Stamp::from(fstat(&file)?);
    let same = before == after && length == before.size;
    Ok(same.then_some(Hashed { stamp: after, digest, xattrs }))
}

/// The digest of what is there, and its length; at most one byte more than was expected is read.
fn digest(file: &mut File, expected: u64, buffer: &mut [u8]) -> io::Result<(Blake3, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut length = 0;
    while length <= expected {
        let read = match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        length += read as u64;
    }
    Ok((hasher.finalize().into(), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's own files hold more than the length they state: to a reader, they grow all the time.
    #[test]
    fn a_file_that_never_rests_is_an_error_that_names_it() {
        let root = File::open("/proc").unwrap().into();
        let error = all(&root, &[Pending { at: 0, path: b"version" }], 1).unwrap_err();
        assert_eq!(error.code(), "file_changed");
        assert!(error.to_string().contains("version changed"), "{error}");
    }

    #[test]
    fn a_file_that_became_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("f")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("d")).unwrap();
        let root = File::open(dir.path()).unwrap().into();
        for path in [&b"f"[..], b"d/passwd", b"gone"] {
            assert!(all(&root, &[Pending { at: 0, path }], 1).is_err());
        }
    }
}
