//! One Docker Engine of our own: a containerd and a dockerd with their own folders,
//! socket and bridge, beside whatever else runs on the machine. No configuration of
//! the host's Engine is read, and no service manager is asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::http;
use crate::interrupt;
use crate::mounts;
use crate::network::{self, Bridge};
use crate::process::{self, Process};
use crate::root::Root;
use crate::run;

/// Under 107 bytes, with room for the longest socket below the run folder.
const MAX_RUN_DIR_LEN: usize = 60;
const OVERLAYFS_MAGIC: u64 = 0x794c_7630;

/// An Engine, running or not. What is needed to take it down is all in here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// `engine-1`, `engine-2`.
    pub name: String,
    /// Images and containers; root's.
    pub data_dir: PathBuf,
    /// Sockets and other short-lived files.
    pub run_dir: PathBuf,
    /// Logs of both daemons.
    pub log_dir: PathBuf,
    /// Its containers' network.
    pub bridge: Bridge,
    /// Null unless running.
    pub containerd: Option<Process>,
    /// Null unless running.
    pub dockerd: Option<Process>,
}

impl Engine {
    /// Where its API is served.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("docker.sock")
    }

    /// As `docker -H` and `archyard worker --engine` take it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The log of its daemon.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.log_dir.join(format!("{}.log", self.name))
    }

    /// Creates folders and bridge, then starts both daemons and waits until the
    /// Engine answers.
    ///
    /// # Errors
    /// When a daemon does not come up: then with the end of its log.
    pub fn create(&mut self, root: &Root) -> Result<()> {
        let len = self.run_dir.as_os_str().len();
        if len > MAX_RUN_DIR_LEN {
            bail!(
                "{} has {len} bytes: sockets below it would exceed the 107 that Unix allows",
                self.run_dir.display()
            );
        }
        if !Path::new("/proc/self/cgroup").exists() || !cgroups_mounted() {
            bail!("control groups are not mounted; mount them: mount -t cgroup2 none /sys/fs/cgroup");
        }
        for dir in [&self.data_dir, &self.run_dir, &self.log_dir] {
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        self.bridge.create(root)?;
        self.start(root)
    }

    /// Starts both daemons over the folders as they are.
    ///
    /// # Errors
    /// As [`Engine::create`].
    pub fn start(&mut self, root: &Root) -> Result<()> {
        let config = self.run_dir.join("containerd.toml");
        fs::write(&config, self.containerd_config())
            .with_context(|| format!("cannot write {}", config.display()))?;
        let options = vec!["--config".into(), config.display().to_string()];
        self.containerd = Some(self.daemon(root, "containerd", &[], &options, &config)?);

        let settings = self.run_dir.join("daemon.json");
        fs::write(&settings, "{}\n").with_context(|| format!("cannot write {}", settings.display()))?;
        // BuildKit's limits on a step's log are only to be had here. 20.10 does not
        // take -1 for none.
        let variables =
            [("BUILDKIT_STEP_LOG_MAX_SIZE", "2147483647"), ("BUILDKIT_STEP_LOG_MAX_SPEED", "2147483647")];
        let mut options = vec!["--config-file".into(), settings.display().to_string()];
        options.extend(self.dockerd_options());
        self.dockerd = Some(self.daemon(root, "dockerd", &variables, &options, &settings)?);
        self.wait_ready()
    }

    /// Starts a daemon detached, and finds it by its name and an argument that only
    /// it has: what we started ourselves may have been sudo.
    fn daemon(
        &self,
        root: &Root,
        comm: &str,
        variables: &[(&str, &str)],
        options: &[String],
        argument: &Path,
    ) -> Result<Process> {
        // sudo outside and setsid inside: in a session of its own sudo would not
        // remember that it asked for the password.
        let mut detached = root.command_with("setsid", variables);
        detached.arg("--fork").arg(run::tool(comm)?).args(options);
        let (out, err) = process::open_log(&self.log())?;
        let status = detached.stdin(Stdio::null()).stdout(out).stderr(err).status();
        if !status.with_context(|| format!("cannot start {comm}"))?.success() {
            bail!("{comm} of {} does not start; {}", self.name, run::log_tail(&self.log()));
        }
        let argument = argument.to_string_lossy().into_owned();
        let mut found = None;
        interrupt::wait_for(Duration::from_secs(5), || {
            found = process::all().into_iter().find(|process| {
                process::comm(process.pid) == comm && process::arguments(process.pid).contains(&argument)
            });
            Ok(found.is_some())
        })?;
        found
            .with_context(|| format!("{comm} of {} ended at once; {}", self.name, run::log_tail(&self.log())))
    }

    fn wait_ready(&self) -> Result<()> {
        let alive = |process: Option<Process>| process.is_some_and(|process| process.is_alive());
        let mut last = String::from("it was never asked");
        let ready = interrupt::wait_for(Duration::from_secs(60), || {
            if !alive(self.dockerd) || !alive(self.containerd) {
                bail!("{} ended while it came up; {}", self.name, run::log_tail(&self.log()));
            }
            match http::get_unix(&self.socket(), "/_ping") {
                Ok(_) => Ok(true),
                Err(error) => {
                    last = format!("{error:#}");
                    Ok(false)
                }
            }
        })?;
        if !ready {
            bail!("{} does not answer after 60 s ({last}); {}", self.name, run::log_tail(&self.log()));
        }
        Ok(())
    }

    /// Its own containerd even where a system's runs: both would share a namespace.
    fn containerd_config(&self) -> String {
        let plugins =
            ["grpc.v1.cri", "snapshotter.v1.aufs", "snapshotter.v1.btrfs", "snapshotter.v1.devmapper"]
                .map(|plugin| format!("\"io.containerd.{plugin}\""))
                .join(", ");
        format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [{plugins}]\n\
             [grpc]\naddress = {socket:?}\n[debug]\naddress = \"\"\n",
            root = self.data_dir.join("containerd"),
            state = self.run_dir.join("containerd"),
            socket = self.run_dir.join("c.sock"),
        )
    }

    fn dockerd_options(&self) -> Vec<String> {
        let mut options = vec![
            format!("--host={}", self.address()),
            format!("--group={}", rustix::process::getegid().as_raw()),
            format!("--containerd={}", self.run_dir.join("c.sock").display()),
            format!("--data-root={}", self.data_dir.join("docker").display()),
            format!("--exec-root={}", self.run_dir.join("docker").display()),
            format!("--pidfile={}", self.run_dir.join("docker.pid").display()),
            format!("--bridge={}", self.bridge.name),
        ];
        // The firewall is the host's: see network.rs.
        options.extend(
            ["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"]
                .map(String::from),
        );
        if let Some(mtu) = network::outbound_mtu() {
            options.push(format!("--mtu={mtu}"));
        }
        if is_overlay(&self.data_dir) {
            eprintln!(
                "xtask: {} lies on an overlay, where overlay2 cannot: the Engine chooses",
                self.data_dir.display()
            );
        } else {
            options.push("--storage-driver=overlay2".into());
        }
        options
    }

    /// Ends the Engine's daemon as a crash would; its folders and bridge stay, and
    /// so do its containers. [`Engine::stop`] and [`Engine::start`] bring it back.
    pub fn kill(&self, root: &Root) {
        for process in self.dockerd.iter().filter(|process| process.is_alive()) {
            process.kill();
            if process.is_alive() && root.is_borrowed() {
                run::output(root.command("sh").args(["-c", &format!("kill -9 {}", process.pid)])).ok();
            }
            if !process.wait_gone(Duration::from_secs(10)) {
                eprintln!("xtask: warning: dockerd (process {}) does not end", process.pid);
            }
        }
    }

    /// Ends containers and daemons, and unmounts what they mounted; images stay.
    ///
    /// # Errors
    /// When a process does not end or a mount stays.
    pub fn stop(&mut self, root: &Root) -> Result<()> {
        // First what runs inside: a daemon grants each container ten seconds.
        let end = |processes: Vec<Process>| -> Result<()> {
            processes.iter().try_for_each(|process| process.stop(root, Duration::ZERO))
        };
        end(mounts::contained(root, &self.data_dir))?;
        for process in [&mut self.dockerd, &mut self.containerd] {
            if let Some(running) = process {
                running.stop(root, Duration::from_secs(10))?;
                *process = None;
            }
        }
        let folders = [self.data_dir.as_path(), self.run_dir.as_path()];
        end(mounts::helpers(&folders))?;
        end(mounts::contained(root, &self.data_dir))?;
        self.remove_shim_sockets(root)?;
        // After a crash it stays, and while nobody has waited for the dead daemon its
        // number counts as in use.
        run::output(root.command("rm").arg("-f").arg(self.run_dir.join("docker.pid")))?;
        mounts::unmount(root, &folders)
    }

    /// A shim listens in a folder that all of the host's containerds share, and
    /// leaves its socket there when it is killed.
    fn remove_shim_sockets(&self, root: &Root) -> Result<()> {
        let tasks = self.run_dir.join("containerd");
        if !tasks.exists() {
            return Ok(());
        }
        let remove = r#"for f; do s=$(cat "$f"); case "$s" in unix:///run/containerd/s/*) rm -f "${s#unix://}";; esac; done"#;
        let mut find = root.command("find");
        find.arg(&tasks)
            .args(["-type", "f", "-name", "address", "-exec", "sh", "-c", remove, "sh", "{}", "+"]);
        run::output(&mut find).map(drop)
    }

    /// Stops it and removes all it had: folders, bridge and firewall rules. Logs
    /// stay, for their owner to remove.
    ///
    /// # Errors
    /// When something of it stays.
    pub fn remove(&mut self, root: &Root) -> Result<()> {
        let stopped = self.stop(root);
        let removed = self.bridge.remove(root);
        stopped.and(removed).with_context(|| format!("cannot take down {}", self.name))?;
        for dir in [&self.data_dir, &self.run_dir] {
            run::output(root.command("rm").args(["-rf", "--one-file-system", "--"]).arg(dir))?;
        }
        Ok(())
    }
}

