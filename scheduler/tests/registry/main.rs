//! The lock and the publisher against a real registry, the one that `cargo xtask test` brings up, and against
//! registries that misbehave.
#![allow(clippy::unwrap_used, reason = "what is not as it should be fails the test")]

mod bring;
mod fixture;
#[path = "../services/harness.rs"]
#[allow(dead_code, reason = "shared with the services' tests, which use all of it")]
mod harness;
mod lock;
mod locked;
mod promote;
mod publish;
mod pushed;
mod slow;
