//! `cargo xtask test`: all tests, over an environment brought up for them and taken
//! down after them, whatever the tests did. Tests that are skipped count as failed:
//! what does not run proves nothing.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::buildx::Buildx;
use crate::busybox;
use crate::coordinates::{self, Coordinates};
use crate::dist::{self, Arch};
use crate::emulator;
use crate::engine::Kind;
use crate::env::{self, Bases, Env, Options};
use crate::interrupt;
use crate::lint;
use crate::machine::Machine;
use crate::mixed;
use crate::nextest::Summary;
use crate::packages;
use crate::process::Process;
use crate::root::Root;
use crate::run;
use crate::state::Place;
use crate::wheels;
use crate::workspace;

/// Without it the tests that need a machine of the other kind are not even compiled.
pub const MACHINE_FEATURE: &str = "archyard-tests/aarch64-vm";

/// What tests stand on.
#[must_use]
pub fn environment(install: bool) -> Options {
    Options { engines: 2, more: more(), registry: true, bases: Bases::All, outbound: false, install }
}

/// The Engines that tests share beside two of the host's, one of each kind; where they cannot be had, the tests do
/// not start.
fn more() -> Vec<Kind> {
    Kind::MORE.to_vec()
}

/// Sees to it that all programs are there that tests use, and those that they look into; tests install nothing.
///
/// # Errors
/// When one is missing and may not or cannot be installed.
pub fn prepare(install: bool) -> Result<()> {
    let root = Root::obtain("starting Docker Engines")?;
    let tools = [
        &packages::ENGINE[..],
        &packages::OUTBOUND,
        &packages::REGISTRY,
        &packages::JUDGES,
        &packages::STRANGERS,
    ]
    .concat();
    packages::ensure(&root, &tools, install)?;
    packages::ensure_client(&root, install)?;
    Buildx::ensure()?;
    busybox::ensure_every()?;
    emulator::ensure()
}

/// Runs all tests; `extra` goes to nextest.
///
/// # Errors
/// When a test fails or was skipped, or the environment fails.
pub fn test(extra: &[OsString], install: bool) -> Result<()> {
    prepare(install)?;
    let mut command = nextest_command(install)?;
    lint::cargo(&["build", "--package", "archyard"])?;
    command.args(["run", "--no-fail-fast"]).args(extra);
    if !selects_packages(extra) {
        command.arg("--workspace");
    }
    over("test", &environment(install), command, !extra.is_empty(), |env| Coordinates::of(env, "debug"))
}

/// Runs the tests that need a machine of the other kind, and only those: see
/// docs/aarch64-vm.md.
///
/// # Errors
/// As [`test`].
pub fn on_machine(extra: &[OsString], install: bool) -> Result<()> {
    prepare(install)?;
    let mut command = nextest_command(install)?;
    let machine = Machine::ensure()?;
    lint::cargo(&["build", "--package", "archyard"])?;
    let guest = dist::build(Arch::Arm64, dist::TEST, install)?;
    command.args(["run", "--no-fail-fast", "--package", "archyard-tests", "--features", MACHINE_FEATURE]);
    command.args(["--test", "aarch64"]).args(extra);
    let options = Options { engines: 1, more: Vec::new(), ..environment(install) };
    over("aarch64-vm", &options, command, !extra.is_empty(), |env| {
        eprintln!("xtask: starting the aarch64 machine and a farm over it and this host");
        let mixed = mixed::start(env, &machine, &workspace::binary("debug"), &guest)?;
        Ok(Coordinates { mixed: Some(mixed), ..Coordinates::of(env, "debug")? })
    })
}

/// Runs nextest over an environment of its own.
fn over(
    name: &str,
    options: &Options,
    mut command: Command,
    filtered: bool,
    ready: impl FnOnce(&mut Env) -> Result<Coordinates>,
) -> Result<()> {
    let place = Place::named(name);
    if let Some(rest) = Env::open(&place)? {
        eprintln!("xtask: taking down what an earlier run left in {}", place.dir.display());
        rest.down()?;
    }
    env::sweep_scratches()?;
    eprintln!("xtask: bringing up {} Engines and a registry", options.kinds().len());
    let mut env = Env::up(&place, options)?;
    let summary = ready(&mut env)
        .and_then(|all| all.write(&env))
        .and_then(|file| nextest(command.env(coordinates::VARIABLE, file)));
    eprintln!("xtask: taking down what was started");
    let swept = env::sweep_scratches();
    env.down().and(swept)?;

    let (summary, success) = summary?;
    println!("tests: {summary}");
    judge(summary, success, filtered)
}

