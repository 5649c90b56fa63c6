//! Why an artifact was not taken or given.

use crate::{blobs, disk};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// As blobs have it: INVALID_ARGUMENT, NOT_FOUND, or the disk.
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    /// RESOURCE_EXHAUSTED.
    #[error(
        "the scheduler keeps {kept} bytes for clients to fetch and may keep {most}: {size} more do not fit; fetch what is \
         waiting, or start it with a larger --artifacts-size"
    )]
    Full {
        /// Kept now, in bytes, uploads under way included.
        kept: u64,
        /// The limit, in bytes.
        most: u64,
        /// The blob's length in bytes.
        size: u64,
    },
    /// UNAVAILABLE: another build let go of a blob at this moment. Asking again what is missing mends it.
    #[error("a blob went away while it was to be kept for another build; ask again which are missing")]
    Raced,
}

impl From<disk::Error> for Error {
    fn from(error: disk::Error) -> Self {
        Self::Blobs(error.into())
    }
}
