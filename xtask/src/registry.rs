//! A container registry of our own on a free loopback port: Debian's
//! `docker-registry` with its files in a folder of ours.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::http;
use crate::interrupt;
use crate::process::Process;
use crate::root::Root;
use crate::run;

/// A registry, running or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    /// Where it stores what is pushed.
    pub dir: PathBuf,
    /// Folder of its log.
    pub log_dir: PathBuf,
    /// Its port on 127.0.0.1; 0 until it first started, and the same ever after.
    pub port: u16,
    /// Null unless running.
    pub process: Option<Process>,
}

impl Registry {
    /// `127.0.0.1:PORT`, as it stands in an image's name.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.log_dir.join("registry.log")
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// When it does not: then with the end of its log.
    pub fn start(&mut self) -> Result<()> {
        for dir in [&self.dir, &self.log_dir] {
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        if self.port != 0 {
            return self.start_on(self.port);
        }
        let mut result = Ok(());
        for _ in 0..3 {
            // Free now; somebody else may be faster, hence more than one try.
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
            result = self.start_on(port.context("no free port on loopback")?.port());
            if result.is_ok() || interrupt::asked() {
                break;
            }
        }
        result
    }

    fn start_on(&mut self, port: u16) -> Result<()> {
        let config = self.dir.join("config.yml");
        let storage = self.dir.join("storage");
        let text = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {storage:?}\n  \
             delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n"
        );
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let mut command = Command::new(run::tool("docker-registry")?);
        command.arg("serve").arg(&config);
        // Such variables would override the file.
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("REGISTRY_"))
        {
            command.env_remove(key);
        }
        let process = Process::spawn(&command, &self.log())?;
        (self.process, self.port) = (Some(process), port);

        let url = format!("http://{}/v2/", SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let agent = http::agent();
        let ready = interrupt::wait_for(Duration::from_secs(20), || {
            if !process.is_alive() {
                bail!("the registry ended while it came up; {}", run::log_tail(&self.log()));
            }
            Ok(agent.get(&url).call().is_ok_and(|answer| answer.status() == 200))
        })?;
        if !ready {
            bail!("the registry does not answer after 20 s; {}", run::log_tail(&self.log()));
        }
        Ok(())
    }

    /// Ends it; what was pushed stays, and so does the port for another start.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(process) = self.process {
            process.stop(&Root::none(), Duration::from_secs(5)).context("cannot stop the registry")?;
            self.process = None;
        }
        Ok(())
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
            if !process.wait_gone(Duration::from_secs(10)) {
                eprintln!("xtask: warning: the registry (process {}) does not end", process.pid);
            }
        }
    }

    /// Ends it and removes what was pushed.
    ///
    /// # Errors
    /// When something of it stays.
    pub fn remove(&mut self) -> Result<()> {
        self.stop()?;
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.dir.display()))
            }
            _ => Ok(()),
        }
    }
}
