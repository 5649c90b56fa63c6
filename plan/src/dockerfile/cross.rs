//! What `--cross` asks of a Dockerfile: nothing of it runs on the platform that is built elsewhere.
//!
//! Known from the file alone: what `ONBUILD` in an image from outside brings, only the worker sees.

use archyard_model::Platform;

use super::Start;
use super::scope::Scope;
use super::source::Source;
use crate::Error;

/// One platform that may be built on another's machine.
pub(super) struct Cross<'a> {
    /// The Dockerfile's name, for errors.
    pub(super) file: &'a str,
    pub(super) source: &'a Source,
    pub(super) scope: &'a Scope<'a>,
    /// Where each stage starts from.
    pub(super) starts: &'a [Start],
    pub(super) platform: &'a Platform,
}

impl Cross<'_> {
    /// Refuses a `RUN` of the platform in a stage that is needed, and a base that is chosen by the machine.
    pub(super) fn check(&self, needed: &[bool]) -> Result<(), Error> {
        for (at, _) in needed.iter().enumerate().filter(|(_, needed)| **needed) {
            let stage = &self.source.stages[at];
            let word = &stage.image.value;
            if matches!(self.starts[at], Start::Image { .. }) && self.scope.asks_the_worker(word) {
                let problem = format!(
                    "FROM {word} names another image on every machine, and --cross {} leaves the machine open; \
                     name one image that has all platforms",
                    self.platform
                );
                return Err(self.fail(stage.line, problem));
            }
            if let (Some(line), true) = (self.run(at), self.is_of_target(at)) {
                let name = stage.name.clone().unwrap_or_else(|| at.to_string());
                let problem = format!(
                    "RUN of stage {name:?} would run on {0}, which --cross {0} builds on another machine, and no \
                     emulator is ever used; move it to a stage FROM --platform=$BUILDPLATFORM, or leave out --cross",
                    self.platform
                );
                return Err(self.fail(line, problem));
            }
        }
        Ok(())
    }

    /// The line of the first `RUN` in a stage: its own, or one that the stage it starts from leaves it.
    fn run(&self, at: usize) -> Option<u32> {
        let left = match self.starts[at] {
            Start::Stage(base) => self.source.stages[base].onbuild_runs.first(),
            Start::Image { .. } | Start::Scratch => None,
        };
        left.or_else(|| self.source.stages[at].runs.first()).copied()
    }

    /// Whether a stage is of the target's platform. One that starts from another stage has that one's, whatever its
    /// own `--platform` says, and `scratch` always has the target's, as in BuildKit.
    fn is_of_target(&self, mut at: usize) -> bool {
        loop {
            match &self.starts[at] {
                // Stages only start from earlier ones.
                Start::Stage(base) => at = *base,
                Start::Image { platform, .. } => return platform.as_ref() == Some(self.platform),
                Start::Scratch => return true,
            }
        }
    }

    fn fail(&self, line: u32, problem: String) -> Error {
        Error::Dockerfile { name: self.file.to_owned(), line, problem }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::KUBO;
    use super::super::{Question, bases};

    /// What is said to a build of arm64, which may be built elsewhere, beside amd64.
    fn ask(text: &str, target: Option<&str>) -> Result<(), String> {
        let platforms = ["linux/amd64", "linux/arm64"].map(|name| name.parse().unwrap());
        let (cross, build_args) = ([1].into(), BTreeMap::new());
        let question = Question {
            name: "Dockerfile",
            platforms: &platforms,
            cross: &cross,
            target,
            build_args: &build_args,
        };
        bases(text.as_bytes(), &question).map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn kubo_runs_on_its_target() {
        let error = ask(KUBO, None).unwrap_err();
        assert_eq!(
            error,
            "Dockerfile:18: RUN of stage \"utilities\" would run on linux/arm64, which --cross linux/arm64 builds on \
             another machine, and no emulator is ever used; move it to a stage FROM --platform=$BUILDPLATFORM, or \
             leave out --cross"
        );
        ask(KUBO, Some("builder")).unwrap();
    }

    #[test]
    fn all_that_runs_may_run_on_the_worker() {
        let text = KUBO.replace("FROM debian", "FROM --platform=$BUILDPLATFORM debian");
        ask(&text, None).unwrap();
    }

    #[test]
    fn what_runs_where() {
        for (text, refused) in [
            ("FROM a\nCOPY . /\nCMD [\"x\"]\nHEALTHCHECK CMD x\n", None),
            ("FROM a\nRUN x\n", Some("2: RUN of stage \"0\"")),
            ("FROM a\nCOPY x y\nRUN <<EOF\nmake\nEOF\n", Some("3: RUN of stage \"0\"")),
            ("FROM a\nCOPY <<RUN /x\nRUN y\nRUN\n", None),
            ("FROM a AS b\nRUN x\nFROM scratch\nCOPY --from=b / /\n", Some("2: RUN of stage \"b\"")),
            ("FROM a AS b\nRUN x\nFROM scratch\nCOPY --from=0 / /\n", Some("2: RUN of stage \"b\"")),
            ("FROM a AS b\nRUN x\nFROM scratch\nCOPY . /\n", None),
            ("FROM a AS b\nRUN x\nFROM b\n", Some("2: RUN of stage \"b\"")),
            ("FROM scratch\nCOPY sh /bin/sh\nRUN x\n", Some("3: RUN")),
            ("FROM --platform=$BUILDPLATFORM scratch\nRUN x\n", Some("2: RUN")),
            ("FROM --platform=linux/amd64 a\nRUN x\n", None),
            ("FROM --platform=$TARGETPLATFORM a\nRUN x\n", Some("2: RUN")),
            ("FROM --platform=linux/arm64/v8 a\nRUN x\n", Some("2: RUN")),
            // A stage has the platform of the one it starts from.
            ("FROM a AS b\nFROM --platform=$BUILDPLATFORM b\nRUN x\n", Some("3: RUN of stage \"1\"")),
            ("FROM --platform=$BUILDPLATFORM a AS b\nRUN x\nFROM b\nRUN y\n", None),
            // A stage may leave work to those that start from it.
            ("FROM a AS b\nONBUILD RUN x\nFROM scratch\nCOPY --from=b / /\n", None),
            ("FROM a AS b\nONBUILD RUN x\nFROM b AS c\n", Some("2: RUN of stage \"c\"")),
            ("FROM a AS b\nONBUILD COPY x y\nFROM b AS c\n", None),
            // Which machine it will be is not known.
            (
                "FROM --platform=$BUILDPLATFORM go:$BUILDARCH\nRUN x\n",
                Some("1: FROM go:$BUILDARCH names another"),
            ),
            ("ARG X=go:$BUILDARCH\nFROM $X AS b\nFROM scratch\n", None),
            ("FROM go:$TARGETARCH\n", None),
            (
                "FROM b-$TARGETARCH AS x\nFROM a AS b-amd64\nRUN x\nFROM a AS b-arm64\nFROM b-$TARGETARCH\n",
                None,
            ),
        ] {
            match (ask(text, None), refused) {
                (Ok(()), None) => {}
                (Err(error), Some(want)) => {
                    assert!(error.starts_with(&format!("Dockerfile:{want}")), "{text}: {error}");
                }
                (outcome, _) => panic!("{text}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn what_a_frontend_of_its_own_runs_is_not_known() {
        let error = ask("# syntax=example.com/own:1\nFROM a\n", None).unwrap_err();
        assert!(error.starts_with("--cross \"linux/arm64\": the Dockerfile's frontend"), "{error}");
        ask("# syntax=docker/dockerfile:1\nFROM a\n", None).unwrap();
    }
}
