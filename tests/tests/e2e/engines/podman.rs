//! Podman answers on a socket like Docker's, and has no BuildKit inside: a worker says so and does not start.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use archyard_tests::farm::{PATIENCE, finish};
use archyard_tests::process::wait_for;

/// What the worker says.
pub(super) fn refusal(endpoint: &str, version: &str) -> String {
    format!(
        "archyard: engine {endpoint:?} is Podman {version}, which has no BuildKit inside; a worker needs Docker Engine \
         20.10 or newer: install docker.io, and name its socket with --engine unix:///var/run/docker.sock"
    )
}

/// Podman's service, gone when dropped.
struct Podman {
    child: Child,
    dir: tempfile::TempDir,
}

impl Podman {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("podman").tempdir().unwrap();
        let socket = dir.path().join("p.sock");
        let child = Command::new("podman")
            .arg("--root")
            .arg(dir.path().join("root"))
            .arg("--runroot")
            .arg(dir.path().join("run"))
            // The overlay driver leaves a mount behind.
            .args(["--storage-driver", "vfs"])
            .args(["system", "service", "--time", "0"])
            .arg(format!("unix://{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .expect("podman is installed; `cargo xtask test` sees to it");
        wait_for("podman listens", PATIENCE, || socket.exists().then_some(()));
        Self { child, dir }
    }

    fn endpoint(&self) -> String {
        format!("unix://{}", self.dir.path().join("p.sock").display())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_worker_on_podman_is_refused_in_one_line() {
    let podman = Podman::start();
    let version = finish(Command::new("podman").arg("--version")).expect(0).stdout;
    let version = version.trim().rsplit(' ').next().unwrap().to_owned();
    let env = archyard_tests::Coordinates::from_env().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("worker");
    let worker = finish(
        Command::new(&env.archyard)
            .args(["worker", "--scheduler", &format!("unix:{}/s.sock", dir.path().display()), "--name", "w"])
            .args(["--engine", &podman.endpoint(), "--data-dir"])
            .arg(&data),
    )
    .expect(2);
    assert_eq!(worker.stderr.trim_end(), refusal(&podman.endpoint(), &version));
    assert!(worker.took < Duration::from_secs(10), "{:?}", worker.took);
    assert!(!data.exists(), "it left a folder behind");
}
