//! A container registry of our own on a free loopback port: Debian's
//! `docker-registry` with its files in a folder of ours.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::http;
use crate::interrupt;
use crate::process::{self, Process};
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
    /// Added to its configuration.
    #[serde(default)]
    pub settings: String,
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
             delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n{}",
            self.settings
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
            // One that asks for a password is up too.
            Ok(agent.get(&url).call().is_ok_and(|answer| [200, 401].contains(&answer.status().as_u16())))
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
        // One that was started and never written down.
        for process in process::told_of(&["docker-registry"], &[&self.dir]) {
            process.stop(&Root::none(), Duration::from_secs(5)).context("cannot stop the registry")?;
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

/// A registry of one test's own, gone when dropped: for tests that lock it, or end it.
#[derive(Debug)]
pub struct OwnRegistry {
    /// `127.0.0.1:PORT`.
    pub address: String,
    registry: Registry,
    _dir: TempDir,
}

impl OwnRegistry {
    /// Who may use a [locked](Self::locked) one.
    pub const USER: &str = "user";
    /// With this.
    pub const PASSWORD: &str = "open sesame";
    const HASH: &str = "$2b$05$hkdFnMe8Sp3FFIxQ5SW0Wuw3UzbSUzvRkG5A1qcLNTgy5aEkQdvDy";

    /// One that everybody may use.
    ///
    /// # Errors
    /// As [`Registry::start`].
    pub fn open() -> Result<Self> {
        Self::start(|_| Ok(String::new()))
    }

    /// One that only [`Self::USER`] with [`Self::PASSWORD`] may use.
    ///
    /// # Errors
    /// As [`Registry::start`].
    pub fn locked() -> Result<Self> {
        Self::start(|dir| {
            let passwords = dir.join("htpasswd");
            fs::write(&passwords, format!("{}:{}\n", Self::USER, Self::HASH))
                .with_context(|| format!("cannot write {}", passwords.display()))?;
            Ok(format!("auth:\n  htpasswd:\n    realm: test\n    path: {passwords:?}\n"))
        })
    }

    fn start(settings: impl FnOnce(&Path) -> Result<String>) -> Result<Self> {
        let dir = tempfile::tempdir().context("cannot create a folder")?;
        let registry = Registry {
            dir: dir.path().join("registry"),
            log_dir: dir.path().to_path_buf(),
            port: 0,
            process: None,
            settings: settings(dir.path())?,
        };
        let mut own = Self { address: String::new(), registry, _dir: dir };
        own.registry.start()?;
        own.address = own.registry.address();
        Ok(own)
    }

    /// How many uploads of a blob were begun, by its own log of requests.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn uploads(&self) -> Result<usize> {
        let begun = |request: &Request| request.method == "POST" && request.path.contains("/blobs/uploads/");
        Ok(self.requests()?.iter().filter(|request| begun(request)).count())
    }

    /// All requests that it has answered, by its own log.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn requests(&self) -> Result<Vec<Request>> {
        let path = self.registry.log();
        let log = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(log.lines().filter_map(Request::of).collect())
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.registry.kill();
    }
}

/// A request and its answer, from a registry's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `PUT`, ...
    pub method: String,
    /// With what follows the question mark.
    pub path: String,
    /// Of the answer.
    pub status: u16,
}

impl Request {
    /// None for a line that is about something else.
    fn of(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once('"')?;
        let (request, rest) = rest.split_once("\" ")?;
        let mut words = request.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let status = rest.split(' ').next()?.parse().ok()?;
        path.starts_with("/v2/").then_some(Self { method, path, status })
    }
}

impl Drop for OwnRegistry {
    fn drop(&mut self) {
        self.registry.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_registry_asks_for_its_password() {
        let status = |registry: &OwnRegistry| {
            http::agent().get(format!("http://{}/v2/", registry.address)).call().unwrap().status()
        };
        let (open, locked) = (OwnRegistry::open().unwrap(), OwnRegistry::locked().unwrap());
        assert_eq!((status(&open).as_u16(), status(&locked).as_u16()), (200, 401));
    }
}
