//! The scheduler: it accepts builds, hands their jobs to workers, and publishes what they made.
//!
//! `core` decides, `driver` makes decisions durable and releases them, `journal` keeps them. Around these: `blobs`,
//! `artifacts`, `spools` and `views` keep what is too big for the journal and `retention` bounds them, `lock` and `publish`
//! speak to registries, `api` is what clients and workers see. Arrows point inwards: `core` knows nothing of the rest.

pub mod api;
pub mod artifacts;
pub mod blobs;
mod clock;
pub mod config;
pub mod core;
pub mod credentials;
pub mod disk;
pub mod driver;
mod error;
pub mod journal;
pub mod lock;
mod pace;
pub mod publish;
pub mod registry;
pub mod retention;
mod scheduler;
mod server;
mod shell;
pub mod spools;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod views;

pub use config::{Config, Listen, Times, TlsConfig};
pub use error::Error;
pub use scheduler::{Running, Scheduler, run};
