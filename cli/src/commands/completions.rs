//! `archyard completions SHELL`: from the same definition that parses.

use std::io::Write as _;

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::Exit;

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  archyard completions bash > ~/.local/share/bash-completion/completions/archyard
  archyard completions zsh > ~/.zfunc/_archyard
  archyard completions fish > ~/.config/fish/completions/archyard.fish")]
pub(crate) struct Args {
    /// bash, zsh, fish, elvish or powershell
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    // Into memory first: the generator panics when its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "archyard", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Exit::Success)
}
