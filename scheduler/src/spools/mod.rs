//! The attempts' logs as they arrive: append-only files, one an attempt, read while they grow.
//!
//! Byte for byte what the runner spooled, and never anything else: offsets are checked, overlaps trimmed, gaps
//! refused. Nothing here looks into a log.

mod error;
mod folder;
mod spool;

pub use error::Error;
pub use folder::Spools;
pub use spool::{Progress, Spool};
