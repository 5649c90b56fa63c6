//! The programs that make and are the machine: qemu and a few more, as this host's
//! own release has them, unpacked into the cache with the libraries that the host
//! lacks. Installing qemu may ask a host to part with programs that it has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt::{self, Beside};
use crate::cache;
use crate::images::native;
use crate::run;

const NAME: &str = "machine/tools";
const PACKAGES: [&str; 3] = ["qemu-system-arm", "kmod", "e2fsprogs"];
const BIN: [&str; 4] = ["usr/bin", "bin", "usr/sbin", "sbin"];
const LIB: [&str; 2] = ["usr/lib", "lib"];

/// Where they are.
#[derive(Debug, Clone)]
pub struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// Sees to it that they are in the cache, and run.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn ensure() -> Result<Self> {
        let tools = Self { folder: cache::once(NAME, fetch)? };
        if tools.runs().is_ok() {
            return Ok(tools);
        }
        // The host's libraries are others than when they were fetched.
        eprintln!("xtask: fetching anew what does not run any more: {}", tools.folder.display());
        fs::remove_dir_all(&tools.folder).context("cannot remove it")?;
        let tools = Self { folder: cache::once(NAME, fetch)? };
        tools.runs()?;
        Ok(tools)
    }

    fn runs(&self) -> Result<()> {
        run::output(self.command("qemu-system-aarch64")?.arg("--version")).map(drop)
    }

    /// One of them, or the host's own where it has it.
    ///
    /// # Errors
    /// When it is in neither place.
    pub fn command(&self, program: &str) -> Result<Command> {
        let ours = BIN.iter().map(|bin| self.folder.join(bin).join(program)).find(|path| path.is_file());
        let Some(ours) = ours else { return Ok(Command::new(run::tool(program)?)) };
        let mut command = Command::new(ours);
        let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
        let libraries = LIB.map(|lib| self.folder.join(lib).join(&triple));
        command.env(
            "LD_LIBRARY_PATH",
            std::env::join_paths(libraries).context("a folder with a colon: move it")?,
        );
        Ok(command)
    }
}

fn fetch(work: &Path) -> Result<PathBuf> {
    let [own, _] = native()?;
    let architecture = own.debian()?;
    eprintln!("xtask: fetching {} (20 MB)", PACKAGES.join(", "));
    let archives = apt::persistently(|tries| {
        let work = work.join(tries.to_string());
        apt::closure(&work, architecture, None, Beside::Host, &PACKAGES)
    })
    .context("qemu cannot be had from this host's own apt sources")?;
    let folder = work.join("files");
    fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for archive in archives {
        run::output(Command::new(run::tool("dpkg-deb")?).arg("-x").arg(&archive).arg(&folder))?;
    }
    Ok(folder)
}
