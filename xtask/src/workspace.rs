//! Where things are: the checkout, its target folder, and the folders that hold
//! what is running. Nothing here creates or removes anything.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of the checkout.
#[must_use]
pub fn root() -> PathBuf {
    // Cargo sets the variable when it runs us, so a moved checkout still works.
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .filter(|dir| dir.parent().is_some_and(|root| root.join("xtask/Cargo.toml").is_file()))
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    manifest.parent().unwrap_or(&manifest).to_path_buf()
}

/// Cargo's target folder.
#[must_use]
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// What may be kept from one run to the next, and be lost at any time.
#[must_use]
pub fn cache() -> PathBuf {
    target().join("xtask/cache")
}

/// The program that cargo built, `profile` being `debug` or `release`.
#[must_use]
pub fn binary(profile: &str) -> PathBuf {
    target().join(profile).join("archyard")
}

/// A path as a person would type it from the root of the checkout.
#[must_use]
pub fn relative(path: &Path) -> &Path {
    path.strip_prefix(env::current_dir().unwrap_or_default()).unwrap_or(path)
}

/// `$XDG_STATE_HOME`, or what stands for it.
///
/// # Errors
/// When neither it nor `HOME` is set.
pub fn state_home() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        return Ok(dir);
    }
    let home = env::var_os("HOME")
        .context("neither XDG_STATE_HOME nor HOME is set: set HOME to a folder you own")?;
    Ok(PathBuf::from(home).join(".local/state"))
}

/// Where sockets may live: short, for the path of a Unix socket has at most 107
/// bytes, and a few folders below the Engine's own run folder use 60 of them.
#[must_use]
pub fn runtime_home() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/run/archyard-xtask");
    }
    match env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|dir| dir.is_dir() && dir.as_os_str().len() < 32)
    {
        Some(dir) => dir.join("archyard-xtask"),
        None => PathBuf::from(format!("/tmp/archyard-xtask-{}", rustix::process::geteuid().as_raw())),
    }
}
