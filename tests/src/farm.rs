//! A farm of real processes: one scheduler, and a worker on each Engine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Coordinates, process};

/// How long anything that should be quick may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a run of the command line left.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Outcome {
    /// Panics with everything that was said unless the exit code is this.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Panics unless standard output holds every one of these.
    #[track_caller]
    pub fn says_out(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stdout.contains(part), "{part:?} is not in\n{}", self.stdout);
        }
        self
    }

    /// Panics unless standard error holds every one of these.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in\n{}", self.stderr);
        }
        self
    }
}

/// A scheduler and its workers, gone when dropped.
#[derive(Debug)]
pub struct Farm {
    pub env: Coordinates,
    dir: tempfile::TempDir,
    scheduler: Option<Child>,
    agents: Vec<Option<Child>>,
    engines: Vec<String>,
    scheduler_args: Vec<String>,
    worker_args: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Farm {
    /// A scheduler and one worker, of one slot, on each of the first `workers` shared Engines.
    pub fn start(workers: usize) -> Self {
        Self::with(workers, &[], &["--slots", "1"])
    }

    /// The same, with more arguments for either role.
    pub fn with(workers: usize, scheduler_args: &[&str], worker_args: &[&str]) -> Self {
        let env = Coordinates::from_env().unwrap();
        let engines = env.engines.iter().take(workers).map(|engine| engine.address.clone()).collect();
        Self::on(engines, scheduler_args, worker_args)
    }

    /// A scheduler and one worker on each of these Engines.
    pub fn on(engines: Vec<String>, scheduler_args: &[&str], worker_args: &[&str]) -> Self {
        Self::made(engines, scheduler_args, worker_args, &[])
    }

    /// A scheduler and one worker on each of the first Engines, all with these environment variables too.
    pub fn start_with_variables(workers: usize, variables: &[(&str, &str)]) -> Self {
        let env = Coordinates::from_env().unwrap();
        let engines = env.engines.iter().take(workers).map(|engine| engine.address.clone()).collect();
        Self::made(engines, &[], &["--slots", "1"], variables)
    }

    fn made(
        engines: Vec<String>,
        scheduler_args: &[&str],
        worker_args: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let owned = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut farm = Self {
            env: Coordinates::from_env().unwrap(),
            dir: tempfile::Builder::new().prefix("farm").tempdir().unwrap(),
            scheduler: None,
            agents: engines.iter().map(|_| None).collect(),
            engines,
            scheduler_args: owned(scheduler_args),
            worker_args: owned(worker_args),
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        farm.start_scheduler();
        for index in 0..farm.engines.len() {
            farm.start_agent(index);
        }
        farm.wait_for_workers();
        farm
    }

    /// Where it listens, as `--farm` takes it.
    pub fn endpoint(&self) -> String {
        format!("unix:{}", self.dir.path().join("s.sock").display())
    }

    /// The scheduler's data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("scheduler")
    }

    /// A worker's data folder.
    pub fn worker_dir(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("worker-{}", index + 1))
    }

    /// Starts the scheduler, and waits until it answers.
    pub fn start_scheduler(&mut self) {
        assert!(self.scheduler.is_none());
        let child = self
            .command()
            .args(["scheduler", "--listen", &self.endpoint(), "--data-dir"])
            .arg(self.data_dir())
            .args(&self.scheduler_args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.log("scheduler.log"))
            .spawn()
            .unwrap();
        self.scheduler = Some(child);
        process::wait_for("the scheduler answers", PATIENCE, || {
            (self.run(&["workers", "--json"]).code == Some(0)).then_some(())
        });
    }

    /// Starts a worker's agent. Does not wait.
    pub fn start_agent(&mut self, index: usize) {
        assert!(self.agents[index].is_none());
        let child = self
            .command()
            .args(["worker", "--scheduler", &self.endpoint(), "--engine", &self.engines[index], "--data-dir"])
            .arg(self.worker_dir(index))
            .args(["--name", &format!("worker-{}", index + 1)])
            .args(&self.worker_args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.log(&format!("worker-{}.log", index + 1)))
            .spawn()
            .unwrap();
        self.agents[index] = Some(child);
    }

