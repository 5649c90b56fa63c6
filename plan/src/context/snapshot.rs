//! What was scanned, and its bytes for whoever uploads them.
//!
//! Nothing is kept in memory but the table of contents: a blob is read again when it is asked for, and hashed
//! on the way, so that a file written to in between is noticed and never sent under a digest it does not have.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use archyard_model::{Blake3, ContextManifest, ContextRef, EntryKind};

use super::open;
use super::walk::as_path;
use crate::Error;

/// A scanned context.
#[derive(Debug)]
pub struct Snapshot {
    /// Its table of contents.
    pub manifest: ContextManifest,
    /// The manifest as it travels: itself a blob, under [`ContextRef::manifest_digest`].
    pub encoded: Vec<u8>,
    /// What the plan holds of it.
    pub reference: ContextRef,
    root: OwnedFd,
    by_digest: OnceLock<HashMap<Blake3, u32>>,
}

/// One file's content, named once even if several files have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobSource<'a> {
    /// Its BLAKE3.
    pub digest: Blake3,
    /// In bytes.
    pub size: u64,
    /// The first file that has it, relative to the context.
    pub path: &'a Path,
}

impl Snapshot {
    /// Of a manifest and the open root that its files are read from.
    pub(super) fn new(manifest: ContextManifest, root: OwnedFd) -> Self {
        // Two passes over all entries, side by side.
        let (encoded, reference) = std::thread::scope(|scope| {
            let digest = scope.spawn(|| manifest.digest());
            let encoded = manifest.encode();
            let manifest_digest = Blake3::of(&encoded);
            let digest = digest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (encoded, manifest.to_ref_of(digest, manifest_digest))
        });
        Self { manifest, encoded, reference, root, by_digest: OnceLock::new() }
    }

    /// Every content once, in the manifest's order.
    pub fn blobs(&self) -> impl Iterator<Item = BlobSource<'_>> {
        let index = self.index();
        (0..).zip(self.manifest.entries()).filter_map(move |(at, entry)| match entry.kind {
            EntryKind::File { size, digest } if index.get(&digest) == Some(&at) => {
                Some(BlobSource { digest, size, path: as_path(&entry.path) })
            }
            _ => None,
        })
    }

    /// The blob with this digest, if a file of this context has it.
    pub fn blob(&self, digest: Blake3) -> Option<BlobSource<'_>> {
        let at = *self.index().get(&digest)? as usize;
        let entry = self.manifest.entries().get(at)?;
        match entry.kind {
            EntryKind::File { size, digest } => Some(BlobSource { digest, size, path: as_path(&entry.path) }),
            _ => None,
        }
    }

    /// Opens a blob for one pass.
    ///
    /// # Errors
    /// [`Error::FileChanged`] if no file has this content any more; others as the operating system gives them.
    pub fn open(&self, blob: BlobSource<'_>) -> Result<BlobReader, Error> {
        let path = blob.path.to_owned();
        let file = match open::file(&self.root, blob.path) {
            Ok(file) => file,
            Err(error) if open::is_replaced(&error) => return Err(Error::FileChanged { path }),
            Err(error) => return Err(Error::read(&path, error)),
        };
        Ok(BlobReader {
            file,
            path,
            digest: blob.digest,
            remaining: blob.size,
            hasher: blake3::Hasher::new(),
        })
    }

    fn index(&self) -> &HashMap<Blake3, u32> {
        self.by_digest.get_or_init(|| {
            let mut index = HashMap::new();
            for (at, entry) in (0..).zip(self.manifest.entries()) {
                if let EntryKind::File { digest, .. } = entry.kind
                    && let Entry::Vacant(vacant) = index.entry(digest)
                {
                    vacant.insert(at);
                }
            }
            index
        })
    }
}

/// Reads a blob and fails, rather than give its last bytes, if they are not what was scanned. The failure is
/// an [`io::Error`] around [`Error::FileChanged`]: see [`Error::from_read`].
#[derive(Debug)]
pub struct BlobReader {
    file: File,
    path: PathBuf,
    digest: Blake3,
    remaining: u64,
    hasher: blake3::Hasher,
}

impl BlobReader {
    /// Bytes still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    fn changed(&self) -> io::Error {
        io::Error::other(Error::FileChanged { path: self.path.clone() })
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.remaining == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        let read = match self.file.read(&mut buffer[..most]) {
            Err(error) if open::is_replaced(&error) => return Err(self.changed()),
            read => read?,
        };
        if read == 0 {
            return Err(self.changed());
        }
        self.hasher.update(&buffer[..read]);
        self.remaining -= read as u64;
        if self.remaining == 0 && Blake3::from(self.hasher.finalize()) != self.digest {
            return Err(self.changed());
        }
        Ok(read)
    }
}
