//! A registry of one test's own, gone when dropped: for tests that lock it, or kill it.

use std::process::{Child, Command, Stdio};

use crate::farm::PATIENCE;
use crate::process::wait_for;

/// Debian's `docker-registry` on a free loopback port.
#[derive(Debug)]
pub struct OwnRegistry {
    pub address: String,
    child: Child,
    folders: Vec<tempfile::TempDir>,
}

/// Who may use a [locked](OwnRegistry::locked) registry.
pub const USER: &str = "user";
/// With this.
pub const PASSWORD: &str = "open sesame";
const PASSWORD_HASH: &str = "$2b$05$hkdFnMe8Sp3FFIxQ5SW0Wuw3UzbSUzvRkG5A1qcLNTgy5aEkQdvDy";

impl OwnRegistry {
    /// Starts one; `more` is added to its configuration.
    pub fn start(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: 127.0.0.1:{port}\n{more}",
            dir.path().display()
        );
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = format!("127.0.0.1:{port}");
        wait_for("the registry listens", PATIENCE, || std::net::TcpStream::connect(&address).ok());
        Self { address, child, folders: vec![dir] }
    }

    /// One that only [`USER`] with [`PASSWORD`] may use.
    pub fn locked() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let passwords = dir.path().join("htpasswd");
        std::fs::write(&passwords, format!("{USER}:{PASSWORD_HASH}\n")).unwrap();
        let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", passwords.display());
        let mut registry = Self::start(&auth);
        registry.folders.push(dir);
        registry
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for OwnRegistry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
