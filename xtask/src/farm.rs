//! Archyard's own processes as the quickstart starts them: a scheduler and a worker
//! an Engine. Runners are told by the folder they work for, since they outlive
//! their agent on purpose.

use std::env;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::env::Env;
use crate::interrupt;
use crate::process::{self, Process};
use crate::root::Root;
use crate::run;

/// How long a process may take to be there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One of Archyard's processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// `scheduler`, `worker-1`, `worker-2`.
    pub name: String,
    /// The process.
    pub process: Process,
}

/// Where `archyard` looks for a farm when it is not told: the scheduler's default.
///
/// # Errors
/// When an ordinary user has no folder for sockets.
pub fn default_socket() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/run/archyard/scheduler.sock"));
    }
    let dir = env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let dir =
        dir.context("XDG_RUNTIME_DIR is not set: log in anew, or set it to a folder of yours for sockets")?;
    Ok(PathBuf::from(dir).join("archyard/scheduler.sock"))
}

/// Whether somebody serves there.
#[must_use]
pub fn serves(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

/// Starts a scheduler at the default socket and one worker an Engine, and waits
/// until all workers are known.
///
/// # Errors
/// When one does not come up: then with the end of its log.
pub fn start(env: &mut Env, archyard: &Path) -> Result<()> {
    let socket = default_socket()?;
    let farm_dir = env.place.dir.join("farm");
    let mut scheduler = Command::new(archyard);
    scheduler.arg("scheduler").arg("--data-dir").arg(farm_dir.join("scheduler"));
    spawn(env, "scheduler", &scheduler)?;
    await_all(env, PATIENCE, &format!("no scheduler serves {}", socket.display()), || Ok(serves(&socket)))?;

    let engines: Vec<String> = env.state.engines.iter().map(crate::engine::Engine::address).collect();
    for (engine, number) in engines.iter().zip(1..) {
        let name = format!("worker-{number}");
        let mut worker = Command::new(archyard);
        worker
            .arg("worker")
            .arg(format!("--scheduler=unix:{}", socket.display()))
            .arg(format!("--engine={engine}"));
        worker.arg("--data-dir").arg(farm_dir.join(&name)).args(["--name", &name, "--pool", "trusted"]);
        spawn(env, &name, &worker)?;
    }
    await_all(env, PATIENCE, "not all workers are known to the scheduler", || {
        let listed = run::output(Command::new(archyard).args(["workers", "--json"]))?;
        Ok(workers(&listed)?.len() >= engines.len())
    })
}

/// Starts one of the farm's processes, and writes it down.
///
/// # Errors
/// When it does not start.
pub(crate) fn spawn(env: &mut Env, name: &str, command: &Command) -> Result<()> {
    let log = log(&env.place.dir, name);
    let folder = log.parent().unwrap_or(&env.place.dir);
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let process = Process::spawn(command, &log)?;
    env.state.farm.push(Daemon { name: name.to_owned(), process });
    env.save()
}

/// The log of one of the processes.
#[must_use]
pub fn log(dir: &Path, name: &str) -> PathBuf {
    dir.join("logs").join(format!("{name}.log"))
}

/// Waits until the farm is as it should be.
///
/// # Errors
/// When one of its processes ends, or `limit` passes: with the ends of all logs.
pub(crate) fn await_all(
    env: &Env,
    limit: Duration,
    complaint: &str,
    mut ready: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let logs = || {
        let tails = env.state.farm.iter().map(|daemon| run::log_tail(&log(&env.place.dir, &daemon.name)));
        tails.collect::<Vec<_>>().join("\n")
    };
    let mut last = None;
    let up = interrupt::wait_for(limit, || {
        if let Some(gone) = env.state.farm.iter().find(|daemon| !daemon.process.is_alive()) {
            bail!(
                "{} ended while the farm came up; {}",
                gone.name,
                run::log_tail(&log(&env.place.dir, &gone.name))
            );
        }
        ready().or_else(|error| {
            last = Some(error);
            Ok(false)
        })
    })?;
    if !up {
        let last = last.map(|error| format!(" ({error:#})")).unwrap_or_default();
        bail!("{complaint} after {} s{last}; {}", limit.as_secs(), logs());
    }
    Ok(())
}

/// The names in the output of `archyard workers --json`.
fn workers(listed: &str) -> Result<Vec<String>> {
    let name = |line: &str| {
        let worker: Value =
            serde_json::from_str(line).with_context(|| format!("`workers --json` printed {line:?}"))?;
        worker["name"].as_str().map(str::to_owned).with_context(|| format!("a worker without a name: {line}"))
    };
    listed.lines().filter(|line| !line.trim().is_empty()).map(name).collect()
}

/// Ends the farm whose data lies in `dir`: workers before their scheduler, then the
/// runners that are left.
///
/// # Errors
/// When one does not end.
pub fn stop(farm: &mut Vec<Daemon>, dir: &Path) -> Result<()> {
    let had_farm = !farm.is_empty();
    while let Some(daemon) = farm.last() {
        daemon
            .process
            .stop(&Root::none(), Duration::from_secs(10))
            .with_context(|| format!("cannot stop {}", daemon.name))?;
        farm.pop();
    }
    if had_farm || dir.join("farm").exists() {
        // And what was started and never written down.
        for left in process::told_of(&["archyard", "qemu-system-aar"], &[dir]) {
            left.stop(&Root::none(), Duration::from_secs(10)).context("cannot stop a runner")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_read_line_by_line() {
        let listed =
            "{\"name\":\"worker-1\",\"state\":\"ready\"}\n{\"name\":\"worker-2\",\"state\":\"ready\"}\n";
        assert_eq!(workers(listed).unwrap(), ["worker-1", "worker-2"]);
        assert!(workers("").unwrap().is_empty());
        assert!(workers("NAME STATE").is_err() && workers("{}").is_err());
    }

    #[test]
    fn nobody_serves_a_path_that_is_not_there() {
        assert!(!serves(Path::new("/nonexistent/socket")));
    }
}
