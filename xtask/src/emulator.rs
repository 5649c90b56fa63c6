//! A real emulator of a platform that no test stands on otherwise, for the tests that
//! show that none is ever used: Debian's `qemu-user-static`, unpacked and never
//! installed, for its scripts would register every emulator with the kernel.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::apt;
use crate::busybox;
use crate::cache;
use crate::images::{Platform, native};
use crate::workspace;

const PLATFORM: &str = "linux/s390x";
const PROGRAM: &str = "qemu-s390x-static";
const PACKAGE: [&str; 1] = ["qemu-user-static"];

/// What it emulates.
///
/// # Errors
/// Never: the name is one of ours.
pub fn platform() -> Result<Platform> {
    Platform::parse(PLATFORM)
}

/// Sees to it that the emulator and a program for it are in the cache.
///
/// # Errors
/// When one of them cannot be had.
pub fn ensure() -> Result<()> {
    busybox::ensure(&[platform()?], &[])?;
    cache::once(&name()?, |work| {
        eprintln!("xtask: fetching Debian's qemu-user-static (15 MB)");
        fetch(work).context("the emulator that tests show unused cannot be had")
    })
    .map(drop)
}

fn fetch(work: &Path) -> Result<PathBuf> {
    let [own, _] = native()?;
    let architecture = own.debian()?;
    let unpacked =
        apt::persistently(|tries| apt::unpack(&work.join(tries.to_string()), architecture, None, &PACKAGE))?;
    let bin = work.join("bin");
    fs::create_dir(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    let from = unpacked.files.join("usr/bin").join(PROGRAM);
    // Newer packages have links to a package of links; those are of no use here.
    fs::copy(&from, bin.join(PROGRAM)).with_context(|| format!("the package lacks {PROGRAM}"))?;
    Ok(bin)
}

/// The emulator: a static program.
///
/// # Errors
/// When it is not in the cache: see [`ensure`].
pub fn program() -> Result<PathBuf> {
    let path = workspace::cache().join(name()?).join(PROGRAM);
    if !path.is_file() {
        bail!("the emulator was not fetched ({}): `cargo xtask test` does", path.display());
    }
    Ok(path)
}

fn name() -> Result<String> {
    let [own, _] = native()?;
    Ok(format!("emulator/{}", own.debian()?))
}
