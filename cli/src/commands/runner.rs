//! `archyard runner DIR`: one attempt, as its worker starts it. Not for people.
//!
//! One process per attempt, so it starts as fast as it can: it is told apart before the command line is parsed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use crate::logging;

/// Run one attempt; workers start this.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The attempt's folder
    pub(crate) dir: PathBuf,
}

/// The folder, when this is how a worker starts a runner: `archyard runner DIR` and nothing else.
pub(crate) fn directory(mut words: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    words.next()?;
    let (command, dir) = (words.next()?, words.next()?);
    (command == "runner" && words.next().is_none() && !dir.to_string_lossy().starts_with('-'))
        .then(|| dir.into())
}

pub(crate) fn run(dir: &Path) -> Result<ExitCode> {
    logging::daemon(logging::Format::Text)?;
    Ok(archyard_worker::runner::run(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_makes_a_runner() {
        let of = |words: &[&str]| directory(words.iter().map(OsString::from));
        assert_eq!(of(&["archyard", "runner", "/a"]), Some("/a".into()));
        for other in [
            &["archyard"][..],
            &["archyard", "runner"],
            &["archyard", "runner", "--help"],
            &["archyard", "build", "."],
        ] {
            assert_eq!(of(other), None);
        }
    }
}
