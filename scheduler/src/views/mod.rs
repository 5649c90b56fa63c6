//! What is asked about builds that have ended: their records, their events, and lists of them.
//!
//! One file a build, written once and whole. Names sort by time and folders are cut from names, so a listing walks
//! them newest first and needs no index that could disagree with the records. Knows nothing of builds that run.

mod file;
mod index;
mod list;
mod store;

pub use file::summary;
pub(crate) use index::Ended;
pub use list::{Page, Query};
pub use store::Views;

use archyard_model::BuildId;

use crate::disk;

/// What went wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// A file that this program did not write so.
    #[error("the record of build {build} is damaged: {problem}; restore {path} from a backup or remove it")]
    Corrupt {
        /// Whose.
        build: BuildId,
        /// Its file.
        path: String,
        /// What does not fit.
        problem: String,
    },
}
