//! Exit codes: one place that says what each failure tells a script.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | everything asked for is done |
//! | 1 | a build failed, or what was asked for cannot be done |
//! | 2 | usage: the same command fails again until it is changed |
//! | 3 | the farm cannot be reached |
//! | 4 | everything is built and pushed, but a newer build has at least one of the tags |
//! | 130 | canceled |

use std::fmt;
use std::io;
use std::process::ExitCode;

use archyard_model::Invalid;
use archyard_net::TlsFault;
use tonic::{Code, Status};

use crate::status::is_transient;

/// What the process tells whoever started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for is done; for a build: on every platform.
    Success,
    /// A build failed, or what was asked for cannot be done.
    Failed,
    /// Wrong flags, Dockerfile or context: trying again unchanged fails again.
    Usage,
    /// The farm cannot be reached.
    Unavailable,
    /// Everything is built and pushed, but a newer build has at least one of the tags.
    Superseded,
    /// Canceled, by this client or another.
    Canceled,
}

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unavailable => 3,
            Self::Superseded => 4,
            Self::Canceled => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that knows its exit code.
#[derive(Debug)]
pub(crate) struct Refusal {
    exit: Exit,
    message: String,
}

impl Refusal {
    /// The user's to mend: flag, value, remedy.
    pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
        Self { exit: Exit::Usage, message: message.into() }.into()
    }

    /// No farm answers: which, and what to do.
    pub(crate) fn unavailable(message: impl Into<String>) -> anyhow::Error {
        Self { exit: Exit::Unavailable, message: message.into() }.into()
    }

    /// Canceled before there was anything to cancel on the farm.
    pub(crate) fn canceled(message: impl Into<String>) -> anyhow::Error {
        Self { exit: Exit::Canceled, message: message.into() }.into()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// The code of an error, by the first of its causes that has one.
pub(crate) fn of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(of_cause).unwrap_or(Exit::Failed)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(refusal) = cause.downcast_ref::<Refusal>() {
        return Some(refusal.exit);
    }
    if cause.is::<archyard_plan::Error>() || cause.is::<Invalid>() {
        return Some(Exit::Usage);
    }
    let status = cause.downcast_ref::<Status>()?;
    Some(match status.code() {
        Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated => Exit::Usage,
        _ if TlsFault::of(status).is_some() => Exit::Usage,
        _ if is_transient(status) => Exit::Unavailable,
        _ => Exit::Failed,
    })
}

/// Whether the reader of our output went away (`archyard ps | head`): nobody is there to be told of it. A broken
/// connection to the farm is another matter.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().take_while(|cause| !cause.is::<Status>()).any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use anyhow::Context as _;

    use super::*;

    #[test]
    fn every_kind_of_error_has_its_code() {
        let plan = archyard_plan::Error::FileChanged { path: PathBuf::from("x") };
        for (error, want) in [
            (Refusal::usage("x"), Exit::Usage),
            (Refusal::unavailable("x"), Exit::Unavailable),
            (Refusal::canceled("x"), Exit::Canceled),
            (plan.into(), Exit::Usage),
            (Invalid::new("platform", "x", "unknown").into(), Exit::Usage),
            (Status::invalid_argument("x").into(), Exit::Usage),
            (Status::permission_denied("x").into(), Exit::Usage),
            (Status::unauthenticated("x").into(), Exit::Usage),
            (Status::unavailable("x").into(), Exit::Unavailable),
            (Status::not_found("x").into(), Exit::Failed),
            (Status::failed_precondition("x").into(), Exit::Failed),
            (anyhow::anyhow!("anything else"), Exit::Failed),
        ] {
            let error: anyhow::Error = error;
            assert_eq!(of(&error), want, "{error}");
            assert_eq!(of(&Err::<(), _>(error).context("around").unwrap_err()), want);
        }
    }

    #[test]
    fn only_our_own_output_is_a_broken_pipe() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&broken().into()));
        assert!(is_broken_pipe(&Err::<(), _>(broken()).context("standard output").unwrap_err()));
        let connection: anyhow::Error = Status::from_error(Box::new(broken())).into();
        assert!(!is_broken_pipe(&connection));
        assert_eq!(of(&connection), Exit::Unavailable);
    }

    #[test]
    fn numbers_are_those_of_the_manual() {
        let all =
            [Exit::Success, Exit::Failed, Exit::Usage, Exit::Unavailable, Exit::Superseded, Exit::Canceled];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 130]);
    }
}
