//! One Docker Engine of our own: a containerd and a dockerd with their own folders,
//! socket and bridge, beside whatever else runs on the machine. No configuration of
//! the host's Engine is read, and no service manager is asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::debian::{self, Release};
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
/// What of containerd an Engine does not need. The last would create a folder in the host's /opt.
const UNUSED_PLUGINS: [&str; 5] = [
    "grpc.v1.cri",
    "snapshotter.v1.aufs",
    "snapshotter.v1.btrfs",
    "snapshotter.v1.devmapper",
    "internal.v1.opt",
];
/// Likewise, of containerd 2. NRI would listen in a folder that all of the host's containerds share.
const UNUSED_PLUGINS_SINCE_2: [&str; 3] = ["cri.v1.images", "cri.v1.runtime", "nri.v1.nri"];

/// Which Engine, and where it keeps its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
pub enum Kind {
    /// The host's own, with overlay2
    #[default]
    #[serde(rename = "host")]
    Host,
    /// Debian 13's 26.1, with overlay2
    #[serde(rename = "26")]
    #[value(name = "26")]
    Debian13Overlay,
    /// Debian 13's 26.1, with containerd's image store
    #[serde(rename = "26c")]
    #[value(name = "26c")]
    Debian13Containerd,
    /// Debian sid's (28 in 2026), with overlay2
    #[serde(rename = "28")]
    #[value(name = "28")]
    SidOverlay,
    /// Debian sid's (28 in 2026), with containerd's image store
    #[serde(rename = "28c")]
    #[value(name = "28c")]
    SidContainerd,
}

impl Kind {
    /// All of them, the oldest first.
    pub const ALL: [Self; 5] =
        [Self::Host, Self::Debian13Overlay, Self::Debian13Containerd, Self::SidOverlay, Self::SidContainerd];

    /// Those beside the host's own.
    pub const MORE: [Self; 4] =
        [Self::Debian13Overlay, Self::Debian13Containerd, Self::SidOverlay, Self::SidContainerd];

    /// As `cargo xtask env up --engine` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Debian13Overlay => "26",
            Self::Debian13Containerd => "26c",
            Self::SidOverlay => "28",
            Self::SidContainerd => "28c",
        }
    }

    /// Whether images lie in containerd and not in the Engine's own store.
    #[must_use]
    pub fn stores_in_containerd(self) -> bool {
        matches!(self, Self::Debian13Containerd | Self::SidContainerd)
    }

    /// The release of Debian whose packages are unpacked for it; none for the host's own.
    #[must_use]
    pub fn release(self) -> Option<&'static Release> {
        match self {
            Self::Host => None,
            Self::Debian13Overlay | Self::Debian13Containerd => Some(&debian::DEBIAN_13),
            Self::SidOverlay | Self::SidContainerd => Some(&debian::SID),
        }
    }

    fn program(self, name: &str) -> Result<PathBuf> {
        match self.release() {
            None => run::tool(name),
            Some(release) => release.program(name),
        }
    }

    /// The version of containerd's configuration file. containerd 2 also reads the older one, but then calls its own
    /// plugins otherwise, and would start those that are disabled.
    fn containerd_config_version(self) -> u8 {
        match self {
            Self::Host | Self::Debian13Overlay | Self::Debian13Containerd => 2,
            Self::SidOverlay | Self::SidContainerd => 3,
        }
    }

    /// BuildKit's limits on a step's log are only to be had here. 20.10 does not take
    /// -1 for none.
    fn variables(self) -> Result<Vec<(&'static str, String)>> {
        let limits = |limit: &str| {
            ["BUILDKIT_STEP_LOG_MAX_SIZE", "BUILDKIT_STEP_LOG_MAX_SPEED"]
                .map(|name| (name, limit.to_owned()))
                .to_vec()
        };
        let Some(release) = self.release() else { return Ok(limits("2147483647")) };
        let mut variables = limits("-1");
        // The shim is looked for there, before the host's.
        let path = release.search_path()?;
        variables.push(("PATH", path.into_string().map_err(|_| anyhow!("PATH is not UTF-8"))?));
        Ok(variables)
    }

    /// The daemon's configuration file.
    fn settings(self) -> &'static str {
        if self.stores_in_containerd() {
            "{ \"features\": { \"containerd-snapshotter\": true } }\n"
        } else {
            "{}\n"
        }
    }
}

