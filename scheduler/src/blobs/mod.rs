//! Contexts and other bytes, by the BLAKE3 of their content, on this machine's disk. What workers leave for clients lies
//! in a store of the same make, which [`artifacts`](crate::artifacts) keeps.
//!
//! A blob appears under its name whole, verified and synced, or not at all. A context's manifest appears only once
//! every file it names is here: whoever finds it need not ask for them. All calls block; services run them on the
//! blocking pool, one message at a time, so that no transfer is ever held whole in memory.

mod claim;
mod error;
mod ingest;
mod manifest;
mod pins;
mod read;
mod retain;
mod store;
#[cfg(test)]
mod tests;

pub use claim::Claim;
pub use error::Error;
pub use ingest::{Ingest, Stored};
pub(crate) use pins::key;
pub use read::Reader;
pub(crate) use retain::{Context, Cut, Removed};
pub use store::{Holds, Store};
