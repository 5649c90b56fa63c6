//! A directory as a content-addressed snapshot.

mod open;
mod snapshot;

pub use snapshot::{BlobReader, BlobSource, Snapshot};
