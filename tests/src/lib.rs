//! The harness of the end-to-end tests: a farm of real processes on real Engines, and projects to build.
//!
//! Every farm has folders, sockets and worker names of its own, so tests share nothing but the Engines and the
//! registry that `cargo xtask test` started. A test without those fails; none skips itself. Nothing here
//! fakes an Engine, a registry or an architecture.
#![allow(clippy::unwrap_used, missing_docs, reason = "a harness that cannot go on panics with its reason")]

pub mod client;
pub mod differential;
pub mod docs;
pub mod emulator;
pub mod farm;
pub mod login;
pub mod process;
pub mod project;
pub mod sim;
pub mod tls;

pub use farm::{Farm, Outcome};
pub use project::Project;
pub use xtask::coordinates::Coordinates;