    /// SIGKILL to the scheduler.
    pub fn kill_scheduler(&mut self) {
        if let Some(mut child) = self.scheduler.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGKILL to a worker's agent; its runners are left alone.
    pub fn kill_agent(&mut self, index: usize) {
        if let Some(mut child) = self.agents[index].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The scheduler's process.
    pub fn scheduler_pid(&self) -> u32 {
        self.scheduler.as_ref().unwrap().id()
    }

    /// Waits until every worker that was started is ready.
    pub fn wait_for_workers(&self) {
        let want = self.agents.iter().flatten().count();
        process::wait_for("the workers join", PATIENCE, || {
            let ready = self.workers().iter().filter(|worker| worker["state"] == "ready").count();
            (ready == want).then_some(())
        });
    }

    /// `archyard workers --json`, parsed.
    pub fn workers(&self) -> Vec<Value> {
        let outcome = self.run(&["workers", "--json"]);
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// `archyard show BUILD --json`, parsed.
    pub fn show(&self, build: &str) -> Value {
        serde_json::from_str(&self.run(&["show", build, "--json"]).expect(0).stdout).unwrap()
    }

    /// Runs the command line against this farm, to its end.
    pub fn run(&self, args: &[&str]) -> Outcome {
        finish(self.command().args(args))
    }

    /// Runs `archyard build ARGS... CONTEXT` with plain progress, to its end.
    pub fn build(&self, context: &Path, args: &[&str]) -> Outcome {
        finish(self.command().args(["build", "--progress", "plain"]).args(args).arg(context))
    }

    /// Starts `archyard build ARGS... CONTEXT` and leaves it running; its output goes to files in `out`.
    pub fn start_build(&self, context: &Path, args: &[&str], out: &Path) -> Child {
        std::fs::create_dir_all(out).unwrap();
        self.command()
            .args(["build", "--progress", "plain"])
            .args(args)
            .arg(context)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(out.join("stdout")).unwrap())
            .stderr(std::fs::File::create(out.join("stderr")).unwrap())
            .spawn()
            .unwrap()
    }

    /// A command that finds this farm and nothing of the user's own.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.env.archyard);
        command
            .env("ARCHYARD_FARM", self.endpoint())
            .env("XDG_CACHE_HOME", self.dir.path().join("cache"))
            .env("XDG_STATE_HOME", self.dir.path().join("state"))
            .env("DOCKER_CONFIG", self.dir.path().join("docker"))
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_DEFAULT_PLATFORM")
            .env_remove("SOURCE_DATE_EPOCH")
            .env_remove("BUILDKIT_PROGRESS")
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The newest build's id, from `ps`.
    pub fn newest_build(&self) -> Option<String> {
        let outcome = self.run(&["ps", "--all", "--json", "-n", "1"]);
        let line = outcome.stdout.lines().next()?.to_owned();
        let row: Value = serde_json::from_str(&line).ok()?;
        Some(row["id"].as_str()?.to_owned())
    }

    /// What the processes said, for a failed assertion's message.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(self.dir.path()).unwrap().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
                text.push_str(&format!("--- {}\n{log}\n", entry.path().display()));
            }
        }
        text
    }

    fn log(&self, name: &str) -> std::fs::File {
        std::fs::File::options().create(true).append(true).open(self.dir.path().join(name)).unwrap()
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        for child in self.agents.iter_mut().chain([&mut self.scheduler]).flatten() {
            drop(child.kill());
            drop(child.wait());
        }
        // Runners outlive their agents: that is what they are for.
        let marker = self.dir.path().display().to_string();
        for pid in process::with_marker(&marker) {
            process::kill(pid);
        }
    }
}

/// Runs a command to its end.
pub fn finish(command: &mut Command) -> Outcome {
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap();
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: started.elapsed(),
    }
}
