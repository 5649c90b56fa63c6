//! Why the store did not take or give a blob.

use archyard_model::{Blake3, Invalid};

use crate::disk;

/// What went wrong with a blob.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// INVALID_ARGUMENT.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// FAILED_PRECONDITION.
    #[error(
        "the scheduler lacks {count} of the files this build needs, the first is {first}; upload them and submit again"
    )]
    Missing {
        /// One of them.
        first: Blake3,
        /// How many.
        count: usize,
    },
    /// NOT_FOUND.
    #[error("no blob {0} on this scheduler")]
    NotFound(Blake3),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}
