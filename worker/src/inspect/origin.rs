//! Where in a Dockerfile a layer, or a command, of an image comes from.
//!
//! An image's history has one step for each instruction, and a base's before them. The two are held against each
//! other from their ends; where they part (a frontend that does otherwise, `ONBUILD` in a base) nothing is claimed,
//! and the step itself is named.

use parse_dockerfile::{Instruction, Stage};

use super::config::Config;
use super::layer::shown;

/// A Dockerfile as its user wrote it.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// As the user named it.
    pub name: &'a str,
    /// All of it.
    pub text: &'a str,
    /// The stage that was built; none for the last.
    pub target: Option<&'a str>,
}

/// A place that a person can look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// `Dockerfile:3`.
    pub(super) place: String,
    /// In the Dockerfile, from 1.
    pub(super) line: Option<u32>,
}

/// The target stage and those it starts from.
struct Chain {
    /// In the order they are carried out: keyword and line.
    instructions: Vec<(&'static str, u32)>,
    /// What the lowest stage starts from, and where it says so.
    base: (String, u32),
}

impl Written<'_> {
    /// Where a layer comes from, the lowest being 0.
    pub(super) fn layer(&self, config: &Config, layer: u16) -> Origin {
        let position = usize::from(layer);
        let with_layers = config.steps.iter().enumerate().filter(|(_, step)| step.has_layer);
        let steps: Vec<usize> = with_layers.map(|(at, _)| at).collect();
        let all = config.diff_ids.len();
        let unknown = format!("layer {} of {all}", position + 1);
        let step = steps.get(position).filter(|_| steps.len() == all);
        let Some(step) = step.copied() else { return Origin { place: unknown, line: None } };
        if let Some(origin) = self.step(config, step) {
            return origin;
        }
        let created_by = shown(config.steps[step].created_by.as_bytes());
        Origin { place: format!("{unknown}, made by {created_by:?}"), line: None }
    }

    /// Where the image's command is named.
    pub(super) fn command(&self, config: &Config) -> Option<Origin> {
        let keyword = if config.entrypoint.is_empty() { "CMD" } else { "ENTRYPOINT" };
        let is_it = |created_by: &str| keyword_of(created_by) == keyword;
        let step = config.steps.iter().rposition(|step| is_it(&step.created_by))?;
        self.step(config, step)
    }

    /// Where a step of the history comes from; none where history and Dockerfile do not fit.
    fn step(&self, config: &Config, step: usize) -> Option<Origin> {
        let chain = self.chain()?;
        let from_end = config.steps.len().checked_sub(step + 1)?;
        let pairs = config.steps.iter().rev().zip(chain.instructions.iter().rev());
        let mut compared = pairs.take(from_end + 1);
        if !compared.all(|(step, (keyword, _))| keyword_of(&step.created_by) == *keyword) {
            return None;
        }
        let own = chain.instructions.len().checked_sub(from_end + 1).map(|at| chain.instructions[at].1);
        if let Some(line) = own {
            return Some(Origin { place: format!("{}:{line}", self.name), line: Some(line) });
        }
        let (base, line) = chain.base;
        Some(Origin { place: format!("base {base} ({}:{line})", self.name), line: Some(line) })
    }

    fn chain(&self) -> Option<Chain> {
        let parsed = parse_dockerfile::parse(self.text).ok()?;
        let stages: Vec<Stage<'_, '_>> = parsed.stages().collect();
        let mut at = match self.target {
            Some(target) => find(&stages, target, stages.len())?,
            None => stages.len().checked_sub(1)?,
        };
        let mut instructions = Vec::new();
        loop {
            let stage = &stages[at];
            let own = stage.instructions.iter().rev();
            instructions.extend(own.map(|instruction| self.instruction(instruction)));
            let base = stage.from.image.value.as_ref();
            match find(&stages, base, at) {
                Some(lower) => at = lower,
                None => {
                    instructions.reverse();
                    let line = self.line(stage.from.from.span.start);
                    return Some(Chain { instructions, base: (base.to_owned(), line) });
                }
            }
        }
    }

