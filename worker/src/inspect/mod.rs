//! Whether an image is what its job asked for: made for its platform, and able to run there what it says it runs.
//!
//! Told from the image's config and from what its layers hold, without running any of it. A layer is read once, as
//! it streams by on its way to a registry, and its small [`Index`] is kept; indexes make a [`Tree`], and in that
//! the command is looked up as a container's runtime would.
//!
//! Everything in an image is hostile. Nothing here talks to an Engine or a network, runs or unpacks anything, or
//! holds a file in memory whole.

mod access;
mod command;
mod config;
mod content;
mod elf;
mod fault;
mod folder;
mod index;
mod judge;
mod layer;
mod machine;
mod nodes;
mod origin;
mod resolve;
mod script;
mod seen;
mod store;
mod tree;
mod walk;

pub use config::{Config, ConfigError, Step};
pub use folder::FolderError;
pub use index::{Index, ReadError, Unusable};
pub use judge::{Job, Verdict, Warning, judge};
pub use origin::Written;
pub use store::Store;
pub use tree::{MergeError, Tree};

#[cfg(test)]
mod property;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
