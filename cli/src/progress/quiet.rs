//! `-q`: nothing but what must be said. Failures and warnings on standard error; the result is somebody else's.

use std::io::{self, Write};

use super::update::Change;
use super::{Board, Renderer, failure, unmoved};

/// Writes notes and failures.
#[derive(Debug)]
pub(crate) struct Quiet<W>(pub(crate) W);

impl<W: Write + Send> Renderer for Quiet<W> {
    fn change(&mut self, _board: &Board, change: &Change) -> io::Result<()> {
        match change {
            Change::Note(text) => writeln!(self.0, "{text}"),
            _ => Ok(()),
        }
    }

    fn settle(&mut self, _board: &Board) -> io::Result<()> {
        self.0.flush()
    }

    fn finish(&mut self, board: &Board) -> io::Result<()> {
        failure::write(&mut self.0, false, board)?;
        unmoved::write(&mut self.0, board)?;
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn says_only_what_must_be_said() {
        let mut out = Vec::new();
        testing::tell(&mut testing::board(), &mut Quiet(&mut out), testing::pushed_build());
        assert_eq!(String::from_utf8(out).unwrap(), "");
        let mut out = Vec::new();
        testing::tell(&mut testing::board(), &mut Quiet(&mut out), testing::failed_build());
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("ERROR: linux/amd64 on worker-1: Dockerfile:3"), "{text}");
        assert!(!text.contains("linux/386"), "{text}");
    }

    #[test]
    fn a_tag_that_was_not_moved_must_be_said() {
        let mut out = Vec::new();
        testing::tell(&mut testing::board(), &mut Quiet(&mut out), testing::overtaken_build(true));
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("NOT MOVED: registry.example/app:latest: left alone for build "), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    #[test]
    fn a_trial_that_failed_must_be_said() {
        let mut out = Vec::new();
        let mut board = testing::board_with_trial();
        testing::tell(&mut board, &mut Quiet(&mut out), testing::peculiar_build());
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("FAILED ON TRIAL: linux/riscv64 on worker-3: Dockerfile:2"), "{text}");
        assert!(!text.contains("ERROR"), "{text}");
    }
}
