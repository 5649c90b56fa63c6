//! Base images without a registry to pull from: Debian's `busybox-static` of any
//! architecture, fetched with the host's own apt sources and keys, but in a package
//! state of its own, so that the host's list of architectures is not changed.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::images::{Entry, Image, Platform, native, tar};
use crate::interrupt;
use crate::run;
use crate::workspace;

/// How often an architecture is tried.
const TRIES: u32 = 3;

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
        for tries in 1..=TRIES {
            let Err(error) = fetch_one(&work.path().join(format!("{architecture}-{tries}")), architecture)
            else {
                break;
            };
            if tries == TRIES {
                eprintln!("xtask: busybox-static for {architecture}: {error:#}");
                break;
            }
            // A mirror in the middle of its own update is whole a moment later.
            interrupt::wait_for(Duration::from_secs(3), || Ok(false))?;
        }
    }
    Ok(())
}

fn fetch_one(work: &Path, architecture: &str) -> Result<()> {
    let config = apt_state(work, architecture)?;
    let apt = |args: &[&str]| {
        let mut command = Command::new(run::tool("apt-get")?);
        command.arg("-c").arg(&config).arg("-q").args(args).env("LC_ALL", "C").current_dir(work);
        run::output(&mut command)
    };
    // It fails as a whole when one source fails that has nothing to do with us;
    // what counts is whether the package is found.
    let update = apt(&["update"]);
    apt(&["download", &format!("busybox-static:{architecture}")]).map_err(|error| match update {
        Ok(_) => error,
        Err(before) => before,
    })?;
    let archive = fs::read_dir(work)?.filter_map(Result::ok).map(|entry| entry.path());
    let archive = archive.into_iter().find(|path| path.extension().is_some_and(|end| end == "deb"));
    let archive = archive.context("apt-get downloaded nothing")?;
    let files = work.join("files");
    run::output(Command::new(run::tool("dpkg-deb")?).arg("-x").arg(&archive).arg(&files))?;
    let places = ["bin/busybox", "usr/bin/busybox"].map(|place| files.join(place));
    let found = places.iter().find(|path| path.is_file()).context("the package has no busybox")?;
    fs::rename(found, cached(architecture)).context("cannot keep it")
}

/// A package state of our own over the host's sources and keys; returns the file
/// that tells apt of it.
fn apt_state(work: &Path, architecture: &str) -> Result<PathBuf> {
    let (state, cache) = (work.join("state"), work.join("cache"));
    for dir in [state.join("lists/partial"), cache.join("archives/partial")] {
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let status = state.join("status");
    fs::write(&status, "").with_context(|| format!("cannot write {}", status.display()))?;
    let mut settings = vec![
        format!("Dir::State {state:?};"),
        format!("Dir::State::status {status:?};"),
        format!("Dir::Cache {cache:?};"),
        format!("APT::Architecture \"{architecture}\";"),
        format!("APT::Architectures {{ \"{architecture}\"; }};"),
        "Acquire::Languages \"none\";".into(),
        "Acquire::Retries \"2\";".into(),
        "Acquire::http::Timeout \"30\";".into(),
        "Acquire::https::Timeout \"30\";".into(),
    ];
    // Nobody else can enter our folder; and only root could become somebody else.
    if rustix::process::geteuid().is_root() {
        settings.push("APT::Sandbox::User \"root\";".into());
    }
    let unneeded =
        ["DEP-11", "DEP-11-icons-small", "DEP-11-icons", "DEP-11-icons-hidpi", "Contents-deb", "CNF"];
    settings.extend(
        unneeded.map(|target| format!("Acquire::IndexTargets::deb::{target}::DefaultEnabled \"false\";")),
    );
    let file = work.join("apt.conf");
    fs::write(&file, settings.join("\n") + "\n")
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_state_is_our_own() {
        let dir = tempfile::tempdir().unwrap();
        let config = fs::read_to_string(apt_state(dir.path(), "riscv64").unwrap()).unwrap();
        assert!(config.contains("APT::Architecture \"riscv64\";"), "{config}");
        for line in config.lines().filter(|line| line.starts_with("Dir::")) {
            assert!(line.contains(&*dir.path().to_string_lossy()), "{line}");
        }
    }
}
