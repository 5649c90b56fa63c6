//! Talking to container registries: manifests and small blobs, and larger ones from one repository to another.
//!
//! Says who is to blame when it fails: a reference that names nothing, an account that may not, a registry that is
//! down. What follows from that is for `lock` and `publish` to decide.

mod client;
mod error;
mod passing;
mod proxy;
mod transfer;
mod triggers;

pub use client::{Manifest, Registries, Registry};
pub use error::{Cause, Error};
