//! What workers leave for clients: image blobs and root file systems, by the BLAKE3 of their content, for a while.
//!
//! ```text
//! artifacts/blobs/...            the blobs, in a store as contexts have one
//! artifacts/builds/ID/HEX        a hard link: build ID needs this blob
//! ```
//! A blob goes with the last build that needs it, and the file system itself counts those: nothing can disagree with it
//! after a crash. Who may fetch what is said by the builds' records, not here. All calls block.

mod error;
mod kept;
mod sweep;
#[cfg(test)]
mod tests;
mod upload;

pub use error::Error;
pub use kept::{Artifacts, Options};
pub use sweep::sweep;
pub use upload::Upload;