    fn instruction(&self, instruction: &Instruction<'_>) -> (&'static str, u32) {
        let (keyword, start) = match instruction {
            Instruction::Add(found) => ("ADD", found.add.span.start),
            Instruction::Arg(found) => ("ARG", found.arg.span.start),
            Instruction::Cmd(found) => ("CMD", found.cmd.span.start),
            Instruction::Copy(found) => ("COPY", found.copy.span.start),
            Instruction::Entrypoint(found) => ("ENTRYPOINT", found.entrypoint.span.start),
            Instruction::Env(found) => ("ENV", found.env.span.start),
            Instruction::Expose(found) => ("EXPOSE", found.expose.span.start),
            Instruction::Healthcheck(found) => ("HEALTHCHECK", found.healthcheck.span.start),
            Instruction::Label(found) => ("LABEL", found.label.span.start),
            Instruction::Maintainer(found) => ("MAINTAINER", found.maintainer.span.start),
            Instruction::Onbuild(found) => ("ONBUILD", found.onbuild.span.start),
            Instruction::Run(found) => ("RUN", found.run.span.start),
            Instruction::Shell(found) => ("SHELL", found.shell.span.start),
            Instruction::Stopsignal(found) => ("STOPSIGNAL", found.stopsignal.span.start),
            Instruction::User(found) => ("USER", found.user.span.start),
            Instruction::Volume(found) => ("VOLUME", found.volume.span.start),
            Instruction::Workdir(found) => ("WORKDIR", found.workdir.span.start),
            // Whatever it is, no step is called so.
            _ => ("", 0),
        };
        (keyword, self.line(start))
    }

    /// The line, from 1, that a byte lies in.
    fn line(&self, byte: usize) -> u32 {
        let before = &self.text.as_bytes()[..byte.min(self.text.len())];
        let count = before.iter().filter(|byte| **byte == b'\n').count();
        u32::try_from(count + 1).unwrap_or(u32::MAX)
    }
}

/// The stage of this name or number among the first `before`.
fn find(stages: &[Stage<'_, '_>], name: &str, before: usize) -> Option<usize> {
    let named = |stage: &Stage<'_, '_>| {
        let own = stage.from.as_.as_ref().map(|(_, own)| own.value.as_ref());
        own.is_some_and(|own| own.eq_ignore_ascii_case(name))
    };
    let number = || name.parse().ok().filter(|number: &usize| *number < before && before == stages.len());
    stages[..before].iter().rposition(named).or_else(number)
}

/// `RUN /bin/sh -c make # buildkit` is a `RUN`.
fn keyword_of(created_by: &str) -> &str {
    created_by.split_ascii_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::config::Step;
    use super::*;

    const DOCKERFILE: &str = "\
ARG VERSION=1
FROM alpine:3 AS base
RUN apk add x
FROM golang AS other
RUN make
FROM base
ENV A=1
COPY \\
  --from=other /x /x
ENTRYPOINT [\"/x\"]
";

    fn config(steps: &[(&str, bool)]) -> Config {
        let steps: Vec<Step> = steps
            .iter()
            .map(|(by, has_layer)| Step { created_by: (*by).to_owned(), has_layer: *has_layer })
            .collect();
        let layers = steps.iter().filter(|step| step.has_layer).count();
        let id = Sha256::from_bytes([0; 32]);
        Config { steps, diff_ids: vec![id; layers], ..Config::default() }
    }

    use archyard_model::Sha256;

    const STEPS: [(&str, bool); 6] = [
        ("ADD rootfs.tar / # buildkit", true),
        ("CMD [\"/bin/sh\"]", false),
        ("RUN /bin/sh -c apk add x # buildkit", true),
        ("ENV A=1", false),
        ("COPY /x /x # buildkit", true),
        ("ENTRYPOINT [\"/x\"]", false),
    ];

    #[test]
    fn layers_find_their_lines() {
        let written = Written { name: "Dockerfile", text: DOCKERFILE, target: None };
        let config = Config { entrypoint: vec!["/x".to_owned()], ..config(&STEPS) };
        let place = |layer| written.layer(&config, layer).place;
        assert_eq!(place(2), "Dockerfile:8");
        assert_eq!(place(1), "Dockerfile:3");
        assert_eq!(place(0), "base alpine:3 (Dockerfile:2)");
        assert_eq!(place(9), "layer 10 of 3");
        assert_eq!(written.command(&config).unwrap().line, Some(10));
        let of_base = Config { entrypoint: Vec::new(), ..config };
        assert_eq!(written.command(&of_base).unwrap().place, "base alpine:3 (Dockerfile:2)");
    }

    #[test]
    fn what_does_not_fit_is_not_claimed() {
        let other = Written { name: "Dockerfile", text: DOCKERFILE, target: Some("other") };
        let origin = other.layer(&config(&STEPS), 2);
        assert_eq!(origin.place, "layer 3 of 3, made by \"COPY /x /x # buildkit\"");
        assert_eq!(origin.line, None);
        let none = Written { name: "Dockerfile", text: "no Dockerfile", target: None };
        assert_eq!(none.layer(&config(&STEPS), 0).line, None);
        let short = Config { diff_ids: Vec::new(), ..config(&STEPS) };
        assert_eq!(other.layer(&short, 0).place, "layer 1 of 0");
        let numbered = Written { name: "D", text: DOCKERFILE, target: Some("0") };
        assert_eq!(numbered.layer(&config(&STEPS[..3]), 1).place, "D:3");
    }
}
