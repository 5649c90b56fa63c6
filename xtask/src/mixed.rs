//! A farm over two kinds of machine: this host's own worker beside its Engine, and a
//! worker inside an emulated aarch64 [`Machine`], which dials in over the network with
//! a certificate of the farm's own authority, as one in another building would.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::env::Env;
use crate::farm;
use crate::machine::{Errand, HOST, Machine};
use crate::run;

/// How long the machine may take to boot and its worker to join, on a busy host.
const PATIENCE: Duration = Duration::from_secs(300);

/// Such a farm, as tests find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mixed {
    /// As `--farm` takes it.
    pub endpoint: String,
    /// The worker on this host.
    pub host: String,
    /// The worker in the machine.
    pub machine: String,
    /// Logs of the farm's processes; the machine's console is among them.
    pub log_dir: PathBuf,
}

/// Starts a scheduler and the worker on the environment's first Engine, both `archyard`,
/// and a machine whose worker is `guest`; waits until both workers are ready.
///
/// # Errors
/// When one does not come up: then with the ends of all logs.
pub fn start(env: &mut Env, machine: &Machine, archyard: &Path, guest: &Path) -> Result<Mixed> {
    let farm_dir = env.place.dir.join("farm");
    let socket = env.place.run_dir.join("s.sock");
    let mixed = Mixed {
        endpoint: format!("unix:{}", socket.display()),
        host: "host".into(),
        machine: "machine".into(),
        log_dir: farm::log(&env.place.dir, "scheduler").parent().map(Path::to_path_buf).unwrap_or_default(),
    };
    let port = free_port()?;
    let data = farm_dir.join("scheduler");
    let mut scheduler = Command::new(archyard);
    scheduler.arg("scheduler").arg("--data-dir").arg(&data);
    scheduler.args(["--listen", &mixed.endpoint, "--listen", &format!("127.0.0.1:{port}")]);
    farm::spawn(env, "scheduler", scheduler.args(["--tls", "--tls-name", HOST]))?;
    farm::await_all(env, farm::PATIENCE, &format!("no scheduler serves {}", socket.display()), || {
        Ok(farm::serves(&socket))
    })?;

    let mut worker = Command::new(archyard);
    let engine = env.state.engines.first().context("this environment has no Engine")?.address();
    worker.args(["worker", "--scheduler", &mixed.endpoint, "--engine", &engine, "--name", &mixed.host]);
    farm::spawn(env, &mixed.host, worker.arg("--data-dir").arg(farm_dir.join(&mixed.host)))?;

    let tls = farm_dir.join("tls");
    let mut cert = Command::new(archyard);
    cert.args(["cert", "issue", &mixed.machine, "--role", "worker", "--data-dir"]).arg(&data);
    run::output(cert.arg("--out").arg(&tls))?;
    let errand = Errand {
        archyard: guest,
        name: &mixed.machine,
        tls: &tls,
        scheduler_port: port,
        registry_port: env.registry()?.port,
    };
    let command = machine.command(&farm_dir, &errand)?;
    farm::spawn(env, &mixed.machine, &command)?;
    farm::await_all(env, PATIENCE, "not both workers are ready", || {
        let mut list = Command::new(archyard);
        let listed = run::output(list.args(["workers", "--json"]).env("ARCHYARD_FARM", &mixed.endpoint))?;
        Ok([&mixed.host, &mixed.machine].iter().all(|name| is_ready(&listed, name)))
    })?;
    Ok(mixed)
}

/// Whether a worker is there, and nothing keeps it from working.
fn is_ready(listed: &str, name: &str) -> bool {
    let workers = listed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    workers.into_iter().any(|worker| {
        let problem = worker["problem"].as_str().unwrap_or_default();
        worker["name"] == name && worker["state"] == "ready" && problem.is_empty()
    })
}

/// Free now; the scheduler says so if somebody else was faster.
fn free_port() -> Result<u16> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    Ok(socket.context("no free port on loopback")?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_with_a_problem_is_not_ready() {
        let listed = "{\"name\":\"a\",\"state\":\"ready\",\"problem\":null}\n\
                      {\"name\":\"b\",\"state\":\"ready\",\"problem\":\"the Docker Engine was not asked yet\"}\n\
                      {\"name\":\"c\",\"state\":\"lost\"}\n";
        assert!(is_ready(listed, "a"));
        assert!(!is_ready(listed, "b") && !is_ready(listed, "c") && !is_ready(listed, "d"));
    }
}
