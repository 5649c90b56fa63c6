//! `cargo xtask quickstart`: from a clone to one published multi-platform index, on
//! a bare machine, in one command. Its last line on standard output is
//! `index: REGISTRY/NAME@sha256:...`, for people and scripts alike; what it does on
//! the way goes to standard error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::env::{Bases, Env, Options};
use crate::farm;
use crate::images::native;
use crate::interrupt;
use crate::lint;
use crate::oci;
use crate::packages;
use crate::root::Root;
use crate::run;
use crate::state::Place;
use crate::workspace;

const REPOSITORY: &str = "sample";
const TAG: &str = "latest";
const STOP: &str = "cargo xtask quickstart --stop";

/// Builds Archyard, starts a farm and builds the sample project on it. With `once`
/// the farm is taken down again, even after a failure.
///
/// # Errors
/// When a step fails. The farm stays then, for a look at its logs, unless it did not
/// come up, or `once`, or we are interrupted.
pub fn quickstart(once: bool, install: bool) -> Result<()> {
    let place = Place::quickstart()?;
    refuse_if_up(&place)?;
    // Before the minutes that a build takes.
    Root::obtain("starting Docker Engines")?;
    say("building archyard");
    lint::cargo(&["build", "--release", "--package", "archyard"])?;

    say("starting two Docker Engines, a registry and base images");
    let options = Options {
        engines: 2,
        registry: true,
        bases: Bases::Native,
        outbound: true,
        install,
        ..Options::default()
    };
    let mut env = Env::up(&place, &options)?;
    let result = packages::ensure_client(&env.root, install).and_then(|()| {
        say("starting a scheduler and two workers");
        farm::start(&mut env, &workspace::binary("release"))?;
        sample(&env)
    });
    if once || interrupt::asked() || (result.is_err() && !farm_is_up(&env)) {
        say("taking down what was started");
        env.down()?;
    } else if result.is_err() {
        say(&format!("the farm stays up; logs: {}; stop it: {STOP}", place.dir.join("logs").display()));
    } else {
        next_steps(&env)?;
    }
    println!("{}", result?);
    Ok(())
}

/// Takes down what [`quickstart`] started, and only that.
///
/// # Errors
/// When something stays.
pub fn stop() -> Result<()> {
    let place = Place::quickstart()?;
    match Env::open(&place)? {
        None => say("no quickstart is up: nothing to stop"),
        Some(env) => {
            say("taking down what the quickstart started");
            env.down()?;
            say("done");
        }
    }
    Ok(())
}

fn say(text: &str) {
    eprintln!("quickstart: {text}");
}

fn refuse_if_up(place: &Place) -> Result<()> {
    if let Some(env) = Env::open(place)?
        && env.state.is_alive()
    {
        bail!("a quickstart is up already: build with target/release/archyard, or stop it: {STOP}");
    }
    let socket = farm::default_socket()?;
    if farm::serves(&socket) {
        bail!(
            "a farm that this command did not start serves {}: use it (archyard workers), or stop it first",
            socket.display()
        );
    }
    Ok(())
}

fn farm_is_up(env: &Env) -> bool {
    env.state.farm.len() == 1 + env.state.engines.len()
        && env.state.farm.iter().all(|daemon| daemon.process.is_alive())
}

/// Builds, pushes, runs and shows the sample; returns the last line.
fn sample(env: &Env) -> Result<String> {
    let registry = env.registry()?.address();
    let platforms = native()?.map(|platform| platform.to_string());
    let metadata = env.place.dir.join("metadata.json");
    let mut build = Command::new(workspace::binary("release"));
    build.current_dir(workspace::root()).args(build_arguments(env)?).arg("--metadata-file").arg(&metadata);
    say(&format!("building the sample for {}", platforms.join(" and ")));
    eprintln!("+ {}", run::describe(&build));
    run::shown(&mut build)?;

    let index = oci::get_manifest(&registry, REPOSITORY, TAG).context("the index is not in the registry")?;
    let digest = metadata_digest(&metadata)?;
    if digest != index.digest {
        bail!("the tag names {}, the build's metadata {digest}", index.digest);
    }
    let image = format!("{registry}/{REPOSITORY}@{digest}");
    for (engine, platform) in env.state.engines.iter().zip(&platforms) {
        say(&format!("pulling and running the image for {platform} on {}", engine.name));
        for line in run_image(env, &engine.address(), platform, &image)?.lines() {
            println!("{platform} | {line}");
        }
    }
    println!("{}", serde_json::to_string_pretty(&index.json)?);
    Ok(format!("index: {image}"))
}

fn build_arguments(env: &Env) -> Result<Vec<String>> {
    let platforms = native()?.map(|platform| platform.to_string()).join(",");
    let words = ["build", "deploy/sample", "--platform", &platforms, "--build-arg"].map(str::to_owned);
    let mut arguments = words.to_vec();
    arguments.push(format!("BASE={}", env.base()?.reference));
    arguments.extend([
        "-t".into(),
        format!("{}/{REPOSITORY}:{TAG}", env.registry()?.address()),
        "--push".into(),
    ]);
    Ok(arguments)
}

/// The digest under the name that buildx gives it.
fn metadata_digest(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("the build wrote no {}", path.display()))?;
    let json: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    let digest = json["containerimage.digest"].as_str();
    Ok(digest.with_context(|| format!("{} has no containerimage.digest", path.display()))?.to_owned())
}

/// Through Docker's own client, which knows nothing of us.
fn run_image(env: &Env, engine: &str, platform: &str, image: &str) -> Result<String> {
    // A user's settings (contexts, credential helpers) are not for this Engine.
    let settings = env.place.run_dir.join("docker-settings");
    fs::create_dir_all(&settings).with_context(|| format!("cannot create {}", settings.display()))?;
    let docker = |args: &[&str]| {
        let mut command = Command::new(client()?);
        command.args(["-H", engine]).args(args).env("DOCKER_CONFIG", &settings);
        command.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_HOST");
        run::output(&mut command)
    };
    docker(&["pull", "-q", "--platform", platform, image])?;
    docker(&["run", "--rm", "--platform", platform, image])
}

/// Debian's own client first: a newer one may refuse its Engine.
fn client() -> Result<PathBuf> {
    let own = PathBuf::from("/usr/bin/docker");
    if own.is_file() { Ok(own) } else { run::tool("docker") }
}

fn next_steps(env: &Env) -> Result<()> {
    println!(
        "
The farm runs: a scheduler, two workers with a Docker Engine each, and a registry at {registry}.

See who is there:
    target/release/archyard workers
Build it again, with everything cached:
    target/release/archyard {build}
Build something of yours, in its folder:
    {archyard} build . --platform {platforms}
Take all of this down:
    {STOP}
Logs: {logs}
",
        registry = env.registry()?.address(),
        build = build_arguments(env)?.join(" "),
        archyard = workspace::binary("release").display(),
        platforms = native()?.map(|platform| platform.to_string()).join(","),
        logs = env.place.dir.join("logs").display(),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_read_as_buildx_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.json");
        fs::write(&path, r#"{"containerimage.digest":"sha256:ab","image.name":"x"}"#).unwrap();
        assert_eq!(metadata_digest(&path).unwrap(), "sha256:ab");
        fs::write(&path, "{}").unwrap();
        assert!(metadata_digest(&path).unwrap_err().to_string().contains("containerimage.digest"));
        assert!(metadata_digest(&dir.path().join("none")).unwrap_err().to_string().contains("wrote no"));
    }
}
