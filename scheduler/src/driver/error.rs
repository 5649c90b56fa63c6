//! Why the driver did not do what it was asked.

use crate::core::Refusal;

/// What a caller of the [`Handle`](super::Handle) is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The core understood and declined.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// UNAVAILABLE: the scheduler is going down, or its journal failed. Nothing was recorded; ask again later.
    #[error("the scheduler is stopping; nothing was recorded, try again")]
    Stopped,
    /// RESOURCE_EXHAUSTED: the journal's disk is full. Nothing was recorded.
    #[error(
        "the scheduler's disk is full; nothing was recorded. Free space at its --data-dir and restart it"
    )]
    DiskFull,
}
