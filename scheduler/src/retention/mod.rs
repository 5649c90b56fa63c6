//! Bounds what the scheduler keeps, by age and by size, per project and in total: contexts, logs, records, and what
//! workers left for clients.
//!
//! Limits remove the oldest first, and never what a queued, running or recent build needs: its context, its record, its
//! log. What is needed follows from the core's builds and from the records; what is about to be needed is pinned in
//! [`blobs`](crate::blobs). Nothing here is journaled: after a crash the next pass finds the same again.

mod budget;
mod builds;
mod contexts;
mod keeper;
mod options;
mod pass;
mod removed;
#[cfg(test)]
mod tests;
mod usage;

pub(crate) use keeper::Stores;
pub use keeper::{Error, Retention};
pub use options::{Keep, Limit, Options};
pub use pass::{Class, Freed, Prune};
pub(crate) use removed::What;
pub use usage::{Usage, Usages};
