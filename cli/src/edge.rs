//! The edge where paths come in: every path of a daemon, from a flag or a variable, is made absolute while it is read.
//!
//! A worker's runner works in a folder of its own, so a path that is passed on as it was written names another file
//! there. What only the client itself opens, such as a build's context, stays as it was written: messages name it so.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use archyard_model::Invalid;
use archyard_net::Endpoint;
use archyard_scheduler::Listen;
use clap::builder::{OsStringValueParser, PathBufValueParser, TypedValueParser};

use crate::args::Named;

/// A path.
pub(crate) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(std::path::absolute)
}

/// A path that counts unless it is empty.
pub(crate) fn named_path() -> impl TypedValueParser<Value = Named<PathBuf>> {
    OsStringValueParser::new().try_map(|text: OsString| {
        let named = (!text.is_empty()).then(|| std::path::absolute(PathBuf::from(text)));
        named.transpose().map(Named)
    })
}

/// A farm.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint, Invalid> {
    text.parse::<Endpoint>()?.resolved().map_err(|error| folder_is_gone("endpoint", text, &error))
}

/// A farm that counts unless it is empty.
pub(crate) fn named_endpoint(text: &str) -> Result<Named<Endpoint>, Invalid> {
    if text.is_empty() { Ok(Named(None)) } else { endpoint(text).map(|endpoint| Named(Some(endpoint))) }
}

/// A place to listen.
pub(crate) fn listen(text: &str) -> Result<Listen, Invalid> {
    text.parse::<Listen>()?.resolved().map_err(|error| folder_is_gone("--listen", text, &error))
}

/// An Engine. What is not the path of a socket is left for the Engine's own client to judge.
pub(crate) fn engine(text: &str) -> Result<String, Invalid> {
    let Some(path) = text.strip_prefix("unix:") else { return Ok(text.to_owned()) };
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() {
        let problem = "the path of the socket is missing, as in unix:///var/run/docker.sock";
        return Err(Invalid::new("engine", text, problem));
    }
    let path = std::path::absolute(path).map_err(|error| folder_is_gone("engine", text, &error))?;
    Ok(format!("unix://{}", path.display()))
}

fn folder_is_gone(field: &str, text: &str, error: &io::Error) -> Invalid {
    let problem = format!(
        "a relative path needs a working folder, and this process has none: {error}; write an absolute path"
    );
    Invalid::new(field, text, problem)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::args::Cli;

    fn here(path: &str) -> PathBuf {
        std::env::current_dir().unwrap().join(path)
    }

    #[test]
    fn relative_sockets_and_engines_become_absolute() {
        assert_eq!(endpoint("unix:s.sock").unwrap(), Endpoint::Unix(here("s.sock")));
        assert_eq!(listen("unix:run/s.sock").unwrap(), Listen::Unix(here("run/s.sock")));
        let want = format!("unix://{}", here("d.sock").display());
        for text in ["unix:d.sock", "unix://d.sock", "unix:./d.sock"] {
            assert_eq!(engine(text).unwrap(), want, "{text}");
        }
        assert_eq!(engine("unix:///var/run/docker.sock").unwrap(), "unix:///var/run/docker.sock");
        assert_eq!(engine("tcp://127.0.0.1:2375").unwrap(), "tcp://127.0.0.1:2375");
        assert!(engine("unix://").is_err());
    }

    #[test]
    fn an_empty_variable_names_nothing() {
        assert_eq!(named_endpoint("").unwrap(), Named(None));
        assert!(named_endpoint("unix:s").unwrap().0.is_some());
    }

    /// No flag of these that takes a path may keep a relative one, whichever flags they will have.
    #[test]
    fn every_path_is_absolute_when_it_is_read() {
        let mut seen = 0;
        for words in [
            &["worker"][..],
            &["scheduler"],
            &["up"],
            &["workers"],
            &["cert", "issue", "--role", "worker", "w", "--out", "/o"],
        ] {
            let mut command = Cli::command();
            let command = words.iter().filter(|word| word.chars().all(char::is_alphabetic)).fold(
                &mut command,
                |command, word| match command.find_subcommand(word).is_some() {
                    true => command.find_subcommand_mut(word).unwrap(),
                    false => command,
                },
            );
            for argument in command.get_arguments() {
                let kind = argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name);
                let (Some(flag), value) = (
                    argument.get_long(),
                    match kind {
                        "DIR" | "FILE" | "PATH" => "relative",
                        "ENDPOINT" | "ADDRESS" => "unix:relative",
                        _ => continue,
                    },
                ) else {
                    continue;
                };
                let flag = format!("--{flag}");
                let line = [&["archyard"], words, &[flag.as_str(), value]].concat();
                let read = format!("{:?}", Cli::try_parse_from(&line).unwrap());
                assert!(read.contains(&here("relative").display().to_string()), "{line:?}: {read}");
                seen += 1;
            }
        }
        assert!(seen >= 12, "only {seen} flags were looked at");
    }
}
