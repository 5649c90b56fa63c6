//! The `archyard` command: one binary, several roles.
//!
//! This file picks the role and turns its end into an exit code; each command is a file of `commands/`. A runner is
//! told apart before anything else happens: one starts for every attempt, and has no use for flags or logging.

mod args;
mod build;
mod commands;
mod edge;
mod exit;
mod farm;
mod local;
mod logging;
mod outputs;
mod paths;
mod progress;
mod roles;
mod runtime;
mod shutdown;
mod status;
mod text;
mod usage;
mod view;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Cli;
use crate::exit::{Exit, Refusal};

fn main() -> ExitCode {
    if let Some(args) = commands::runner::args(std::env::args_os()) {
        return finish(commands::runner::run(&args));
    }
    let words: Vec<OsString> = std::env::args_os().collect();
    match Cli::try_parse_from(&words) {
        Ok(cli) => finish(commands::run(cli.command).map(ExitCode::from)),
        Err(error) => match usage::explain(&error, &words) {
            Some(line) => finish(Err(Refusal::usage(line))),
            None => error.exit(),
        },
    }
}

/// Tells an error in one line on standard error.
fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) if exit::is_broken_pipe(&error) => Exit::Success.into(),
        Err(error) => {
            eprintln!("archyard: {}", explain(&error));
            exit::of(&error).into()
        }
    }
}

/// An error with its causes; a status of the farm in words.
fn explain(error: &anyhow::Error) -> String {
    let said = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<tonic::Status>().map_or_else(|| cause.to_string(), status::describe)
    };
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = said(cause);
        // Many errors repeat their cause's words; once is enough.
        if !parts.last().is_some_and(|last| last.contains(&text)) {
            parts.push(text);
        }
        if cause.is::<tonic::Status>() {
            break;
        }
    }
    parts.join(": ")
}
