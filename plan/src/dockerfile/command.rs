//! What a stage does, as far as it decides which paths of the context are read: variables, and who reads.

use std::ops::Range;

use parse_dockerfile::{Flag, Instruction, Source, UnescapedString};

use super::{mask, mount, shell};

/// One instruction of a stage. Words are as written: nothing is put in yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// `ARG`: names, with their defaults.
    Arg(Vec<(String, Option<String>)>),
    /// `ENV`: names and values.
    Env(Vec<(String, String)>),
    /// `COPY` from the context, and `ADD`: where from.
    Copy(Vec<String>),
    /// `RUN --mount` from the context: where from.
    Mount(String),
    /// `RUN --mount=type=tmpfs`. It reads nothing, but where others read, BuildKit asks for the whole context.
    Tmpfs,
}

/// The commands of one instruction. `written` gives a span of the file as its author wrote it.
pub(super) fn read<'a>(
    instruction: &Instruction<'_>,
    written: impl Fn(Range<usize>) -> &'a str,
    escape: char,
) -> Vec<Command> {
    match instruction {
        Instruction::Arg(arg) => vec![Command::Arg(arguments(&arg.arguments.value, escape))],
        Instruction::Env(env) => vec![Command::Env(pairs(&env.arguments.value, escape))],
        Instruction::Add(add) => copy(&add.src, written),
        Instruction::Copy(copied) => {
            let from = flag(&copied.options, "from").map(|from| from.value.trim_matches(['"', '\'']));
            match from {
                Some(from) if !from.is_empty() => Vec::new(),
                _ => copy(&copied.src, written),
            }
        }
        Instruction::Run(run) => {
            let mounts = run.options.iter().filter(|option| option.name.value == "mount");
            mounts.filter_map(|mount| of_mount(&mount.value.as_ref()?.value)).collect()
        }
        _ => Vec::new(),
    }
}

fn copy<'a>(sources: &[Source<'_>], written: impl Fn(Range<usize>) -> &'a str) -> Vec<Command> {
    let paths = sources.iter().filter_map(|source| match source {
        Source::Path(path) if mask::here_document(written(path.span.clone())).is_none() => {
            Some(path.value.to_string())
        }
        _ => None,
    });
    vec![Command::Copy(paths.collect())]
}

fn of_mount(value: &str) -> Option<Command> {
    match mount::of_context(value) {
        mount::OfContext::Nothing => None,
        mount::OfContext::Tmpfs => Some(Command::Tmpfs),
        mount::OfContext::Path(path) => Some(Command::Mount(path.to_owned())),
    }
}

/// `NAME=VALUE` pairs, or one name and the rest of the line.
fn pairs(arguments: &str, escape: char) -> Vec<(String, String)> {
    let words = shell::words(arguments, escape);
    if words.first().is_some_and(|word| !word.contains('=')) {
        let (name, value) =
            arguments.trim().split_once(char::is_whitespace).unwrap_or((arguments.trim(), ""));
        return vec![(name.to_owned(), value.trim_start().to_owned())];
    }
    let pair = |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    words.into_iter().filter_map(pair).collect()
}

/// What an `ARG` declares: names, with their defaults as written.
pub(super) fn arguments(text: &str, escape: char) -> Vec<(String, Option<String>)> {
    let words = shell::words(text, escape).into_iter();
    let declared = words.map(|word| match word.split_once('=') {
        Some((name, default)) => (name.to_owned(), Some(default.to_owned())),
        None => (word.to_owned(), None),
    });
    declared.collect()
}

/// A flag's value; of several, the last counts.
pub(super) fn flag<'a, 'b>(flags: &'b [Flag<'a>], name: &str) -> Option<&'b UnescapedString<'a>> {
    flags.iter().rev().find(|flag| flag.name.value == name)?.value.as_ref()
}
