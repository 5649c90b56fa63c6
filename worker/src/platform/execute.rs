//! Executing a tiny program, and seeing who ran it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::elf::{EXIT_CODE, Program};

/// How long a program that does nothing may take.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);

/// What became of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Execution {
    /// CPU and kernel ran it.
    Native,
    /// The kernel ran another program in its place.
    Emulated,
    /// It does not run here.
    Foreign,
    /// It could not be tried.
    Unknown(String),
}

/// Writes the program to `folder`, executes it and removes it again.
pub(super) fn execute(program: Program, folder: &Path) -> Execution {
    let path = folder.join(format!(".measure-{}-{}", std::process::id(), program.header.machine));
    let written = write(&path, &program.bytes());
    let execution = match written {
        Ok(()) => run(&path),
        Err(error) => Execution::Unknown(format!("cannot write {}: {error}", path.display())),
    };
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a program that measured this machine");
    }
    execution
}

fn write(path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o700).open(path)?;
    file.write_all(bytes)
}

fn run(path: &Path) -> Execution {
    let deadline = Instant::now() + PATIENCE;
    let child = loop {
        let spawned =
            Command::new(path).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        match spawned {
            // A fork elsewhere in this process may hold the file open for writing for a moment.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {
                std::thread::sleep(PAUSE);
            }
            spawned => break spawned,
        }
    };
    match child {
        Ok(child) => watch(child, path, deadline),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            Execution::Foreign
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Execution::Unknown(format!(
            "no program may be executed from {}: {error}; is it mounted noexec? choose another --data-dir",
            path.parent().unwrap_or(path).display()
        )),
        Err(error) => Execution::Unknown(format!("cannot execute {}: {error}", path.display())),
    }
}

/// The program waits for the end of its input; until then its process can be looked at.
fn watch(mut child: Child, path: &Path, deadline: Instant) -> Execution {
    let ran = fs::read_link(format!("/proc/{}/exe", child.id()));
    drop(child.stdin.take());
    let status = loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Ok(Some(status)) => break status,
            Ok(None) | Err(_) => {
                if child.kill().and_then(|()| child.wait()).is_err() {
                    tracing::warn!(pid = child.id(), "cannot end a program that measured this machine");
                }
                return Execution::Unknown(format!("it did not end within {PATIENCE:?}"));
            }
        }
    };
    if status.code() != Some(EXIT_CODE) {
        return Execution::Foreign;
    }
    let own = path.canonicalize();
    match (ran, own) {
        (Ok(ran), Ok(own)) if ran == own => Execution::Native,
        (Ok(_), Ok(_)) => Execution::Emulated,
        // Without /proc nobody can say who ran it; the entries of binfmt_misc, also there, took nothing.
        _ => Execution::Unknown("/proc does not show what was executed; mount it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::elf;
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn what_the_kernel_does_not_know_is_foreign() {
        let folder = tempfile::tempdir().unwrap();
        let registered = super::super::Interpreters::registered();
        if !registered.take(&elf::ARM.header) {
            assert_eq!(execute(elf::ARM, folder.path()), Execution::Foreign);
        }
    }

    #[test]
    fn a_script_is_run_by_another_program() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script");
        write(&path, b"#!/bin/sh\nread x\nexit 42\n").unwrap();
        assert_eq!(run(&path), Execution::Emulated);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let Execution::Unknown(reason) = execute(elf::I386, Path::new("/nonexistent")) else {
            panic!("it was executed")
        };
        assert!(reason.contains("/nonexistent"), "{reason}");
    }
}
