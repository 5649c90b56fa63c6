//! The Engine of Debian 13, whatever Debian the host is: `docker.io` 26.1 and
//! containerd 1.7 unpacked from their packages into the cache, and buildx beside
//! them. Nothing of it is installed; runc is the host's, for 13's wants 13's libc.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::apt;
use crate::images::native;
use crate::interrupt;
use crate::run;
use crate::workspace;

const SUITE: &str = "trixie";
/// What that release has: with another the tests would prove something else.
const ENGINE_VERSION: &str = "26.1.";
const PACKAGES: [&str; 3] = ["docker.io", "containerd", "docker-buildx"];
/// What is kept of the packages.
const PROGRAMS: [&str; 5] = [
    "usr/sbin/dockerd",
    "usr/sbin/docker-proxy",
    "usr/bin/containerd",
    "usr/bin/containerd-shim-runc-v2",
    "usr/libexec/docker/cli-plugins/docker-buildx",
];

/// Sees to it that the programs are in the cache.
///
/// # Errors
/// When they cannot be had, or do not run on this host.
pub fn ensure() -> Result<()> {
    let folder = folder()?;
    if folder.is_dir() {
        return Ok(());
    }
    let cache = workspace::cache();
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    // Tests run side by side: one fetches, the others wait for it.
    let path = cache.join("debian13.lock");
    let lock = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let locked = interrupt::wait_for(Duration::from_secs(600), || match lock.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(false),
        result => result.map(|()| true).with_context(|| format!("cannot lock {}", path.display())),
    })?;
    if !locked {
        bail!("another run of xtask fetches Debian 13's Engine for ten minutes already: look after it");
    }
    if folder.is_dir() {
        return Ok(());
    }
    eprintln!("xtask: fetching Debian 13's docker.io, containerd and docker-buildx (70 MB)");
    fetch(&cache, &folder).context(
        "the Engine of Debian 13 cannot be had; it is fetched from this host's own mirror of Debian, suite trixie",
    )
}

fn fetch(cache: &Path, folder: &Path) -> Result<()> {
    let [own, _] = native()?;
    let architecture = own.debian()?;
    let sources = apt::release(SUITE)?;
    let work = tempfile::tempdir_in(cache).context("cannot create a work folder")?;
    let files = apt::persistently(|tries| {
        let mut last = None;
        for (sources, number) in sources.iter().zip(1..) {
            let work = work.path().join(format!("{tries}-{number}"));
            match apt::unpack(&work, architecture, Some(sources), &PACKAGES) {
                Ok(files) => return Ok(files),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("there is no mirror")?)
    })?;
    let bin = work.path().join("bin");
    for dir in [Some(bin.as_path()), folder.parent()].into_iter().flatten() {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    for program in PROGRAMS {
        let from = files.join(program);
        let name = from.file_name().context("a program without a name")?;
        fs::rename(&from, bin.join(name)).with_context(|| format!("the packages lack {program}"))?;
    }
    let version = run::output(Command::new(bin.join("dockerd")).arg("--version"))
        .context("it does not run on this host")?;
    if !version.contains(&format!("version {ENGINE_VERSION}")) {
        bail!("it is another version than {ENGINE_VERSION}x: {}", version.trim());
    }
    fs::rename(&bin, folder).with_context(|| format!("cannot keep it in {}", folder.display()))
}

fn folder() -> Result<PathBuf> {
    let [own, _] = native()?;
    Ok(workspace::cache().join("debian13").join(own.debian()?))
}

/// One of the programs: `dockerd`, `containerd`, or `docker-buildx`, which runs by
/// itself (`docker-buildx build`, with `DOCKER_HOST`) and as a plugin of `docker` when
/// linked under `$DOCKER_CONFIG/cli-plugins/`.
///
/// # Errors
/// When it is not in the cache: see [`ensure`].
pub fn program(name: &str) -> Result<PathBuf> {
    let path = folder()?.join(name);
    if !path.is_file() {
        bail!("Debian 13's {name} was not fetched ({})", path.display());
    }
    Ok(path)
}

/// Where these programs look for each other, and then for runc.
///
/// # Errors
/// When the folder's name cannot be in a PATH.
pub fn search_path() -> Result<OsString> {
    let folder = folder()?;
    let path = run::search_path();
    let dirs = std::iter::once(folder).chain(std::env::split_paths(&path));
    std::env::join_paths(dirs).context("the checkout lies in a folder with a colon in its name: move it")
}