/// Options of ours chose tests: then the others were not skipped but not meant.
fn judge(summary: Summary, success: bool, filtered: bool) -> Result<()> {
    if !success || summary.failed > 0 {
        bail!("tests failed: {summary}");
    }
    if summary.skipped > 0 && !filtered {
        bail!("{} tests were skipped; all must run", summary.skipped);
    }
    Ok(())
}

fn selects_packages(extra: &[OsString]) -> bool {
    extra.iter().map(|arg| arg.to_string_lossy()).any(|arg| {
        arg.starts_with("-p") && !arg.starts_with("-P") || arg == "--package" || arg.starts_with("--package=")
    })
}

/// Shows what nextest says while it says it, and reads its last word.
fn nextest(command: &mut Command) -> Result<(Summary, bool)> {
    if std::io::stderr().is_terminal() {
        command.args(["--color", "always"]);
    }
    let mut child = command.stderr(Stdio::piped()).spawn().context("cannot run cargo nextest")?;
    let stderr = child.stderr.take().context("nextest has no standard error")?;
    let process = Process::of(child.id());
    let ended = AtomicBool::new(false);
    let summary = thread::scope(|scope| {
        scope.spawn(|| {
            // Ctrl-C reaches nextest too; a signal to us alone does not.
            while !ended.load(Ordering::SeqCst) && !interrupt::asked() {
                thread::sleep(Duration::from_millis(50));
            }
            if !ended.load(Ordering::SeqCst) {
                process.iter().for_each(Process::terminate);
            }
        });
        let summary = pass_on(stderr);
        ended.store(true, Ordering::SeqCst);
        summary
    })?;
    let status = child.wait().context("cannot wait for nextest")?;
    interrupt::check()?;
    let summary = summary.with_context(|| format!("nextest ended ({status}) without a summary"))?;
    Ok((summary, status.success()))
}

/// Repeats every line on our own standard error; the summary, if one is among them.
fn pass_on(stderr: impl Read) -> Result<Option<Summary>> {
    let mut summary = None;
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line.context("cannot read what nextest says")?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        summary = Summary::parse(&line).or(summary);
    }
    Ok(summary)
}

/// What `cargo nextest` is run as: the user's own, or one that is fetched (seconds),
/// or one that is built (minutes).
fn nextest_command(install: bool) -> Result<Command> {
    let mut command = lint::cargo_command(&["nextest"]);
    if run::output(lint::cargo_command(&["nextest"]).arg("--version")).is_ok() {
        return Ok(command);
    }
    let remedy = "cargo install cargo-nextest --locked";
    if !install {
        bail!("cargo-nextest is missing and installing was not allowed; {remedy}");
    }
    match wheels::ensure(wheels::NEXTEST, install).and_then(|bin| wheels::search_path(&bin)) {
        Ok(path) => {
            run::output(lint::cargo_command(&["nextest", "--version"]).env("PATH", &path))?;
            command.env("PATH", path);
            return Ok(command);
        }
        Err(error) => eprintln!("xtask: warning: {error:#}"),
    }
    eprintln!("xtask: installing cargo-nextest, which is missing: {remedy}");
    lint::cargo(&["install", "cargo-nextest", "--locked"])?;
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_tests_fail_the_run_unless_tests_were_chosen() {
        let skipped = Summary { passed: 3, failed: 0, skipped: 1 };
        assert!(judge(skipped, true, false).unwrap_err().to_string().contains("1 tests were skipped"));
        assert!(judge(skipped, true, true).is_ok());
        assert!(judge(Summary { passed: 3, ..Summary::default() }, true, false).is_ok());
        assert!(judge(Summary { failed: 1, ..skipped }, true, true).is_err());
        assert!(judge(Summary::default(), false, false).is_err());
    }

    #[test]
    fn a_choice_of_packages_is_noticed() {
        let of = |args: &[&str]| selects_packages(&args.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(of(&["-p", "xtask"]) && of(&["-pxtask"]) && of(&["--package=xtask"]));
        assert!(!of(&["-P", "ci"]) && !of(&["--profile", "ci", "name"]) && !of(&[]));
    }
}
