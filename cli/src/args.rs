//! The command line, as clap reads it. Each command's own flags stand in its file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use archyard_net::Endpoint;
use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::edge;

/// A self-hosted build farm for multi-platform container images.
#[derive(Debug, Parser)]
#[command(
    name = "archyard",
    version,
    propagate_version = false,
    max_term_width = 100,
    args_override_self = true,
    after_help = "\
Examples:
  archyard build .          build and verify for this machine's platform
  archyard build --platform linux/amd64,linux/arm64 --push -t r.example/app:1 .
  archyard ps               what the farm does
  archyard logs -f BUILD    follow a build, whoever started it
  archyard up               run a farm here

A farm is found by --farm or ARCHYARD_FARM, else at the default socket; without
one, `build` runs its own.
Exit codes: 0 done, 1 failed, 2 usage, 3 farm unavailable, 4 built but a newer
build has a tag, 130 canceled."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image on every platform asked for, natively
    Build(Box<commands::build::Args>),
    /// List builds
    Ps(commands::ps::Args),
    /// Show all that is known of a build
    Show(commands::show::Args),
    /// Print a build's logs
    Logs(commands::logs::Args),
    /// Build again what failed in a build, under the same lock
    Rerun(commands::rerun::Args),
    /// Give a candidate's very digests their tags
    Promote(commands::promote::Args),
    /// Cancel a build
    Cancel(commands::cancel::Args),
    /// Fetch what a build left for its client
    Fetch(commands::fetch::Args),
    /// List the farm's workers
    Workers(commands::workers::Args),
    /// Let a worker finish what it runs and take no more
    Drain(commands::drain::Args),
    /// Show what the scheduler keeps on its disk
    Du(commands::du::Args),
    /// Remove what no build needs from the scheduler's disk
    Prune(commands::prune::Args),
    /// Run a scheduler and a worker in one process
    Up(commands::up::Args),
    /// Run a scheduler
    Scheduler(commands::scheduler::Args),
    /// Run a worker beside its Engine
    Worker(commands::worker::Args),
    /// Run one attempt; workers start this
    #[command(hide = true)]
    Runner(commands::runner::Args),
    /// Certificates of the farm's own authority
    Cert(commands::cert::Args),
    /// Print the version
    Version(commands::version::Args),
    /// Print a completion script for a shell
    Completions(commands::completions::Args),
}

/// Which farm. A variable that is set and empty is as one that is not set.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Farm")]
pub(crate) struct FarmArgs {
    /// The scheduler: unix:PATH, http://127.0.0.1:PORT or https://HOST:PORT
    #[arg(long, env = "ARCHYARD_FARM", value_name = "ENDPOINT", hide_env_values = true, value_parser = edge::named_endpoint)]
    farm: Option<Named<Endpoint>>,
    /// Folder with ca.pem, cert.pem and key.pem, as `archyard cert issue` writes it
    #[arg(long, env = "ARCHYARD_TLS_DIR", value_name = "DIR", hide_env_values = true, value_parser = edge::named_path())]
    tls_dir: Option<Named<PathBuf>>,
}

/// How long a farm that does not answer is waited for.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Farm")]
pub(crate) struct PatienceArgs {
    /// How long the farm may be away before this client leaves; the build goes on without it
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    pub(crate) farm_timeout: Duration,
}

impl FarmArgs {
    /// The farm that was named.
    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        self.farm.as_ref()?.0.as_ref()
    }

    /// Where the certificate lies.
    pub(crate) fn tls_dir(&self) -> Option<&Path> {
        self.tls_dir.as_ref()?.0.as_deref()
    }
}

/// A value that counts unless it is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named<T>(pub(crate) Option<T>);

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_last_of_a_repeated_flag_counts_and_lists_grow() {
        let words =
            ["archyard", "build", "--target", "a", "--target", "b", "-t", "x", "-t", "y", "-q", "-q", "."];
        let Command::Build(build) = Cli::try_parse_from(words).unwrap().command else { panic!("no build") };
        assert_eq!(build.target.as_deref(), Some("b"));
        assert_eq!(build.tags, ["x", "y"]);
    }
}
