//! Whose fault it is that a container was not made or did not start.
//!
//! The Engine answers in its own words and its runtime's. What is not known to be the machine's fault is the
//! image's: it has no such program, user or folder.

use std::time::Duration;

use archyard_model::{Failure, FailureClass};
use bollard::errors::Error;

use super::{DockerEngine, End, RunError};

/// The Engine or its machine, in lower case.
const MACHINE: &[&str] = &[
    "no space left on device",
    "input/output error",
    "cannot allocate memory",
    "too many open files",
    "resource temporarily unavailable",
    "device or resource busy",
    "cgroup",
    "deadline exceeded",
    "context canceled",
    "transport is closing",
    "connection refused",
    "shim disconnected",
    "ttrpc: closed",
    "unknown runtime",
    "rlimit",
    "address pool",
    "iptables",
];
/// The runtime's words when a program's memory does not even hold itself.
const NO_MEMORY: &str = "oom-killed";

/// What comes before what is wrong.
const PREFIXES: &[&str] = &[
    "failed to create task for container: ",
    "failed to create shim task: ",
    "OCI runtime create failed: ",
    "runc create failed: ",
    "unable to start container process: ",
];

/// No container runs.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The Engine said no, or nothing.
    Engine(Error),
    /// It did not answer in time.
    Slow(Duration),
    /// We did not even ask: the image cannot be run.
    Image(String),
    /// What it holds below a `VOLUME` does not fit into so many bytes.
    VolumeFull(u64),
    /// What we do ourselves does not work on this machine.
    Machine(&'static str),
}

impl Refusal {
    pub(super) fn of(error: Error) -> Self {
        Self::Engine(error)
    }

    /// The end of a program that never began, or who else is to blame.
    pub(super) fn into_end(self, engine: &DockerEngine) -> Result<End, RunError> {
        let error = match self {
            Self::Engine(error) => error,
            Self::Slow(patience) => {
                let endpoint = engine.endpoint();
                let message = format!(
                    "the Docker Engine at {endpoint} made no container within {patience:?}; is it hung?"
                );
                return Err(RunError::of("engine_failed", &message));
            }
            Self::Image(reason) => return Ok(End::NotStarted(reason)),
            Self::VolumeFull(bytes) => return Ok(End::VolumeFull(bytes)),
            Self::Machine(problem) => return Err(RunError::of("engine_failed", &problem)),
        };
        let said = match &error {
            Error::DockerResponseServerError { message, .. } => message.trim(),
            _ => return Err(RunError::of("engine_unreachable", &engine.error("run a smoke test", &error))),
        };
        let lower = said.to_ascii_lowercase();
        if lower.contains("no such image") {
            let message = "the image is gone from the Engine: another build of the same content removed it";
            let failure = Failure::new(FailureClass::Infrastructure, "image_gone", message);
            return Err(RunError::Infrastructure(failure));
        }
        if lower.contains(NO_MEMORY) {
            return Ok(End::OutOfMemory);
        }
        if MACHINE.iter().any(|mark| lower.contains(mark)) {
            return Err(RunError::of("engine_failed", &engine.error("run a smoke test", &error)));
        }
        Ok(End::NotStarted(reason(said)))
    }
}

/// The part of the Engine's words that says something, in one line.
fn reason(mut said: &str) -> String {
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| said.strip_prefix(prefix)) {
        said = rest;
    }
    said.trim_end_matches(": unknown").lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(message: &str) -> Result<End, String> {
        let engine = DockerEngine::connect("unix:///nonexistent/docker.sock").unwrap();
        let error = Error::DockerResponseServerError { status_code: 400, message: message.to_owned() };
        Refusal::of(error).into_end(&engine).map_err(|error| error.into_failure().code)
    }

    #[test]
    fn what_an_image_lacks_is_its_authors() {
        for (message, reason) in [
            (
                "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH: unknown",
                "exec: \"nosuch\": executable file not found in $PATH",
            ),
            (
                "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/etc\": permission denied: unknown",
                "exec: \"/etc\": permission denied",
            ),
            (
                "unable to find user nobodyx: no matching entries in passwd file",
                "unable to find user nobodyx: no matching entries in passwd file",
            ),
            ("No command specified", "No command specified"),
        ] {
            assert_eq!(judged(message), Ok(End::NotStarted(reason.to_owned())));
        }
    }

    #[test]
    fn what_a_machine_lacks_is_tried_again() {
        for (message, code) in [
            ("mkdir /var/lib/docker/x: no space left on device", "engine_failed"),
            ("OCI runtime create failed: unable to apply cgroup configuration: x", "engine_failed"),
            ("No such image: sha256:01", "image_gone"),
        ] {
            assert_eq!(judged(message), Err(code.to_owned()));
        }
        let low = "OCI runtime create failed: container init was OOM-killed (memory limit too low?): unknown";
        assert_eq!(judged(low), Ok(End::OutOfMemory));
    }
}
