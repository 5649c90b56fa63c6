//! Flags and a source become a [`Plan`](archyard_model::Plan).
//!
//! [`plan`] reads a directory, its ignore file and a Dockerfile, and resolves all that can be known before a
//! farm is asked: platforms normalised, tags parsed, files chosen and hashed, every image that the Dockerfile
//! names found. It talks to nobody, writes nothing but its own cache, and never follows a link inside a
//! context.
//!
//! Everything here is synchronous and may take as long as the disk does: call it from a blocking thread.

pub mod context;
pub mod dockerfile;
pub mod dockerignore;
mod error;
mod files;
pub mod flags;
pub mod print;
pub mod request;
#[cfg(test)]
mod tests;

pub use context::{BlobReader, BlobSource, Snapshot};
pub use error::{Error, ErrorKind};
pub use request::{CheckFlags, Host, PlanRequest, Planned, plan};
