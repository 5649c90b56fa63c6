//! Where facts become durable: appended in groups, replayed at the start, packed into a snapshot now and then.
//!
//! A journal keeps bytes and knows no rules. `codec` turns facts into records; `sled` is the embedded store, `memory`
//! the one that simulations crash.

use std::path::PathBuf;

mod chunk;
pub mod codec;
mod error;
mod generations;
pub mod memory;
pub mod sled;
mod witness;

pub use error::Error;

/// Keeps records, in order.
pub trait Journal: Send {
    /// Where it is, for messages.
    fn place(&self) -> PathBuf;
    /// Every record of the last snapshot and of all groups appended since, in order.
    fn replay(&mut self, each: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error>;
    /// Appends a group: all of it is durable when this returns, or, after a crash before that, none of it.
    fn append(&mut self, group: &[Vec<u8>]) -> Result<(), Error>;
    /// Whether what was appended since the last snapshot is worth packing.
    fn wants_snapshot(&self) -> bool;
    /// Replaces everything by these records.
    fn snapshot(&mut self, records: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), Error>;
}
