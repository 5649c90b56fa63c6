//! One file a command: its flags, its help, and what it does.

pub(crate) mod build;
pub(crate) mod cancel;
pub(crate) mod cert;
pub(crate) mod completions;
pub(crate) mod drain;
pub(crate) mod du;
pub(crate) mod fetch;
pub(crate) mod logs;
pub(crate) mod promote;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod rerun;
pub(crate) mod runner;
pub(crate) mod scheduler;
pub(crate) mod show;
mod table;
pub(crate) mod target;
pub(crate) mod up;
pub(crate) mod version;
pub(crate) mod worker;
pub(crate) mod workers;

use anyhow::Result;

use crate::args::Command;
use crate::exit::Exit;
use crate::logging;

/// Runs a command to its end.
pub(crate) fn run(command: Command) -> Result<Exit> {
    match command {
        Command::Up(args) => return up::run(args),
        Command::Scheduler(args) => return scheduler::run(args),
        Command::Worker(args) => return worker::run(args),
        _ => logging::quiet()?,
    }
    match command {
        Command::Build(args) => build::run(&args),
        Command::Ps(args) => ps::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Logs(args) => logs::run(args),
        Command::Rerun(args) => rerun::run(args),
        Command::Promote(args) => promote::run(args),
        Command::Cancel(args) => cancel::run(&args),
        Command::Fetch(args) => fetch::run(args),
        Command::Workers(args) => workers::run(&args),
        Command::Drain(args) => drain::run(&args),
        Command::Du(args) => du::run(&args),
        Command::Prune(args) => prune::run(&args),
        Command::Cert(args) => cert::run(args),
        Command::Version(args) => version::run(&args),
        Command::Completions(args) => completions::run(&args),
        // Told apart before: a folder alone makes a runner, and these have returned.
        Command::Runner(_) | Command::Up(_) | Command::Scheduler(_) | Command::Worker(_) => Ok(Exit::Usage),
    }
}
