//! Base images without a registry to pull from: Debian's `busybox-static` of any
//! architecture.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::apt;
use crate::images::{Entry, Image, Platform, native, tar};
use crate::interrupt;
use crate::run;
use crate::workspace;

const PACKAGE: [&str; 1] = ["busybox-static"];
/// One per architecture of Debian 12, and riscv64, which came with Debian 13.
const EVERY: [&str; 10] = [
    "linux/amd64",
    "linux/386",
    "linux/arm64",
    "linux/arm/v5",
    "linux/arm/v7",
    "linux/mipsle",
    "linux/mips64le",
    "linux/ppc64le",
    "linux/s390x",
    "linux/riscv64",
];
/// Where those are found that the host's own release does not have.
const NEWER_SUITES: [&str; 2] = ["trixie", "forky"];

/// A real program of some platform, static.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busybox {
    /// What runs it.
    pub platform: Platform,
    /// The file.
    pub path: PathBuf,
}

/// Sees to it that every architecture's that the host's sources offer is in the cache.
///
/// # Errors
/// When a native one cannot be had.
pub fn ensure_every() -> Result<()> {
    ensure(&native()?, &others()?).map(drop)
}

/// Those of every architecture that are in the cache.
///
/// # Errors
/// On a machine that has no native one.
pub fn every() -> Result<Vec<Busybox>> {
    let all = native()?.into_iter().chain(others()?);
    let all = all.map(|platform| Ok(Busybox { path: cached(platform.debian()?), platform }));
    let is_there = |found: &Result<Busybox>| found.as_ref().map_or(true, |found| found.path.is_file());
    all.filter(is_there).collect()
}

fn others() -> Result<Vec<Platform>> {
    let native = native()?;
    let all = EVERY.iter().map(|text| Platform::parse(text)).collect::<Result<Vec<_>>>()?;
    Ok(all.into_iter().filter(|platform| !native.contains(platform)).collect())
}

/// Sees to it that each platform's busybox is in the cache. Returns the platforms
/// that are to be had: all of `required`, and of `wanted` what the host's sources
/// offer.
///
/// # Errors
/// When one of `required` cannot be had.
pub fn ensure(required: &[Platform], wanted: &[Platform]) -> Result<Vec<Platform>> {
    let all: Vec<&Platform> = required.iter().chain(wanted).collect();
    let mut missing = Vec::new();
    for platform in &all {
        let architecture = platform.debian()?;
        if !cached(architecture).is_file() {
            missing.push(architecture);
        }
    }
    if !missing.is_empty() {
        eprintln!("xtask: fetching Debian's busybox-static for {}", missing.join(", "));
        fetch(&missing)?;
    }
    let mut present = Vec::new();
    for platform in all {
        let architecture = platform.debian()?;
        if cached(architecture).is_file() {
            present.push(platform.clone());
        } else if required.contains(platform) {
            bail!(
                "busybox-static for {architecture} cannot be had from this host's sources (the reason stands above); \
                 where none offers it, add one to /etc/apt/sources.list.d: deb [arch={architecture}] URL SUITE main"
            );
        } else {
            eprintln!("xtask: so the base images lack {platform}");
        }
    }
    Ok(present)
}

/// The busybox of one platform as an image: `/bin/sh` and all applets.
///
/// # Errors
/// When it is not in the cache: see [`ensure`].
pub fn image(platform: &Platform) -> Result<Image> {
    Ok(Image::new(platform, rootfs(platform)?))
}

/// The layer of [`image`], a tar archive.
///
/// # Errors
/// As [`image`].
pub fn rootfs(platform: &Platform) -> Result<Vec<u8>> {
    let busybox = binary(platform)?;
    let applets = applets()?;
    let links: Vec<String> =
        applets.lines().filter(|name| *name != "busybox").map(|name| format!("bin/{name}")).collect();
    let folders = ["bin", "dev", "etc", "proc", "root", "sys", "usr", "usr/bin", "var"];
    let mut entries: Vec<(&str, Entry<'_>)> = folders.map(|path| (path, Entry::Dir(0o755))).to_vec();
    entries.push(("tmp", Entry::Dir(0o1777)));
    entries.push(("etc/passwd", Entry::File(0o644, b"root:x:0:0:root:/root:/bin/sh\n")));
    entries.push(("etc/group", Entry::File(0o644, b"root:x:0:\n")));
    entries.push(("bin/busybox", Entry::File(0o755, &busybox)));
    entries.extend(links.iter().map(|path| (path.as_str(), Entry::Link("busybox"))));
    entries.push(("usr/bin/env", Entry::Link("../../bin/busybox")));
    tar(&entries)
}

/// The program itself: a real executable of that platform.
///
/// # Errors
/// As [`image`].
pub fn binary(platform: &Platform) -> Result<Vec<u8>> {
    let path = cached(platform.debian()?);
    fs::read(&path).with_context(|| format!("the busybox of {platform} was not fetched ({})", path.display()))
}

/// The names that busybox answers to, one a line. Foreign ones cannot be asked;
/// theirs is of the same source.
fn applets() -> Result<String> {
    let [own, _] = native()?;
    // It goes by the name that it is called.
    run::output(Command::new(cached(own.debian()?)).arg0("busybox").arg("--list"))
}

fn cached(architecture: &str) -> PathBuf {
    workspace::cache().join("busybox").join(architecture)
}

/// Each by itself: what is wrong with the source of one is not wrong with the others.
fn fetch(architectures: &[&str]) -> Result<()> {
    let cache = workspace::cache();
    fs::create_dir_all(cache.join("busybox"))
        .with_context(|| format!("cannot create {}", cache.display()))?;
    let work = tempfile::tempdir_in(&cache).context("cannot create a work folder")?;
    for architecture in architectures {
        let fetched = apt::persistently(|tries| {
            fetch_one(&work.path().join(format!("{architecture}-{tries}")), architecture)
        });
        interrupt::check()?;
        if let Err(error) = fetched {
            eprintln!("xtask: busybox-static for {architecture}: {error:#}");
        }
    }
    Ok(())
}

fn fetch_one(work: &Path, architecture: &str) -> Result<()> {
    let unpacked = apt::unpack(work, architecture, None, &PACKAGE).or_else(|error| {
        let newer = NEWER_SUITES.iter().map(|suite| apt::release(suite)).collect::<Result<Vec<_>>>()?;
        let found = newer.concat().into_iter().zip(1..).find_map(|(sources, number)| {
            apt::unpack(&work.join(number.to_string()), architecture, Some(&sources), &PACKAGE).ok()
        });
        found.ok_or(error)
    })?;
    let places = ["bin/busybox", "usr/bin/busybox"].map(|place| unpacked.files.join(place));
    let found = places.iter().find(|path| path.is_file()).context("the package has no busybox")?;
    fs::rename(found, cached(architecture)).context("cannot keep it")
}
