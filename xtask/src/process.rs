//! A process that is certainly the one meant: its number and when it started, so
//! that a number used again by a stranger's process is never signalled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::interrupt::asked;
use crate::root::Root;
use crate::run;

/// One process of this boot of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub started_ticks: u64,
}

impl Process {
    /// The process that has this number now.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: u32) -> Result<Self> {
        let stat = stat(pid).with_context(|| format!("no process has the number {pid}"))?;
        Ok(Self { pid, started_ticks: stat.started_ticks })
    }

    /// Starts a program that goes on when we end, in a session of its own (so no
    /// terminal's Ctrl-C reaches it), its output appended to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the program not started.
    pub fn spawn(command: &Command, log: &Path) -> Result<Self> {
        let mut detached = Command::new(run::tool("setsid")?);
        detached.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => detached.env(key, value),
                None => detached.env_remove(key),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            detached.current_dir(dir);
        }
        let (out, err) = open_log(log)?;
        let name = run::describe(command);
        let child = detached
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        // setsid becomes the program: the number stays.
        Self::of(child.id()).with_context(|| format!("{name} ended at once; {}", run::log_tail(log)))
    }

    /// Whether it still runs. A process that ended and was not waited for does not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        stat(self.pid)
            .is_some_and(|stat| stat.started_ticks == self.started_ticks && !matches!(stat.state, 'Z' | 'X'))
    }

    /// Asks it to end; does not wait.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it at once, as a crash would; does not wait.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// True when the signal was delivered.
    fn signal(&self, signal: Signal) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return false };
        let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
        // Looked at after the descriptor is open: it is this process or none.
        self.is_alive() && pidfd_send_signal(fd, signal).is_ok()
    }

    /// Asks it to end, waits for `grace`, then ends it. `root` is for processes of
    /// the administrator's.
    ///
    /// # Errors
    /// When it survives even that.
    pub fn stop(&self, root: &Root, grace: Duration) -> Result<()> {
        for (signal, number, limit) in
            [(Signal::TERM, "15", grace), (Signal::KILL, "9", Duration::from_secs(10))]
        {
            if !self.is_alive() {
                return Ok(());
            }
            if !self.signal(signal) && self.is_alive() {
                // Not ours to signal: through sudo, if it came to life that way.
                // The shell's own kill: the program is not everywhere.
                let kill = format!("kill -{number} {}", self.pid);
                if let Err(error) = run::output(root.command("sh").args(["-c", &kill])) {
                    eprintln!("xtask: warning: {error:#}");
                }
            }
            if self.wait_gone(limit) {
                return Ok(());
            }
        }
        bail!("process {} does not end, not even by SIGKILL", self.pid)
    }

    /// Waits until it is gone; false when `limit` passed.
    #[must_use]
    pub fn wait_gone(&self, limit: Duration) -> bool {
        let end = std::time::Instant::now() + limit;
        while self.is_alive() {
            if std::time::Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(if asked() { 10 } else { 20 }));
        }
        true
    }
}

/// Opens a log for appending, twice: for standard output and standard error.
///
/// # Errors
/// When it cannot be opened.
pub fn open_log(log: &Path) -> Result<(fs::File, fs::File)> {
    let open = || fs::OpenOptions::new().create(true).append(true).open(log);
    let file = open().with_context(|| format!("cannot open the log {}", log.display()))?;
    let twin = file.try_clone().with_context(|| format!("cannot open the log {}", log.display()))?;
    Ok((file, twin))
}

/// All processes that we may look at.
#[must_use]
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Process::of(pid).ok())
        .collect()
}

/// The program's name as the kernel keeps it (at most 15 bytes).
#[must_use]
pub fn comm(pid: u32) -> String {
    fs::read_to_string(proc_file(pid, "comm")).map(|name| name.trim_end().to_owned()).unwrap_or_default()
}

/// The program's arguments.
#[must_use]
pub fn arguments(pid: u32) -> Vec<String> {
    let bytes = fs::read(proc_file(pid, "cmdline")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

/// Those of these programs (their names as [`comm`] gives them) that were told of one
/// of these folders.
#[must_use]
pub fn told_of(programs: &[&str], folders: &[&Path]) -> Vec<Process> {
    let ours = |process: &Process| {
        programs.contains(&comm(process.pid).as_str())
            && arguments(process.pid).iter().any(|arg| folders.iter().any(|folder| names(arg, folder)))
    };
    all().into_iter().filter(ours).collect()
}

/// Whether an argument is this folder or something in it (`--root=FOLDER/x` too).
#[must_use]
pub fn names(argument: &str, folder: &Path) -> bool {
    let value = argument.split_once('=').map_or(argument, |(_, value)| value);
    Path::new(value.strip_prefix("unix://").unwrap_or(value)).starts_with(folder)
}

/// What names this boot: process numbers of another boot mean nothing.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

fn proc_file(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

struct Stat {
    state: char,
    started_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(proc_file(pid, "stat")).ok()?)
}

/// The name, second, is in brackets and may hold anything, brackets and spaces too.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let started_ticks = fields.nth(18)?.parse().ok()?;
    Some(Stat { state, started_ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_names_with_brackets_and_spaces() {
        let line =
            "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 2 18446744073709551615";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.state, stat.started_ticks), ('S', 98765));
        assert!(parse_stat("").is_none());
        assert!(parse_stat("42 (a) S 1").is_none());
    }

    #[test]
    fn arguments_name_whole_folders() {
        let folder = Path::new("/r/1");
        assert!(
            names("/r/1/c.sock", folder) && names("--root=/r/1/d", folder) && names("unix:///r/1/s", folder)
        );
        assert!(!names("/r/10/c.sock", folder) && !names("r/1", folder));
    }

    #[test]
    fn a_number_used_again_is_another_process() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        let other = Process { started_ticks: process.started_ticks + 1, ..process };
        assert!(process.is_alive() && !other.is_alive());
        assert!(!other.signal(Signal::KILL));
        assert!(process.is_alive(), "a stranger was signalled");

        process.stop(&Root::none(), Duration::from_secs(5)).unwrap();
        assert!(!process.is_alive(), "a zombie counts as gone");
        child.wait().unwrap();
        assert!(Process::of(u32::MAX).is_err());
    }

    #[test]
    fn a_process_that_ignores_the_request_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let process = Process::spawn(
            Command::new("sh").args(["-c", "trap '' TERM; echo up; sleep 60 & wait; wait"]),
            &log,
        )
        .unwrap();
        while !fs::read_to_string(&log).unwrap().contains("up") {
            std::thread::sleep(Duration::from_millis(5));
        }
        process.stop(&Root::none(), Duration::from_millis(100)).unwrap();
        assert!(!process.is_alive());
    }
}
