//! What a long log costs: it arrives whole on both sides, or the row fails.

use std::cell::RefCell;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Bench, Figure, Reference, prepared_pairs};
use crate::run;

const OF: Reference = Reference::Buildx;
const WORD: &str = "archyard";
/// Follows the word in each line. Clients print it nowhere else, but once where they show the step itself.
const FILLER: char = '~';
/// With word and newline a line has 100 bytes.
const FILLERS: usize = 91;
const LINES: usize = 500_000;

/// 50 MB from one step.
pub(super) fn whole_log(bench: &Bench, runs: usize) -> Result<Figure> {
    let bytes = LINES * (WORD.len() + FILLERS + 1);
    let step = format!(
        "RUN line=$(printf '%{FILLERS}s' | tr ' ' '{FILLER}'); yes \"{WORD}$line\" | head -c {bytes}"
    );
    let context = bench.project(&format!("FROM {}\n{step}\n", bench.base))?;
    let outputs = RefCell::new(Vec::new());
    let keep = |mut command: Command| -> Result<()> {
        let output = captured(command.arg("--no-cache"))?;
        outputs.borrow_mut().push((run::describe(&command), output));
        Ok(())
    };
    // Between the timed runs, because to count takes time.
    let check = || outputs.borrow_mut().drain(..).try_for_each(|(name, output)| check_whole(&name, &output));
    bench.on_one_engine(OF, || {
        let pairs = prepared_pairs(
            runs,
            check,
            || keep(bench.our_command(&context, &bench.platforms[..1])),
            || keep(bench.their_command(OF, &context)?),
        )?;
        check()?;
        Ok(Figure::of("50 MB of log from one step", &pairs, 1.2))
    })
}

/// All that a command prints.
fn captured(command: &mut Command) -> Result<Vec<u8>> {
    let name = run::describe(command);
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    let said = [out.stdout, out.stderr].concat();
    if !out.status.success() {
        bail!("{name} failed ({}):\n{}", out.status, run::tail(&String::from_utf8_lossy(&said), 20));
    }
    Ok(said)
}

/// Whether no line is missing. A client may break a line in two, so that bytes are counted and not lines.
fn check_whole(name: &str, output: &[u8]) -> Result<()> {
    let found = output.iter().filter(|byte| char::from(**byte) == FILLER).count();
    let expected = LINES * FILLERS;
    // Where the step itself is shown, a few more are right; one line less is not.
    if found < expected {
        bail!("{name} showed {found} of the {expected} bytes of the step's log that it should show");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_without_one_of_its_lines_is_not_whole() {
        let filler = FILLER.to_string().repeat(FILLERS);
        let lines = |count: usize| format!("#5 0.1 {WORD}{filler}\n").repeat(count);
        let header = format!("#5 RUN tr ' ' '{FILLER}'\n");
        assert!(check_whole("x", (header.clone() + &lines(LINES)).as_bytes()).is_ok());
        let error = check_whole("x", (header + &lines(LINES - 1)).as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("x showed "), "{error}");
    }
}
