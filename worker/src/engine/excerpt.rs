//! The part of a Dockerfile that failed.

use archyard_model::Reference;
use parse_dockerfile::{Command, Dockerfile, Instruction, Span, Stage};

use crate::excerpt::Lines;

/// The lines of the instruction that a vertex of this name stands for. Engines that say no more of a failure
/// than the vertex call it `[stage 2/3] RUN make`, with arguments put in.
pub(super) fn locate(dockerfile: &str, vertex: &str) -> Option<Lines> {
    let parsed = parse_dockerfile::parse(dockerfile).ok()?;
    let lines = |span: Span| line_of(dockerfile, span.start)..=line_of(dockerfile, span.end.max(1) - 1);
    if let Some((_, image)) = vertex.split_once("load metadata for ") {
        return parsed.stages().find(|stage| names(stage, image)).map(|stage| lines(span_of_from(&stage)));
    }
    let (label, body) = vertex.strip_prefix('[')?.split_once("] ")?;
    let mut words: Vec<&str> = label.split_whitespace().collect();
    let position: usize = words.pop()?.split_once('/')?.0.parse().ok()?;
    let stage = find_stage(&parsed, words.last().copied())?;
    let (keyword, _) = body.split_once(' ')?;
    if keyword == "FROM" {
        return Some(lines(span_of_from(&stage)));
    }
    let steps: Vec<(&str, Span)> = stage.instructions.iter().filter_map(step).collect();
    let base = stage.from.image.value.as_ref();
    let own_base = base != "scratch" && parsed.stage(base).is_none();
    let at = position.checked_sub(1 + usize::from(own_base))?;
    // A base without layers is no step, though it is counted as one.
    let candidates = [Some(at), at.checked_sub(1), at.checked_add(1)].into_iter().flatten();
    let mut candidates = candidates.filter_map(|at| steps.get(at)).filter(|(known, _)| *known == keyword);
    candidates.next().map(|(_, span)| lines(span.clone()))
}

/// By its name, or as BuildKit calls one without; the last where there is but one and it is not called at all.
fn find_stage<'a, 'b>(parsed: &'b Dockerfile<'a>, label: Option<&str>) -> Option<Stage<'a, 'b>> {
    let Some(label) = label.filter(|label| !label.contains('/')) else { return parsed.stages().last() };
    let named = parsed.stages().find(|stage| {
        let name = stage.from.as_.as_ref().map(|(_, name)| name.value.as_ref());
        name.is_some_and(|name| name.eq_ignore_ascii_case(label))
    });
    named.or_else(|| parsed.stages().nth(label.strip_prefix("stage-")?.parse().ok()?))
}

/// Whether a stage starts from this image.
fn names(stage: &Stage<'_, '_>, image: &str) -> bool {
    let normal = |text: &str| text.parse::<Reference>().map(|reference| reference.to_string()).ok();
    let written = stage.from.image.value.as_ref();
    written == image || normal(written).is_some_and(|written| normal(image) == Some(written))
}

fn span_of_from(stage: &Stage<'_, '_>) -> Span {
    let end = stage.from.as_.as_ref().map_or(stage.from.image.span.end, |(_, name)| name.span.end);
    stage.from.from.span.start..end
}

/// The instructions that are steps of their own.
fn step(instruction: &Instruction<'_>) -> Option<(&'static str, Span)> {
    match instruction {
        Instruction::Add(add) => Some(("ADD", add.add.span.start..add.dest.span.end)),
        Instruction::Copy(copy) => Some(("COPY", copy.copy.span.start..copy.dest.span.end)),
        Instruction::Workdir(dir) => Some(("WORKDIR", dir.workdir.span.start..dir.arguments.span.end)),
        Instruction::Run(run) => {
            let arguments = match &run.arguments {
                Command::Exec(words) => words.span.end,
                Command::Shell(text) => text.span.end,
                _ => run.run.span.end,
            };
            let end = run.here_docs.iter().map(|document| document.span.end).fold(arguments, usize::max);
            Some(("RUN", run.run.span.start..end))
        }
        _ => None,
    }
}

/// The line, from 1, that a byte lies in.
fn line_of(text: &str, byte: usize) -> usize {
    1 + text.as_bytes()[..byte.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::excerpt::tests::DOCKERFILE;

    #[test]
    fn finds_the_instruction_behind_a_vertex() {
        for (vertex, want) in [
            ("[builder 1/3] FROM docker.io/library/golang:1.21", Some(2..=2)),
            ("[internal] load metadata for docker.io/library/golang:1.21", Some(2..=2)),
            ("[builder 2/3] WORKDIR /src", Some(3..=3)),
            ("[builder 3/3] RUN make     all", Some(5..=7)),
            ("[stage-1 1/3] COPY --from=builder /src/x /x", Some(9..=9)),
            ("[linux/amd64 stage-1 2/3] COPY nope /", Some(10..=10)),
            ("[stage-1 3/3] RUN [\"/x\"]", Some(11..=11)),
            ("[stage-1 9/9] RUN x", None),
            ("[other 1/3] COPY a b", None),
            ("[internal] load build context", None),
            ("exporting to image", None),
        ] {
            assert_eq!(locate(DOCKERFILE, vertex), want, "{vertex}");
        }
    }

    #[test]
    fn a_single_stage_is_not_named() {
        let dockerfile = "FROM scratch\nCOPY a /\nRUN false\n";
        assert_eq!(locate(dockerfile, "[2/2] RUN false"), Some(3..=3));
        assert_eq!(locate("not a dockerfile", "[2/2] RUN false"), None);
    }
}
