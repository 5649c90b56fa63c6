//! Talking to container registries: manifests and small blobs, nothing else.
//!
//! Says who is to blame when it fails: a reference that names nothing, an account that may not, a registry that is
//! down. What follows from that is for `lock` and `publish` to decide.

mod client;
mod error;
mod proxy;

pub use client::{Manifest, Registries, Registry};
pub use error::{Cause, Error};
