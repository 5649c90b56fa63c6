//! Base images without a registry to pull from: Debian's `busybox-static` of any
//! architecture, fetched with the host's own apt sources and keys, but in a package
//! state of its own, so that the host's list of architectures is not changed.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::images::{Entry, Image, Platform, native, tar};
use crate::run;
use crate::workspace;

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
                "no source of this host offers busybox-static for {architecture}; add one to /etc/apt/sources.list.d \
                 (`deb [arch={architecture}] URL SUITE main`) and try again"
            );
        } else {
            eprintln!(
                "xtask: no source of this host offers busybox-static for {architecture}: base images lack {platform}"
            );
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

fn fetch(architectures: &[&str]) -> Result<()> {
    let cache = workspace::cache();
    fs::create_dir_all(cache.join("busybox"))
        .with_context(|| format!("cannot create {}", cache.display()))?;
    let work = tempfile::tempdir_in(&cache).context("cannot create a work folder")?;
    let state = AptState::create(work.path(), architectures)?;
    // It fails as a whole when one source fails that has nothing to do with us;
    // what counts is whether the package is found below.
    let update = run::output(state.command("apt-get").args(["-q", "update"]));
    for architecture in architectures {
        if let Err(error) = fetch_one(&state, work.path(), architecture) {
            eprintln!("xtask: busybox-static for {architecture}: {error:#}");
            if let Err(error) = &update {
                eprintln!("xtask: and before that: {error:#}");
            }
        }
    }
    Ok(())
}

fn fetch_one(state: &AptState, work: &Path, architecture: &str) -> Result<()> {
    let dir = work.join(architecture);
    fs::create_dir(&dir)?;
    let package = format!("busybox-static:{architecture}");
    run::output(state.command("apt-get").args(["-q", "download", &package]).current_dir(&dir))?;
    let archive = fs::read_dir(&dir)?.filter_map(Result::ok).map(|entry| entry.path());
    let archive = archive.into_iter().find(|path| path.extension().is_some_and(|end| end == "deb"));
    let archive = archive.context("apt-get downloaded nothing")?;
    let files = dir.join("files");
    run::output(Command::new(run::tool("dpkg-deb")?).arg("-x").arg(&archive).arg(&files))?;
    let places = ["bin/busybox", "usr/bin/busybox"].map(|place| files.join(place));
    let found = places.iter().find(|path| path.is_file()).context("the package has no busybox")?;
    fs::rename(found, cached(architecture)).context("cannot keep it")
}

/// A package state of our own over the host's sources and keys.
struct AptState {
    options: Vec<String>,
}

impl AptState {
    fn create(work: &Path, architectures: &[&str]) -> Result<Self> {
        let (state, cache) = (work.join("state"), work.join("cache"));
        for dir in [state.join("lists/partial"), cache.join("archives/partial")] {
            fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        fs::write(state.join("status"), "")?;
        let mut settings = vec![
            format!("Dir::State={}", state.display()),
            format!("Dir::State::status={}", state.join("status").display()),
            format!("Dir::Cache={}", cache.display()),
            "Acquire::Languages=none".into(),
            "Acquire::Retries=2".into(),
            "Acquire::http::Timeout=30".into(),
            "Acquire::https::Timeout=30".into(),
        ];
        // Nobody else can enter our folder; and only root could become somebody else.
        if rustix::process::geteuid().is_root() {
            settings.push("APT::Sandbox::User=root".into());
        }
        let unneeded =
            ["DEP-11", "DEP-11-icons-small", "DEP-11-icons", "DEP-11-icons-hidpi", "Contents-deb", "CNF"];
        settings.extend(
            unneeded.map(|target| format!("Acquire::IndexTargets::deb::{target}::DefaultEnabled=false")),
        );
        settings.extend(architectures.iter().map(|name| format!("APT::Architectures::={name}")));
        Ok(Self { options: settings.into_iter().flat_map(|setting| ["-o".into(), setting]).collect() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(run::find(program).unwrap_or_else(|| program.into()));
        command.args(&self.options).env("LC_ALL", "C");
        command
    }
}
