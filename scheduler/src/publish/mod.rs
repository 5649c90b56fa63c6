//! The end of a build that publishes: verify what the workers pushed, push one index, move the tags.
//!
//! Everything may be done again: the same images give the same index, byte for byte, and a registry takes what it
//! has already. Nothing is pushed before the driver has journaled the index, no tag moves before the index is there
//! by its digest in every repository, and no temporary tag is ever made. Which build may move a tag is the core's to
//! say, not this module's.

mod failure;
mod promote;
mod publisher;

pub use publisher::{Failed, Ledger, publish};
