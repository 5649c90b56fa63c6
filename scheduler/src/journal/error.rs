//! What goes wrong with a journal. All of it ends the scheduler: state must equal journal.

use std::path::PathBuf;

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
    #[error("{}: another scheduler uses this journal; stop it, or choose another --data folder", .0.display())]
    InUse(PathBuf),
    /// The driver's thread ended without a word.
    #[error("the scheduler's core ended unexpectedly; its panic message is above")]
    Crashed,
}
