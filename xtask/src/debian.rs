//! Engines and clients of newer Debians, whatever Debian the host is: unpacked from their packages into the cache.
//! Nothing of them is installed. They use the host's runc, because a newer one needs a newer libc than the host has.

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

/// The file beside the programs that says which packages they are from.
const VERSIONS: &str = "versions";
const DOCKERD: &str = "usr/sbin/dockerd";

/// A release of Debian, and what is kept of its packages.
#[derive(Debug, PartialEq, Eq)]
pub struct Release {
    /// As a person calls it.
    pub name: &'static str,
    suite: &'static str,
    /// Its folder in the cache.
    folder: &'static str,
    packages: &'static [&'static str],
    programs: &'static [&'static str],
    /// What its packages weigh.
    download: &'static str,
    /// What the version of its Engine begins with; empty where the suite moves.
    engine_version: &'static str,
}

/// Debian 13, whose Engine is 26.1 and stays so: with another version the tests would prove something else.
pub const DEBIAN_13: Release = Release {
    name: "Debian 13",
    suite: "trixie",
    folder: "debian-13",
    packages: &["docker.io", "containerd"],
    programs: &[DOCKERD, "usr/sbin/docker-proxy", "usr/bin/containerd", "usr/bin/containerd-shim-runc-v2"],
    download: "60 MB",
    engine_version: "26.1.",
};

/// Debian sid: what it has on the day on which it is fetched. It had Engine 28.5 and buildx 0.29 when this was written.
pub const SID: Release = Release {
    name: "Debian sid",
    suite: "sid",
    folder: "debian-sid",
    packages: &["docker.io", "containerd", "docker-cli", "docker-buildx"],
    programs: &[
        DOCKERD,
        "usr/sbin/docker-proxy",
        "usr/bin/containerd",
        "usr/bin/containerd-shim-runc-v2",
        "usr/bin/docker",
        "usr/libexec/docker/cli-plugins/docker-buildx",
    ],
    download: "75 MB",
    engine_version: "",
};

impl Release {
    /// Sees to it that the programs are in the cache.
    ///
    /// # Errors
    /// When they cannot be fetched, or do not run on this host.
    pub fn ensure(&self) -> Result<()> {
        cache::once(&self.cache_name()?, |work| {
            eprintln!("xtask: fetching {} of {} ({})", self.packages.join(", "), self.name, self.download);
            self.fetch(work).with_context(|| {
                format!(
                    "the programs of {} are not available; they are fetched from this host's own mirror of Debian, suite {}",
                    self.name, self.suite
                )
            })
        })
        .map(drop)
    }

    /// Its packages, each with its version.
    ///
    /// # Errors
    /// When they are not in the cache: see [`Release::ensure`].
    pub fn versions(&self) -> Result<Vec<String>> {
        let file = self.programs()?.join(VERSIONS);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Says on standard error which versions are used.
    ///
    /// # Errors
    /// As [`Release::versions`].
    pub fn print_versions(&self) -> Result<()> {
        eprintln!("xtask: of {}: {}", self.name, self.versions()?.join(", "));
        Ok(())
    }

    fn fetch(&self, work: &Path) -> Result<PathBuf> {
        let [own, _] = native()?;
        let architecture = own.debian()?;
        let unpacked = apt::from_release(self.suite, |sources, number| {
            apt::unpack(&work.join(number.to_string()), architecture, Some(sources), self.packages)
        })?;
        let bin = work.join("bin");
        fs::create_dir(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
        for program in self.programs {
            let from = unpacked.files.join(program);
            let name = from.file_name().context("a program without a name")?;
            fs::rename(&from, bin.join(name)).with_context(|| format!("the packages lack {program}"))?;
        }
        let version = run::output(Command::new(bin.join("dockerd")).arg("--version"))
            .context("it does not run on this host")?;
        if !version.contains(&format!("version {}", self.engine_version)) {
            bail!("it is another version than {}x: {}", self.engine_version, version.trim());
        }
        fs::write(bin.join(VERSIONS), unpacked.versions.join("\n") + "\n")
            .context("cannot write the versions")?;
        Ok(bin)
    }

    fn cache_name(&self) -> Result<String> {
        let [own, _] = native()?;
        Ok(format!("{}/{}", self.folder, own.debian()?))
    }

    /// Where the programs are.
    fn programs(&self) -> Result<PathBuf> {
        Ok(workspace::cache().join(self.cache_name()?))
    }

    /// One of the programs, such as `dockerd`. For the client see [`crate::buildx`].
    ///
    /// # Errors
    /// When it is not in the cache: see [`Release::ensure`].
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.programs()?.join(name);
        if !path.is_file() {
            bail!("{name} of {} was not fetched ({})", self.name, path.display());
        }
        Ok(path)
    }

    /// The version of its Engine, as the Engine says it: `28.5.2+dfsg4`.
    ///
    /// # Errors
    /// When the program is not in the cache, or does not run.
    pub fn engine_version(&self) -> Result<String> {
        let said = run::output(Command::new(self.program("dockerd")?).arg("--version"))?;
        parse_version(&said).with_context(|| format!("dockerd --version printed {said:?}"))
    }

    /// Where these programs look for each other, and then for runc.
    ///
    /// # Errors
    /// When the folder's name cannot be in a PATH.
    pub fn search_path(&self) -> Result<OsString> {
        let folder = self.programs()?;
        let path = run::search_path();
        let dirs = std::iter::once(folder).chain(std::env::split_paths(&path));
        std::env::join_paths(dirs).context("the checkout lies in a folder with a colon in its name: move it")
    }
}

/// The version in `Docker version 28.5.2+dfsg4, build 01f442b`.
fn parse_version(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("version ")?;
    Some(rest.split([',', ' ', '\n']).next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_dockerd_prints() {
        let said = "Docker version 28.5.2+dfsg4, build 01f442b84d\n";
        assert_eq!(parse_version(said).as_deref(), Some("28.5.2+dfsg4"));
        assert_eq!(parse_version("no such thing"), None);
    }

    #[test]
    fn releases_share_no_folder() {
        assert_ne!(DEBIAN_13.cache_name().unwrap(), SID.cache_name().unwrap());
    }
}
