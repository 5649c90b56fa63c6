//! Where things lie when no flag says so.
//!
//! Root's farm is the machine's: `/run` and `/var/lib`. Everybody else's is their own, in the XDG folders.

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use archyard_model::Invalid;

use crate::edge;

/// The scheduler's socket. None where an ordinary user has no folder for sockets.
pub(crate) fn default_socket() -> Option<PathBuf> {
    if is_root() {
        return Some(PathBuf::from("/run/archyard/scheduler.sock"));
    }
    dirs::runtime_dir().map(|dir| dir.join("archyard/scheduler.sock"))
}

/// The folder of `archyard scheduler`, `worker` and `up`: each has its own below it.
pub(crate) fn data_dir(role: &str) -> Result<PathBuf> {
    let base = if is_root() { PathBuf::from("/var/lib/archyard") } else { state_dir()? };
    Ok(base.join(role))
}

/// What the farms of `archyard build` keep between builds.
pub(crate) fn state_dir() -> Result<PathBuf> {
    Ok(dirs::state_dir()
        .context("neither XDG_STATE_HOME nor HOME is set: there is no folder for the farm's data")?
        .join("archyard"))
}

/// Digests of unchanged files. None: they are not remembered.
pub(crate) fn context_cache() -> Option<PathBuf> {
    dirs::cache_dir().map(|dir| dir.join("archyard/contexts"))
}

/// The Engine that `docker` would use: `DOCKER_HOST`, else the default socket.
pub(crate) fn default_engine() -> Result<String, Invalid> {
    match env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()) {
        Some(host) => edge::engine(&host).map_err(|invalid| invalid.of("DOCKER_HOST")),
        None => Ok("unix:///var/run/docker.sock".to_owned()),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
