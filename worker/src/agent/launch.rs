//! Starting a runner, or calling the one that was started ahead.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use archyard_model::{AttemptId, Failure, FailureClass};
use archyard_proto::v1 as proto;
use prost::Message as _;

use super::Shared;
use crate::attempt::{Assignment, AttemptDir, Credentials};
use crate::config::OnExit;

/// Variables that name files, or lists of folders, and that a runner or one of its libraries reads.
const PATH_VARIABLES: [&str; 4] = ["SSL_CERT_FILE", "SSL_CERT_DIR", "TMPDIR", "PATH"];

/// A runner that was started.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) child: Child,
    /// Held for as long as the runner is to live with us; none where it is to outlive us.
    pub(super) tether: Option<ChildStdin>,
}

/// What a runner of this agent is told.
pub(super) fn assignment(
    shared: &Shared,
    id: AttemptId,
    slot: u32,
    spec: Option<proto::JobSpec>,
) -> Assignment {
    let config = &shared.config;
    Assignment {
        attempt: Some(archyard_model::convert::attempt_to_proto(id)),
        spec,
        worker: config.name.to_string(),
        scheduler: config.scheduler.endpoint.to_string(),
        tls: config.scheduler.tls.as_ref().map(|folder| folder.display().to_string()).unwrap_or_default(),
        engine: config.engine.clone(),
        data_dir: config.data_dir.display().to_string(),
        slot,
        layer_cache_bytes: config.layer_cache_bytes,
        tethered: config.on_exit == OnExit::Stop,
        source_policy: shared.health.state().source_policy,
    }
}

/// Makes the folder, calls or starts the runner and hands it its secrets. Blocks for some milliseconds at most.
pub(super) fn launch(
    shared: &Shared,
    id: AttemptId,
    assignment: &Assignment,
    credentials: Vec<proto::RegistryCredential>,
) -> io::Result<Launched> {
    let dir = AttemptDir::create(&shared.layout.attempts(), id, assignment)?;
    let log = dir.open_runner_log()?;
    let mut child = match shared.warm.call(id) {
        Some(called) => called,
        None => start(shared, &dir, log)?,
    };
    let mut tether = child.stdin.take();
    if let Some(stdin) = &mut tether {
        let message = Credentials { registries: credentials }.encode_length_delimited_to_vec();
        if let Err(error) = stdin.write_all(&message) {
            // It died at once; its end says more than this error.
            tracing::warn!(attempt = %id, %error, "a runner did not take its credentials");
        }
    }
    Ok(Launched { child, tether: tether.filter(|_| assignment.tethered) })
}

fn start(shared: &Shared, dir: &AttemptDir, log: File) -> io::Result<Child> {
    let mut command = command(shared)?;
    command.arg(dir.path()).current_dir(dir.path());
    let streams = command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
    streams.spawn().map_err(|error| {
        let program = streams.get_program().display();
        io::Error::new(error.kind(), format!("{program}: {error}"))
    })
}

/// The program of every runner, with what it is told first.
pub(super) fn command(shared: &Shared) -> io::Result<Command> {
    let (program, arguments) = shared
        .config
        .runner_command
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "there is no runner to start"))?;
    let mut command = Command::new(program);
    // A runner works in another folder than this process.
    for name in PATH_VARIABLES {
        if let Some(absolute) = std::env::var_os(name).and_then(|value| absolute(&value)) {
            command.env(name, absolute);
        }
    }
    // No signal to our group, as from a terminal, is meant for it.
    command.args(arguments).process_group(0);
    Ok(command)
}

/// The same list of paths for a process in another folder. None where nothing has to change.
fn absolute(list: &OsStr) -> Option<OsString> {
    let paths: Vec<PathBuf> = std::env::split_paths(list).collect();
    if paths.iter().all(|path| path.as_os_str().is_empty() || path.is_absolute()) {
        return None;
    }
    let resolved = paths.iter().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
    std::env::join_paths(resolved).ok()
}

/// A runner that could not be started, as a failure.
pub(super) fn failure(error: &io::Error) -> Failure {
    let (code, remedy) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ("disk_full", "free some space on the worker's disk")
        }
        _ => ("runner_failed", "see the worker's log"),
    };
    let message = format!("the worker cannot start a runner: {error}; {remedy}");
    Failure::new(FailureClass::Infrastructure, code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_in_variables_are_made_absolute_for_a_runner() {
        let here = std::env::current_dir().unwrap();
        let want =
            |paths: &[&str]| Some(std::env::join_paths(paths.iter().map(|path| here.join(path))).unwrap());
        assert_eq!(absolute(OsStr::new("certs/ca.pem")), want(&["certs/ca.pem"]));
        assert_eq!(absolute(OsStr::new("/etc/ssl:certs")), want(&["/etc/ssl", "certs"]));
        for unchanged in ["", "/etc/ssl/certs", "/usr/bin:/bin", "/usr/bin::/bin"] {
            assert_eq!(absolute(OsStr::new(unchanged)), None, "{unchanged}");
        }
    }
}
