//! Placeholder.

pub mod core;
pub mod driver;
pub mod journal;
