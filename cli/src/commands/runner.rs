//! `archyard runner DIR`: one attempt, as its worker starts it. Not for people.
//!
//! One process per attempt, so it starts as fast as it can: it is told apart before the command line is parsed.
//! `archyard runner --warm DIR` is one that is started before its attempt is known.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use archyard_worker::runner;

use crate::logging;

/// Run one attempt; workers start this.
#[derive(Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct Args {
    /// Wait to be called to one of the attempts in this folder
    #[arg(long)]
    pub(crate) warm: bool,
    /// The attempt's folder
    pub(crate) dir: PathBuf,
}

/// The same without a parser, when this is how a worker starts a runner and nothing else.
pub(crate) fn args(mut words: impl Iterator<Item = OsString>) -> Option<Args> {
    words.next()?;
    let (command, mut dir) = (words.next()?, words.next()?);
    let warm = dir == "--warm";
    if warm {
        dir = words.next()?;
    }
    (command == "runner" && words.next().is_none() && !dir.to_string_lossy().starts_with('-'))
        .then(|| Args { warm, dir: dir.into() })
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    logging::daemon(logging::Format::Text)?;
    Ok(if args.warm { runner::run_when_called(&args.dir) } else { runner::run(&args.dir) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_makes_a_runner() {
        let of = |words: &[&str]| args(words.iter().map(OsString::from));
        let dir = PathBuf::from("/a");
        assert_eq!(of(&["archyard", "runner", "--warm", "/a"]), Some(Args { warm: true, dir: dir.clone() }));
        assert_eq!(of(&["archyard", "runner", "/a"]), Some(Args { warm: false, dir }));
        for other in [
            &["archyard"][..],
            &["archyard", "runner"],
            &["archyard", "runner", "--help"],
            &["archyard", "runner", "--warm"],
            &["archyard", "runner", "--warm", "--help"],
            &["archyard", "build", "."],
        ] {
            assert_eq!(of(other), None);
        }
    }
}
