//! The farm's own processes, as every command that runs one starts them: `scheduler`, `worker`, `up`, and `build` without
//! a farm. The same code over the same protocol, whatever the command.

pub(crate) mod retention;
pub(crate) mod scheduler;
pub(crate) mod worker;

use anyhow::{Context as _, Result};

/// To be called first by whatever becomes a scheduler or a worker: both speak to registries.
pub(crate) fn reach_registries() -> Result<()> {
    archyard_net::ensure_roots()
        .context("this machine has no CA certificates, and Archyard cannot start anew to do without them")
}
