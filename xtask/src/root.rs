//! The administrator's rights, which Engines, bridges and packages need: ours if
//! we are root, else through sudo. Asked for once, with the reason, and never used
//! for anything else.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run;

/// Runs commands as root.
#[derive(Debug, Clone)]
pub struct Root {
    sudo: Option<PathBuf>,
}

impl Root {
    /// No rights beyond those we have.
    #[must_use]
    pub fn none() -> Self {
        Self { sudo: None }
    }

    /// Our own rights, or sudo's: without a password, or with one typed at the
    /// terminal.
    ///
    /// # Errors
    /// When neither is to be had.
    pub fn obtain(why: &str) -> Result<Self> {
        if rustix::process::geteuid().is_root() {
            return Ok(Self::none());
        }
        let remedy = format!("{why} needs root: run this as root, or as a user who may use sudo");
        let sudo = run::find("sudo").with_context(|| remedy.clone())?;
        let free =
            Command::new(&sudo).args(["-n", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
        if free.is_ok_and(|status| status.success()) {
            return Ok(Self { sudo: Some(sudo) });
        }
        if !std::io::stdin().is_terminal() {
            bail!("{remedy} without a password (there is no terminal to ask for one)");
        }
        eprintln!("xtask: {why} needs root: sudo may ask for your password");
        run::shown(Command::new(&sudo).arg("-v")).context(remedy)?;
        Ok(Self { sudo: Some(sudo) })
    }

    /// Whether commands go through sudo.
    #[must_use]
    pub fn is_borrowed(&self) -> bool {
        self.sudo.is_some()
    }

    /// A command to be run as root.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        self.command_with(program, &[])
    }

    /// As [`Root::command`], with variables set (sudo drops the environment).
    #[must_use]
    pub fn command_with(&self, program: &str, variables: &[(&str, &str)]) -> Command {
        let path = run::search_path();
        let found = run::find(program).unwrap_or_else(|| PathBuf::from(program));
        let Some(sudo) = &self.sudo else {
            let mut command = Command::new(found);
            command.env("PATH", path).envs(variables.iter().copied());
            return command;
        };
        let mut command = Command::new(sudo);
        command.args(["-n", "--", "env"]).arg(format!("PATH={}", path.to_string_lossy()));
        command.args(variables.iter().map(|(key, value)| format!("{key}={value}"))).arg(found);
        command
    }
}
