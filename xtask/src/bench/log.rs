//! What a long log costs: it arrives whole on both sides, or the row fails.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Bench, Figure, Reference, pairs};
use crate::run;

const OF: Reference = Reference::Buildx;
/// A line of 100 bytes with its end.
const WORD: &str = "archyard";
const LINES: usize = 500_000;

/// 50 MB from one step.
pub(super) fn whole_log(bench: &Bench, runs: usize) -> Result<Figure> {
    let line = format!("{WORD:-<99}");
    // The line is put together when the step runs, so that no line but those of the step has it whole.
    let (head, tail) = line.split_at(WORD.len());
    let bytes = LINES * (line.len() + 1);
    let step = format!("RUN word={head}; yes \"$word{tail}\" | head -c {bytes}");
    let context = bench.project(&format!("FROM {}\n{step}\n", bench.base))?;
    bench.on_one_engine(OF, || {
        let pairs = pairs(
            runs,
            || whole(bench.our_command(&context, &bench.platforms[..1]).arg("--no-cache"), &line),
            || whole(bench.their_command(OF, &context)?.arg("--no-cache"), &line),
        )?;
        Ok(Figure::of("50 MB of log from one step", &pairs, 1.2))
    })
}

/// Runs a command that shows the step's log, and counts the lines that are in it.
fn whole(command: &mut Command, line: &str) -> Result<()> {
    let name = run::describe(command);
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    let said = [out.stdout, out.stderr].concat();
    if !out.status.success() {
        bail!("{name} failed ({}):\n{}", out.status, run::tail(&String::from_utf8_lossy(&said), 20));
    }
    let lines = said.split(|byte| *byte == b'\n').filter(|said| said.ends_with(line.as_bytes())).count();
    if lines != LINES {
        bail!("{name} showed {lines} of the step's {LINES} lines");
    }
    Ok(())
}
