//! What is wrong with a command line, in one line: what was given, why it cannot be taken, and what would be right.

use std::error::Error as _;

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// An error of clap's as one line; None where it is help or a version that was asked for.
pub(crate) fn explain(error: &Error) -> Option<String> {
    let what = |kind| error.get(kind).map(text).unwrap_or_default();
    let flag = name(&what(ContextKind::InvalidArg));
    let value = what(ContextKind::InvalidValue);
    let help = format!("{} --help", command(error));
    let line = match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => return None,
        ErrorKind::UnknownArgument => unknown(error, &flag, &help),
        ErrorKind::InvalidSubcommand => {
            let given = what(ContextKind::InvalidSubcommand);
            format!("{given:?}: unknown command; {}", or_see(error, ContextKind::SuggestedSubcommand, &help))
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
        ErrorKind::InvalidValue if value.is_empty() && error.get(ContextKind::ValidValue).is_none() => {
            format!("{flag}: its value is missing; see {help}")
        }
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
            let problem = error.source().map(ToString::to_string).unwrap_or_default();
            // Some say themselves what they are about.
            match problem.contains(&format!("{value:?}")) && problem.starts_with("--") {
                true => problem,
                false => format!("{flag} {value:?}: {problem}"),
            }
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
        return format!("{flag}: unknown flag; {}", or_see(error, ContextKind::SuggestedArg, help));
    }
    format!(
        "{flag:?}: one argument too many; a value with spaces needs quotes, and {help} shows what there is"
    )
}

/// What was meant, or where to look it up.
fn or_see(error: &Error, suggested: ContextKind, help: &str) -> String {
    match error.get(suggested) {
        Some(meant) => format!("did you mean {}?", text(meant)),
        None => format!("see {help}"),
    }
}

/// `archyard build`, out of its usage.
fn command(error: &Error) -> String {
    let usage = error.get(ContextKind::Usage).map(text).unwrap_or_default();
    let words = usage.split_whitespace().skip_while(|word| *word != "archyard");
    let words: Vec<&str> = words.take_while(|word| !word.starts_with(['[', '<', '-'])).collect();
    if words.is_empty() { "archyard".to_owned() } else { words.join(" ") }
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
    use crate::args::Cli;

    fn wrong(words: &str) -> String {
        let words = std::iter::once("archyard").chain(words.split(' '));
        explain(&Cli::try_parse_from(words).unwrap_err()).unwrap()
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
            ("build . --project ../x", "--project \"../x\": "),
            ("build . --farm-timeout soon", "--farm-timeout \"soon\": "),
            ("biuld .", "\"biuld\": unknown command; did you mean build?"),
            ("frobnicate", "\"frobnicate\": unknown command; see archyard --help"),
            ("fetch G5FAV", "--output is missing; see archyard fetch --help"),
            ("fetch G5FAV -o type=oci,dest=", "--output \"type=oci,dest=\": dest is empty"),
            ("show", "BUILD is missing; see archyard show --help"),
            ("show not-an-id", "BUILD \"not-an-id\": "),
            ("ps -n many", "--limit \"many\": "),
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
            assert!(explain(&Cli::try_parse_from(words).unwrap_err()).is_none());
        }
    }
}
