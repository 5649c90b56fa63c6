//! What goes wrong with a journal. All of it ends the scheduler: state must equal journal.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Why the journal cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No space, or over quota.
    #[error("{}: the disk is full; free some space and start the scheduler again", .0.display())]
    DiskFull(PathBuf),
    /// Any other trouble of the file system.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        source: std::io::Error,
    },
    /// Bytes that this program did not write so.
    #[error("{}: the journal is damaged: {problem}. Restore the folder from a backup, or move it away to start an empty farm", .path.display())]
    Corrupt {
        /// The file or folder.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
    /// Another scheduler has it.
    #[error("{}: another scheduler uses this journal; stop it, or choose another --data-dir", .0.display())]
    InUse(PathBuf),
    /// The driver's thread ended without a word.
    #[error("the scheduler's core ended unexpectedly; its panic message is above")]
    Crashed,
}

impl Error {
    /// What the file system said of this path.
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull(path.to_owned()),
            _ => Self::Io { path: path.to_owned(), source },
        }
    }

    /// What the embedded store said of this generation.
    pub(super) fn sled(path: &Path, error: sled::Error) -> Self {
        match error {
            sled::Error::Io(source) => Self::io(path, source),
            other => Self::Corrupt { path: path.join("db"), problem: other.to_string() },
        }
    }
}
