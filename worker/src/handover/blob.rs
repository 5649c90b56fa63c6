//! One thing to leave, and its name within the farm.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use archyard_model::{Artifact, Blake3, Sha256};
use bytes::Bytes;

use super::HandoverError;

/// Read in pieces of this size.
const PIECE_BYTES: usize = 256 * 1024;

/// Bytes to leave.
#[derive(Debug, Clone)]
pub struct Blob {
    /// What it is.
    pub media_type: String,
    /// As OCI names it.
    pub digest: Sha256,
    /// Its length in bytes.
    pub size: u64,
    /// Where it is.
    pub content: Content,
}

/// Where bytes are.
#[derive(Debug, Clone)]
pub enum Content {
    /// Here.
    Memory(Bytes),
    /// In a file, open: nobody can take it away any more. With its path, for messages.
    File(Arc<File>, PathBuf),
}

impl Blob {
    /// By what the farm calls it. Reads all of it.
    pub(super) async fn hash(&self) -> Result<Blake3, HandoverError> {
        let (content, size) = (self.content.clone(), self.size);
        let hashed = tokio::task::spawn_blocking(move || content.hash(size)).await;
        hashed.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| self.wrong(error))
    }

    pub(super) fn artifact(&self, blob: Blake3) -> Artifact {
        Artifact { media_type: self.media_type.clone(), digest: self.digest, size: self.size, blob }
    }

    /// An error of reading it.
    pub(super) fn wrong(&self, error: io::Error) -> HandoverError {
        let path = match &self.content {
            Content::Memory(_) => PathBuf::new(),
            Content::File(_, path) => path.clone(),
        };
        HandoverError::Disk { path, error }
    }
}

impl Content {
    /// At most `most` bytes from `offset` on. Blocks.
    pub(super) fn read(&self, offset: u64, most: usize) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(from..bytes.len().min(from.saturating_add(most))))
            }
            Self::File(file, _) => {
                let mut data = vec![0; most];
                file.read_exact_at(&mut data, offset)?;
                Ok(data.into())
            }
        }
    }

    fn hash(&self, size: u64) -> io::Result<Blake3> {
        let mut hasher = blake3::Hasher::new();
        match self {
            Self::Memory(bytes) => drop(hasher.update(bytes)),
            Self::File(file, _) => {
                let mut at = 0;
                let mut piece = vec![0; PIECE_BYTES];
                while at < size {
                    let length = usize::try_from(size - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
                    file.read_exact_at(&mut piece[..length], at)?;
                    hasher.update(&piece[..length]);
                    at += length as u64;
                }
            }
        }
        Ok(hasher.finalize().into())
    }
}