/// An Engine, running or not. What is needed to take it down is all in here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// `engine-1`, `engine-2`.
    pub name: String,
    /// Which it is.
    #[serde(default)]
    pub kind: Kind,
    /// Images and containers; root's.
    pub data_dir: PathBuf,
    /// Sockets and other short-lived files.
    pub run_dir: PathBuf,
    /// Logs of both daemons.
    pub log_dir: PathBuf,
    /// Its containers' network.
    pub bridge: Bridge,
    /// A folder that its daemons' PATH begins with, for tests of what an Engine finds there. From the next start on.
    #[serde(default)]
    pub programs: Option<PathBuf>,
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
        self.containerd = Some(self.daemon(root, "containerd", &options, &config)?);

        let settings = self.run_dir.join("daemon.json");
        fs::write(&settings, self.kind.settings())
            .with_context(|| format!("cannot write {}", settings.display()))?;
        let mut options = vec!["--config-file".into(), settings.display().to_string()];
        options.extend(self.dockerd_options());
        self.dockerd = Some(self.daemon(root, "dockerd", &options, &settings)?);
        self.wait_ready()
    }

    /// Starts a daemon detached, and finds it by its name and an argument that only
    /// it has: what we started ourselves may have been sudo.
    fn daemon(&self, root: &Root, comm: &str, options: &[String], argument: &Path) -> Result<Process> {
        let mut variables = self.kind.variables()?;
        if let Some(programs) = &self.programs {
            let path = variables.iter().find(|(name, _)| *name == "PATH").map(|(_, path)| path.clone());
            let path = path.map_or_else(run::search_path, Into::into);
            let path = format!("{}:{}", programs.display(), path.to_string_lossy());
            variables.retain(|(name, _)| *name != "PATH");
            variables.push(("PATH", path));
        }
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        // sudo outside and setsid inside: in a session of its own sudo would not
        // remember that it asked for the password.
        let mut detached = root.command_with("setsid", &variables);
        detached.arg("--fork").arg(self.kind.program(comm)?).args(options);
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
        let version = self.kind.containerd_config_version();
        let mut disabled = UNUSED_PLUGINS.to_vec();
        if version > 2 {
            disabled.extend(UNUSED_PLUGINS_SINCE_2);
        }
        let plugins = disabled
            .iter()
            .map(|plugin| format!("\"io.containerd.{plugin}\""))
            .collect::<Vec<_>>()
            .join(", ");
        format!(
            "version = {version}\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [{plugins}]\n\
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
        options.extend(self.storage_driver().map(|driver| format!("--storage-driver={driver}")));
        options
    }

    /// None where the Engine is to choose. In containerd's store it is a snapshotter.
    fn storage_driver(&self) -> Option<&'static str> {
        let in_containerd = self.kind.stores_in_containerd();
        if !is_overlay(&self.data_dir) {
            return Some(if in_containerd { "overlayfs" } else { "overlay2" });
        }
        let instead = if in_containerd { "it copies" } else { "the Engine chooses" };
        eprintln!("xtask: {} lies on an overlay, where another cannot: {instead}", self.data_dir.display());
        in_containerd.then_some("native")
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
            kind: Kind::Host,
            data_dir: "/nonexistent/state/engine-1".into(),
            run_dir: "/run/archyard-xtask/0123abcd/1".into(),
            log_dir: "/nonexistent/state/logs".into(),
            bridge: Bridge {
                name: "ay0123abcd1".into(),
                address: Ipv4Addr::new(10, 213, 0, 1),
                outbound: false,
                forwarding_was_off: false,
            },
            programs: None,
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
    fn each_kind_has_its_store_and_its_limits() {
        let of = |kind| Engine { kind, ..engine() }.dockerd_options().join(" ");
        assert!(of(Kind::Host).contains("=overlay2") && of(Kind::Debian13Overlay).contains("=overlay2"));
        assert!(of(Kind::Debian13Containerd).contains("--storage-driver=overlayfs"));
        assert!(Kind::Debian13Containerd.settings().contains("containerd-snapshotter"));
        assert_eq!((Kind::Host.settings(), Kind::Debian13Overlay.settings()), ("{}\n", "{}\n"));
        assert_eq!(Kind::Host.variables().unwrap()[0].1, "2147483647");
        let newer = Kind::Debian13Overlay.variables().unwrap();
        assert!(newer[0].1 == "-1" && newer[2].0 == "PATH" && newer[2].1.contains("debian-13"), "{newer:?}");
    }

    #[test]
    fn a_kind_has_one_name_everywhere() {
        for kind in Kind::value_variants() {
            let name = kind.to_possible_value().unwrap();
            assert_eq!(name.get_name(), kind.name());
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn a_state_of_before_kinds_is_of_the_hosts() {
        let mut json = serde_json::to_value(engine()).unwrap();
        json.as_object_mut().unwrap().remove("kind");
        assert_eq!(serde_json::from_value::<Engine>(json).unwrap(), engine());
    }

    #[test]
    fn a_run_folder_too_deep_for_sockets_is_refused() {
        let mut engine = Engine { run_dir: format!("/tmp/{}", "x".repeat(60)).into(), ..engine() };
        let error = engine.create(&Root::none()).unwrap_err().to_string();
        assert!(error.contains("107"), "{error}");
        assert!(!engine.run_dir.exists());
    }
}
