//! Running other programs: found where Debian puts them, even when a user's PATH
//! lacks the `sbin` folders; named in full when they fail.

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::interrupt;
use crate::process::Process;

const SBIN: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The user's PATH and the folders of the administrator's programs.
#[must_use]
pub fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    for dir in SBIN.map(PathBuf::from) {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    // Joining fails only for a folder with a colon, and those came out of PATH.
    env::join_paths(dirs).unwrap_or(path)
}

/// Where the program `name` is, if it is installed.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    env::split_paths(&search_path()).map(|dir| dir.join(name)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// As [`find`], for programs that must be there.
///
/// # Errors
/// When it is not installed.
pub fn tool(name: &str) -> Result<PathBuf> {
    find(name).with_context(|| format!("{name} is not installed"))
}

/// The command as a person would type it.
#[must_use]
pub fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Runs it to its end, shows nothing, and returns its standard output.
///
/// # Errors
/// When it cannot start or fails: then with the end of what it said.
pub fn output(command: &mut Command) -> Result<String> {
    let name = describe(command);
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    if !out.status.success() {
        let said = if out.stderr.is_empty() { &out.stdout } else { &out.stderr };
        bail!("{name} failed ({}):\n{}", out.status, tail(&String::from_utf8_lossy(said), 20));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs it to its end, showing what it says.
///
/// # Errors
/// When it cannot start, or we are interrupted.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    let name = describe(command);
    let mut child = command.spawn().with_context(|| format!("cannot run {name}"))?;
    let mut asked_at: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("cannot wait for {name}"))? {
            interrupt::check()?;
            return Ok(status);
        }
        if interrupt::asked() {
            // Ctrl-C reached the child too; a signal to us alone did not.
            let since = asked_at.get_or_insert_with(|| {
                if let Ok(process) = Process::of(child.id()) {
                    process.terminate();
                }
                Instant::now()
            });
            if since.elapsed() > Duration::from_secs(20) {
                child.kill().with_context(|| format!("cannot end {name}"))?;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// As [`status`], and failure is an error.
///
/// # Errors
/// When it cannot start, fails, or we are interrupted.
pub fn shown(command: &mut Command) -> Result<()> {
    let name = describe(command);
    let status = status(command)?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}

/// The last `lines` lines of a text.
#[must_use]
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The end of a log file, for an error's text.
#[must_use]
pub fn log_tail(path: &Path) -> String {
    match std::fs::read(path) {
        Ok(bytes) => {
            format!("the end of {}:\n{}", path.display(), tail(&String::from_utf8_lossy(&bytes), 15))
        }
        Err(error) => format!("its log {} cannot be read: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_keeps_the_last_lines_only() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
        assert_eq!(tail("", 2), "");
    }

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("why") && error.contains('3'), "{error}");
    }

    #[test]
    fn programs_are_found_by_name() {
        assert!(find("sh").is_some());
        assert!(tool("no-such-program-anywhere").unwrap_err().to_string().contains("not installed"));
    }
}
