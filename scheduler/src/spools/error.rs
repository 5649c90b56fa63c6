//! Why bytes of a log were not taken.

use archyard_model::{AttemptId, limits};

use crate::disk;

/// What went wrong with a spool.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// OUT_OF_RANGE: the worker goes on where the last acknowledgement said.
    #[error(
        "attempt {attempt}: data at byte {offset} leaves a gap, the spool holds {held} bytes; open it again and go on from there"
    )]
    Gap {
        /// Whose.
        attempt: AttemptId,
        /// Where the data would begin.
        offset: u64,
        /// What there is.
        held: u64,
    },
    /// RESOURCE_EXHAUSTED.
    #[error("attempt {0}: a log has at most {max} bytes; what comes after is dropped by the runner", max = limits::SPOOL_BYTES)]
    TooLong(AttemptId),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}
