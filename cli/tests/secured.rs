//! A scheduler with TLS as a real process, and who may do what there. What is refused for good ends at once.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::CommandCargoExt as _;
use tempfile::TempDir;

/// What is refused for good may take no longer than this on a busy machine. A worker waits three seconds for its Engine.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A farm without workers, and the folder that every command is run in.
struct Farm {
    dir: TempDir,
    port: u16,
    scheduler: Option<Child>,
}

struct Said {
    code: Option<i32>,
    stderr: String,
}

impl Farm {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut farm = Self { dir, port, scheduler: None };
        farm.listen();
        farm
    }

    /// Starts the scheduler, and waits until it answers.
    fn listen(&mut self) {
        let scheduler = archyard(self.dir.path())
            .args(["scheduler", "--tls", "--data-dir", "scheduler", "--listen", "unix:s.sock"])
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.scheduler = Some(scheduler);
        wait_for("the scheduler answers", || self.run(&["workers", "--farm", "unix:s.sock"]).code == Some(0));
    }

    fn stop(&mut self) {
        if let Some(mut scheduler) = self.scheduler.take() {
            scheduler.kill().unwrap();
            scheduler.wait().unwrap();
        }
    }

    /// Issues a certificate into a folder named after its bearer, by paths relative to the working folder.
    fn issue(&self, role: &str, name: &str) {
        let out = format!("{name}-tls");
        let said =
            self.run(&["cert", "issue", "--role", role, name, "--data-dir", "scheduler", "--out", &out]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    fn run(&self, arguments: &[&str]) -> Said {
        finish(archyard(self.dir.path()).args(arguments))
    }

    /// Exit code 2, at once, with these words.
    #[track_caller]
    fn refused(&self, arguments: &[&str], words: &[&str]) {
        let began = Instant::now();
        let said = self.run(arguments);
        assert!(began.elapsed() < AT_ONCE, "took {:?}: {}", began.elapsed(), said.stderr);
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        for word in words {
            assert!(said.stderr.contains(word), "{word:?} is not in\n{}", said.stderr);
        }
    }

    /// The same of a worker that was started with this folder and name.
    #[track_caller]
    fn no_worker(&self, folder: &str, name: &str, words: &[&str]) {
        let url = self.url();
        let arguments = ["worker", "--scheduler", &url, "--tls-dir", folder, "--name", name];
        let rest = ["--data-dir", "worker", "--engine", "unix:///nonexistent/docker.sock"];
        self.refused(&[&arguments[..], &rest].concat(), words);
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.stop();
    }
}

fn archyard(dir: &Path) -> Command {
    let mut command = Command::cargo_bin("archyard").unwrap();
    command
        .current_dir(dir)
        .env("HOME", dir)
        .env("XDG_STATE_HOME", dir.join("state"))
        .env("XDG_CACHE_HOME", dir.join("cache"))
        .env_remove("ARCHYARD_FARM")
        .env_remove("ARCHYARD_TLS_DIR")
        .env_remove("DOCKER_HOST")
        .stdin(Stdio::null());
    command
}

fn wait_for(what: &str, mut ask: impl FnMut() -> bool) {
    let began = Instant::now();
    while !ask() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn finish(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    Said { code: output.status.code(), stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
}

#[test]
fn a_role_does_what_its_certificate_says_and_nothing_else() {
    let farm = Farm::start();
    farm.issue("client", "alice");
    farm.issue("worker", "w1");
    let url = farm.url();
    let said = farm.run(&["workers", "--farm", &url, "--tls-dir", "alice-tls"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let by_variable = finish(
        archyard(farm.dir.path()).arg("ps").env("ARCHYARD_FARM", &url).env("ARCHYARD_TLS_DIR", "alice-tls"),
    );
    assert_eq!(by_variable.code, Some(0), "{}", by_variable.stderr);

    let remedy = "archyard cert issue --role client";
    farm.refused(
        &["ps", "--farm", &url, "--tls-dir", "w1-tls"],
        &["w1", "role worker", "ListBuilds", remedy],
    );
    let remedy = "archyard cert issue --role worker";
    farm.no_worker("alice-tls", "alice", &["alice", "role client", "WorkerService/Control", remedy]);
    farm.no_worker("w1-tls", "w2", &["cannot speak for worker w2", "--name w1"]);
}

#[test]
fn an_agent_that_is_refused_later_on_ends_and_one_that_is_not_answered_waits() {
    let mut farm = Farm::start();
    farm.issue("worker", "w1");
    let log = farm.dir.path().join("worker.log");
    let mut worker = archyard(farm.dir.path())
        .args([
            "worker",
            "--scheduler",
            &farm.url(),
            "--tls-dir",
            "w1-tls",
            "--name",
            "w1",
            "--data-dir",
            "worker",
        ])
        .args(["--engine", "unix:///nonexistent/docker.sock"])
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();
    wait_for("the worker joins", || said().contains("joined the farm"));
    farm.stop();
    wait_for("the worker notices", || said().contains("not connected"));
    std::thread::sleep(Duration::from_secs(1));
    assert!(worker.try_wait().unwrap().is_none(), "a scheduler that is away is waited for: {}", said());
    // The scheduler comes back with another authority.
    std::fs::remove_dir_all(farm.dir.path().join("scheduler/tls")).unwrap();
    farm.listen();
    wait_for("the worker ends", || worker.try_wait().unwrap().is_some());
    let code = worker.wait().unwrap().code();
    assert_eq!(code, Some(2), "{}", said());
    for word in ["worker w1", "not signed by the authority in", "w1-tls/ca.pem", "running attempts go on"] {
        assert!(said().contains(word), "{word:?} is not in\n{}", said());
    }
}

#[test]
fn what_is_wrong_with_tls_is_said_at_once() {
    let (farm, other) = (Farm::start(), Farm::start());
    farm.issue("client", "alice");
    farm.issue("worker", "w1");
    other.issue("worker", "w1");
    other.issue("client", "alice");
    let url = farm.url();

    farm.refused(&["ps", "--farm", &url], &["--tls-dir"]);
    farm.refused(&["ps", "--farm", &url, "--tls-dir", "none"], &["none/ca.pem", "No such file"]);
    farm.no_worker("none", "w1", &["none/ca.pem", "No such file"]);

    let foreign = other.dir.path().join("alice-tls").display().to_string();
    farm.refused(
        &["ps", "--farm", &url, "--tls-dir", &foreign],
        &["not signed by the authority in", "alice-tls/ca.pem"],
    );
    let foreign = other.dir.path().join("w1-tls");
    farm.no_worker(foreign.to_str().unwrap(), "w1", &["not signed by the authority in", "w1-tls/ca.pem"]);
    // It trusts this farm, but its own certificate is from the other one.
    std::fs::copy(farm.dir.path().join("w1-tls/ca.pem"), foreign.join("ca.pem")).unwrap();
    farm.no_worker(
        foreign.to_str().unwrap(),
        "w1",
        &["refuses", "w1-tls/cert.pem", "another farm's authority"],
    );

    let plain = format!("http://127.0.0.1:{}", farm.port);
    farm.refused(&["ps", "--farm", &plain], &["speaks TLS", "https://"]);
    let elsewhere = format!("https://127.0.0.2:{}", farm.port);
    let said = farm.run(&["ps", "--farm", &elsewhere, "--tls-dir", "alice-tls"]);
    assert_eq!(said.code, Some(3), "no listener is there: {}", said.stderr);
}
