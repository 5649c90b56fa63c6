//! What must hold before a change is looked at: format and clippy, warnings denied.

use std::process::Command;

use anyhow::Result;

use crate::run;
use crate::test::MACHINE_FEATURE;
use crate::workspace;

/// Checks; changes nothing.
///
/// # Errors
/// When something is to be mended.
pub fn lint() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    let everything = ["clippy", "--workspace", "--all-targets", "--features", MACHINE_FEATURE];
    cargo(&[&everything[..], &["--", "-D", "warnings"]].concat())
}

/// Runs cargo at the root of the checkout, showing what it says.
///
/// # Errors
/// When it fails.
pub fn cargo(args: &[&str]) -> Result<()> {
    run::shown(&mut cargo_command(args))
}

/// The cargo that runs us.
#[must_use]
pub fn cargo_command(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(workspace::root());
    command
}
