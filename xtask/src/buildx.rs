//! The client that results and times are compared with: Debian sid's `docker` with buildx as its plugin. It has a
//! configuration folder of its own, so that neither the user's nor another test's settings have a say.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::debian::SID;

/// Such a client. Its configuration is removed when it is dropped.
#[derive(Debug)]
pub struct Buildx {
    config: tempfile::TempDir,
}

impl Buildx {
    /// Sees to it that the programs are in the cache.
    ///
    /// # Errors
    /// When they cannot be fetched.
    pub fn ensure() -> Result<()> {
        SID.ensure()
    }

    /// A client without settings.
    ///
    /// # Errors
    /// When the programs are not in the cache: see [`Buildx::ensure`].
    pub fn new() -> Result<Self> {
        let config = tempfile::Builder::new().prefix("docker").tempdir().context("cannot create a folder")?;
        let plugins = config.path().join("cli-plugins");
        let program = SID.program("docker-buildx")?;
        fs::create_dir(&plugins)
            .and_then(|()| symlink(program, plugins.join("docker-buildx")))
            .with_context(|| format!("cannot install the plugin in {}", plugins.display()))?;
        Ok(Self { config })
    }

    /// Its configuration folder.
    #[must_use]
    pub fn config(&self) -> &Path {
        self.config.path()
    }

    /// `docker`, on the Engine of this address (`unix://PATH`). It reads no standard input.
    ///
    /// # Errors
    /// As [`Buildx::new`].
    pub fn docker(&self, engine: &str) -> Result<Command> {
        let mut command = Command::new(SID.program("docker")?);
        for (name, _) in std::env::vars_os() {
            if ["DOCKER_", "BUILDX_", "BUILDKIT_"]
                .iter()
                .any(|prefix| name.to_string_lossy().starts_with(prefix))
            {
                command.env_remove(name);
            }
        }
        command.env_remove("SOURCE_DATE_EPOCH").env("DOCKER_CONFIG", self.config.path());
        command.env("DOCKER_HOST", engine).stdin(Stdio::null());
        Ok(command)
    }

    /// `docker buildx build` with plain progress, on the Engine of this address.
    ///
    /// # Errors
    /// As [`Buildx::new`].
    pub fn build(&self, engine: &str) -> Result<Command> {
        let mut command = self.docker(engine)?;
        command.args(["buildx", "build", "--progress", "plain"]);
        Ok(command)
    }
}
