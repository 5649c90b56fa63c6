//! The worker: an [agent](agent::Worker) that speaks for its machine, and a [runner](runner::run) process per
//! attempt that builds.
//!
//! The two share one folder per [attempt] and nothing else, so either may die without the other. A worker only
//! ever dials; it runs what its machine runs natively, and no emulator is ever used.

pub mod agent;
pub mod attempt;
mod backoff;
pub mod cache;
pub mod config;
pub mod engine;
mod excerpt;
pub mod handover;
mod images;
pub mod inspect;
mod kept;
pub mod layout;
mod lock;
mod machine;
pub mod platform;
pub mod runner;
pub mod scheduler;
pub mod sent;
pub mod spool;

pub use agent::{Worker, WorkerError};
pub use config::{OnExit, WorkerConfig};
pub use scheduler::Scheduler;
