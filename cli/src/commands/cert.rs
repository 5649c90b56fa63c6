//! `archyard cert issue`: certificates of the farm's own authority, on the scheduler's machine.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use crate::exit::Exit;
use crate::roles::scheduler;
use crate::{edge, paths};

/// Certificates of the farm's own authority.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Issue a certificate for a worker or a user
    Issue(Issue),
}

/// Issue a certificate for a worker or a user, on the scheduler's machine.
///
/// Writes ca.pem, cert.pem and key.pem to a new folder: copy it to where it is used, and give it with --tls-dir.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Run it on the scheduler's machine; copy the folder to where it is used, and give
it with --tls-dir.

Examples:
  archyard cert issue --role worker arm-1 --out arm-1-tls
  archyard cert issue --role client alice --out alice-tls")]
struct Issue {
    /// Of the worker, or the user: who the farm takes its bearer for
    name: String,
    /// What its bearer may do
    #[arg(long, value_enum)]
    role: Role,
    /// The scheduler's data folder [default: as for `archyard scheduler`]
    #[arg(long, value_name = "DIR", value_parser = edge::path())]
    data_dir: Option<PathBuf>,
    /// New folder for the three files
    #[arg(long, value_name = "DIR", value_parser = edge::path())]
    out: PathBuf,
}

/// `--role`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    Worker,
    Client,
}

pub(crate) fn run(args: Args) -> Result<Exit> {
    let Command::Issue(issue) = args.command;
    let data_dir = match issue.data_dir {
        Some(dir) => dir,
        None => paths::data_dir("scheduler")?,
    };
    scheduler::issue(&data_dir, issue.role, &issue.name, &issue.out)?;
    writeln!(std::io::stdout(), "{}", issue.out.display())?;
    Ok(Exit::Success)
}
