//! The Engine of Debian 13, whatever Debian the host is: `docker.io` 26.1 and
//! containerd 1.7 unpacked from their packages into the cache, and buildx beside
//! them. Nothing of it is installed; runc is the host's, for 13's wants 13's libc.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt;
use crate::cache;
use crate::images::native;
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
    cache::once(&name()?, |work| {
        eprintln!("xtask: fetching Debian 13's docker.io, containerd and docker-buildx (70 MB)");
        fetch(work).context(
            "the Engine of Debian 13 cannot be had; it is fetched from this host's own mirror of Debian, suite trixie",
        )
    })
    .map(drop)
}

fn fetch(work: &Path) -> Result<PathBuf> {
    let [own, _] = native()?;
    let architecture = own.debian()?;
    let files = apt::from_release(SUITE, |sources, number| {
        apt::unpack(&work.join(number.to_string()), architecture, Some(sources), &PACKAGES)
    })?;
    let bin = work.join("bin");
    fs::create_dir(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
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
    Ok(bin)
}

fn name() -> Result<String> {
    let [own, _] = native()?;
    Ok(format!("debian13/{}", own.debian()?))
}

fn folder() -> Result<PathBuf> {
    Ok(workspace::cache().join(name()?))
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