fn is_overlay(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(OVERLAYFS_MAGIC))
}

fn cgroups_mounted() -> bool {
    fs::read_to_string("/proc/self/mountinfo").is_ok_and(|table| table.contains(" - cgroup"))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn engine() -> Engine {
        Engine {
            name: "engine-1".into(),
            data_dir: "/nonexistent/state/engine-1".into(),
            run_dir: "/run/archyard-xtask/0123abcd/1".into(),
            log_dir: "/nonexistent/state/logs".into(),
            bridge: Bridge {
                name: "ay0123abcd1".into(),
                address: Ipv4Addr::new(10, 213, 0, 1),
                outbound: false,
                forwarding_was_off: false,
            },
            containerd: None,
            dockerd: None,
        }
    }

    #[test]
    fn every_path_is_its_own() {
        let engine = engine();
        let options = engine.dockerd_options().join(" ");
        for path in [
            "/run/archyard-xtask/0123abcd/1/docker.sock",
            "/nonexistent/state/engine-1/docker",
            "ay0123abcd1",
        ] {
            assert!(options.contains(path), "{path} is not in {options}");
        }
        assert!(!options.contains("/var/") && !engine.containerd_config().contains("/var/"));
        assert_eq!(engine.address(), "unix:///run/archyard-xtask/0123abcd/1/docker.sock");
    }

    #[test]
    fn a_run_folder_too_deep_for_sockets_is_refused() {
        let mut engine = Engine { run_dir: format!("/tmp/{}", "x".repeat(60)).into(), ..engine() };
        let error = engine.create(&Root::none()).unwrap_err().to_string();
        assert!(error.contains("107"), "{error}");
        assert!(!engine.run_dir.exists());
    }
}
