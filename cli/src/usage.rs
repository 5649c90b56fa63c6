//! What is wrong with a command line, in one line: what was given, why it cannot be taken, and what would be right.

use std::error::Error as _;
use std::ffi::OsString;

use archyard_model::Invalid;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Error};

use crate::args::Cli;

/// How alike two words are where one is taken for a slip of the other, from 0 to 1.
const NEAR: f64 = 0.6;

/// An error of clap's about these words as one line; None where it is help or a version that was asked for.
pub(crate) fn explain(error: &Error, words: &[OsString]) -> Option<String> {
    let what = |kind| error.get(kind).map(text).unwrap_or_default();
    let flag = name(&what(ContextKind::InvalidArg));
    let value = what(ContextKind::InvalidValue);
    let help = format!("{} --help", command(words));
    let line = match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => return None,
        ErrorKind::UnknownArgument => unknown(error, &flag, &help),
        ErrorKind::InvalidSubcommand => {
            let given = what(ContextKind::InvalidSubcommand);
            format!(
                "{given:?}: unknown command; {}",
                or_see(error, &given, ContextKind::SuggestedSubcommand, &help)
            )
        }
        ErrorKind::MissingRequiredArgument => format!("{flag} is missing; see {help}"),
        ErrorKind::MissingSubcommand => format!("a command is missing; see {help}"),
        ErrorKind::ArgumentConflict => {
            let other = name(&what(ContextKind::PriorArg));
            match other == flag {
                true => format!("{flag} is given twice; leave one out"),
                false => format!("{flag} does not go with {other}; leave one out"),
            }
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("{flag}: its value is missing; see {help}"),
        ErrorKind::InvalidValue => {
            let known = what(ContextKind::ValidValue);
            match error.get(ContextKind::SuggestedValue) {
                Some(meant) => {
                    format!("{flag} {value:?}: expected one of {known}; did you mean {}?", text(meant))
                }
                None => format!("{flag} {value:?}: expected one of {known}"),
            }
        }
        ErrorKind::ValueValidation => {
            let source = error.source();
            let problem = match source.and_then(|source| source.downcast_ref::<Invalid>()) {
                // It has a name of its own for what is given.
                Some(invalid) => invalid.problem.clone(),
                None if source.is_some_and(<dyn std::error::Error>::is::<std::num::ParseIntError>) => {
                    "expected a whole number".to_owned()
                }
                None => source.map(ToString::to_string).unwrap_or_default(),
            };
            format!("{flag} {value:?}: {problem}")
        }
        ErrorKind::TooManyValues => format!("{flag} takes no value, and {value:?} is given; see {help}"),
        _ => {
            let rendered = error.render().to_string();
            let first = rendered.lines().next().unwrap_or_default();
            format!("{}; see {help}", first.trim_start_matches("error: "))
        }
    };
    Some(line.lines().map(str::trim).collect::<Vec<_>>().join(" "))
}

fn unknown(error: &Error, flag: &str, help: &str) -> String {
    if flag.starts_with('-') {
        return format!("{flag}: unknown flag; {}", or_see(error, flag, ContextKind::SuggestedArg, help));
    }
    format!(
        "{flag:?}: one argument too many; a value with spaces needs quotes, and {help} shows what there is"
    )
}

/// What was meant, or where to look it up.
fn or_see(error: &Error, given: &str, suggested: ContextKind, help: &str) -> String {
    match error.get(suggested).map(text) {
        Some(meant) if is_near(given, &meant) => format!("did you mean {meant}?"),
        _ => format!("see {help}"),
    }
}

/// Whether one is the other with a slip. clap also suggests what merely begins alike.
fn is_near(given: &str, meant: &str) -> bool {
    strsim::normalized_damerau_levenshtein(given, meant) >= NEAR
}

/// `archyard build`, of all the words that were given.
fn command(words: &[OsString]) -> String {
    let mut name = "archyard".to_owned();
    let mut at = &Cli::command();
    for word in words.iter().skip(1) {
        let Some(sub) = at.find_subcommand(word) else { break };
        name = format!("{name} {}", sub.get_name());
        at = sub;
    }
    name
}

/// `--tag` of `--tag <NAME>`, `CONTEXT` of `<CONTEXT>`.
fn name(argument: &str) -> String {
    let first = argument.split([' ', '=']).next().unwrap_or_default();
    match first.starts_with('<') {
        true => first.trim_start_matches('<').trim_end_matches(['>', '.']).to_owned(),
        false => first.to_owned(),
    }
}

fn text(value: &ContextValue) -> String {
    match value {
        ContextValue::Strings(all) => all.join(", "),
        ContextValue::StyledStrs(all) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn wrong(words: &str) -> String {
        let words: Vec<OsString> =
            std::iter::once("archyard").chain(words.split(' ')).map(Into::into).collect();
        explain(&Cli::try_parse_from(&words).unwrap_err(), &words).unwrap()
    }

    #[test]
    fn one_line_names_flag_value_and_remedy() {
        for (words, want) in [
            ("build --pusk .", "--pusk: unknown flag; did you mean --push?"),
            ("build --secret=id=x .", "--secret: unknown flag; see archyard build --help"),
            ("build -z .", "-z: unknown flag; see archyard build --help"),
            ("build", "CONTEXT is missing; see archyard build --help"),
            ("build . more", "\"more\": one argument too many; a value with spaces needs quotes"),
            ("build . --tag", "--tag: its value is missing; see archyard build --help"),
            ("build . --push=yes", "--push takes no value, and \"yes\" is given"),
            ("build . -q --json", "--quiet does not go with --json; leave one out"),
            (
                "build . --progress plan",
                "--progress \"plan\": expected one of auto, tty, plain, json, quiet; did you mean plain?",
            ),
            ("build . --progress x", "--progress \"x\": expected one of auto, tty, plain, json, quiet"),
            ("build . --project ../x", "--project \"../x\": expected 1 to 128 lowercase letters"),
            ("build . --farm-timeout soon", "--farm-timeout \"soon\": "),
            ("biuld .", "\"biuld\": unknown command; did you mean build?"),
            ("frobnicate", "\"frobnicate\": unknown command; see archyard --help"),
            ("fetch G5FAV", "--output is missing; see archyard fetch --help"),
            ("fetch G5FAV -o type=oci,dest=", "--output \"type=oci,dest=\": dest is empty"),
            ("show", "BUILD is missing; see archyard show --help"),
            ("show not-an-id", "BUILD \"not-an-id\": expected the 26 characters"),
            ("ps -n many", "--limit \"many\": expected a whole number"),
            ("build . --iidfile=", "--iidfile: its value is missing"),
            ("ps --state lost", "--state \"lost\": expected one of "),
        ] {
            let line = wrong(words);
            assert!(line.starts_with(want), "{words}: {line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn help_is_no_mistake() {
        for words in [&["archyard", "--help"][..], &["archyard", "build", "-h"], &["archyard", "--version"]] {
            assert!(explain(&Cli::try_parse_from(words).unwrap_err(), &[]).is_none());
        }
    }
}
