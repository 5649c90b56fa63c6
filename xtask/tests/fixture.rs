//! The fixture, for real: it comes up, survives the crash of an Engine, and leaves
//! nothing behind.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use xtask::buildx::Buildx;
use xtask::engine::{Engine, Kind};
use xtask::env::{Bases, Env, Options, Scratch};
use xtask::images::{Image, Platform, native};
use xtask::process::{self, Process};
use xtask::state::{Place, State};
use xtask::{busybox, http, interrupt, oci, run};

const ALONE: Options = Options {
    engines: 1,
    more: Vec::new(),
    registry: true,
    bases: Bases::Native,
    outbound: true,
    install: false,
};

fn docker(engine: &str, args: &[&str]) -> String {
    let client =
        ["/usr/bin/docker", "/usr/local/bin/docker"].into_iter().find(|path| Path::new(path).exists());
    run::output(Command::new(client.unwrap()).args(["-H", engine]).args(args)).unwrap()
}

/// Everything on the machine that names one of these.
fn traces(names: &[String]) -> Vec<String> {
    let mentions = |text: &str| names.iter().any(|name| text.contains(name.as_str()));
    let mut found = Vec::new();
    for table in ["/proc/self/mountinfo", "/proc/net/dev", "/proc/net/unix"] {
        found.extend(
            fs::read_to_string(table).unwrap().lines().filter(|line| mentions(line)).map(str::to_owned),
        );
    }
    for process in process::all().into_iter().filter(Process::is_alive) {
        let arguments = process::arguments(process.pid).join(" ");
        if mentions(&arguments) && process.pid != std::process::id() {
            found.push(arguments);
        }
    }
    for table in ["filter", "nat"] {
        let rules =
            run::output(Command::new(run::tool("iptables").unwrap()).args(["-w", "20", "-t", table, "-S"]));
        found.extend(rules.unwrap_or_default().lines().filter(|rule| mentions(rule)).map(str::to_owned));
    }
    found.extend(names.iter().filter(|name| Path::new(name).exists()).cloned());
    found
}

/// What of the machine is an environment's.
fn names(env: &Env) -> Vec<String> {
    let bridges = env.state.engines.iter().map(|engine| engine.bridge.name.clone());
    bridges.chain([&env.place.dir, &env.place.run_dir].map(|path| path.display().to_string())).collect()
}

/// Builds with the reference client.
fn build(engine: &Engine, context: &Path, flags: &[&str]) -> String {
    let client = Buildx::new().unwrap();
    let mut buildx = client.build(&engine.address()).unwrap();
    let out = buildx.args(flags).arg(context).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{}", run::tail(&said, 20));
    said
}

#[test]
fn an_environment_comes_up_survives_a_crash_and_leaves_nothing() {
    let mut env = Scratch::new(&ALONE).unwrap();
    let engine = env.state.engines[0].clone();
    let names = names(&env);
    assert!(!traces(&names).is_empty());

    // Both platforms of the base image run, on a bridge of the Engine's own.
    let base = env.base().unwrap().reference.clone();
    for platform in native().unwrap().map(|platform| platform.to_string()) {
        docker(&engine.address(), &["pull", "-q", "--platform", &platform, &base]);
        let said = docker(
            &engine.address(),
            &["run", "--rm", "--platform", &platform, &base, "sh", "-c", "echo up; ip addr"],
        );
        let subnet = engine.bridge.address.to_string().trim_end_matches('1').to_owned();
        assert!(said.starts_with("up\n") && said.contains(&format!("inet {subnet}")), "{said}");
    }

    // A crash leaves a container running; the Engine comes back over its images.
    docker(&engine.address(), &["run", "-d", &base, "sleep", "1000"]);
    env.kill_engine(0).unwrap();
    assert!(http::get_unix(&engine.socket(), "/_ping").is_err());
    env.restart_engine(0).unwrap();
    assert!(docker(&engine.address(), &["images", "-q"]).lines().count() > 0);

    docker(&engine.address(), &["run", "-d", &base, "sleep", "1000"]);
    drop(env);
    assert_eq!(traces(&names), Vec::<String>::new());
}

#[test]
fn engines_of_newer_debians_build_survive_a_crash_and_leave_nothing() {
    let options = Options { engines: 0, more: Kind::MORE.to_vec(), outbound: false, ..ALONE };
    let mut env = Scratch::new(&options).unwrap();
    let names = names(&env);
    let context = tempfile::tempdir().unwrap();
    let base = env.base().unwrap().reference.clone();
    // More of a log than an Engine keeps by default: 2 MiB a step.
    let dockerfile = format!(
        "FROM {base}\nRUN echo built > /word\nRUN head -c 3000000 /dev/zero | tr '\\0' a | fold -w 100; echo; echo end $((1+1))\n"
    );
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();

    for (index, kind) in Kind::MORE.into_iter().enumerate() {
        let engine = env.state.engines[index].clone();
        assert_eq!(engine.kind, kind);
        let info: serde_json::Value =
            serde_json::from_str(&http::get_unix(&engine.socket(), "/info").unwrap()).unwrap();
        let version = kind.release().unwrap().engine_version().unwrap();
        assert_eq!(info["ServerVersion"], version, "{info:#}");
        let store = info["DriverStatus"].to_string();
        assert_eq!(
            store.contains("io.containerd.snapshotter.v1"),
            kind.stores_in_containerd(),
            "{kind:?}: {store}"
        );

        let image = format!("{}/built/{}:1", env.registry().unwrap().address(), kind.name());
        let said = if kind.stores_in_containerd() {
            // Only this store pushes what it builds.
            build(&engine, context.path(), &["--output", &format!("type=image,name={image},push=true")])
        } else {
            let said = build(&engine, context.path(), &["--tag", &image]);
            docker(&engine.address(), &["push", "-q", &image]);
            said
        };
        assert!(said.contains("end 2") && !said.contains("clipped"), "{}", run::tail(&said, 5));
        assert_eq!(
            oci::tags(&env.registry().unwrap().address(), &format!("built/{}", kind.name())).unwrap(),
            ["1"]
        );
        docker(&engine.address(), &["run", "-d", &image, "sleep", "1000"]);
        env.kill_engine(index).unwrap();
        env.restart_engine(index).unwrap();
        assert_eq!(docker(&engine.address(), &["run", "--rm", &image, "cat", "/word"]), "built\n");
        docker(&engine.address(), &["run", "-d", &image, "sleep", "1000"]);
    }
    drop(env);
    assert_eq!(traces(&names), Vec::<String>::new());
}

/// The environment `name` of `cargo xtask env`, by the program itself.
fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["env"]).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// What of the machine belongs to the environment of this name.
fn names_of(place: &Place) -> Vec<String> {
    let state = State::load(place).unwrap();
    let bridges = state.iter().flat_map(|state| &state.engines).map(|engine| engine.bridge.name.clone());
    bridges.chain([&place.dir, &place.run_dir].map(|path| path.display().to_string())).collect()
}

#[test]
fn what_a_killed_run_left_is_taken_down_wherever_it_was_killed() {
    let name = format!("killed-{}", std::process::id());
    let place = Place::named(&name);
    // When its state is written, when its Engine starts, when its registry starts, and when it is done.
    let moments: [&dyn Fn() -> bool; 4] = [
        &|| place.dir.join("state.json").exists(),
        &|| !process::told_of(&["dockerd", "containerd"], &[&place.run_dir]).is_empty(),
        &|| !process::told_of(&["docker-registry"], &[&place.dir]).is_empty(),
        &|| place.dir.join("coordinates.json").exists(),
    ];
    for (moment, number) in moments.iter().zip(1..) {
        let mut up = xtask(&["up", "--name", &name, "--engine", "host", "--no-install"]).spawn().unwrap();
        assert!(interrupt::wait_for(Duration::from_secs(120), || Ok(moment())).unwrap(), "moment {number}");
        up.kill().unwrap();
        up.wait().unwrap();
        let names = names_of(&place);
        assert!(!traces(&names).is_empty());
        assert!(xtask(&["down", "--name", &name]).status().unwrap().success(), "moment {number}");
        assert_eq!(traces(&names), Vec::<String>::new(), "moment {number}");
    }
}

#[test]
fn after_a_reboot_only_files_are_left_and_no_strangers_process_is_ended() {
    let name = format!("rebooted-{}", std::process::id());
    let place = Place::named(&name);
    let up = ["up", "--name", &name, "--engine", "host", "--no-install"];
    assert!(xtask(&up).status().unwrap().success());
    let names = names_of(&place);

    // As a reboot leaves it: no process, no bridge, nothing under /run; and the numbers are others' now.
    let folders = [place.dir.as_path(), place.run_dir.as_path()];
    for process in process::told_of(&["dockerd", "containerd", "docker-registry"], &folders) {
        process.kill();
        assert!(process.wait_gone(Duration::from_secs(20)));
    }
    run::output(Command::new(run::tool("ip").unwrap()).args(["link", "delete", &names[0]])).unwrap();
    fs::remove_dir_all(&place.run_dir).unwrap();
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    let number = serde_json::to_value(Process::of(stranger.id()).unwrap()).unwrap();
    let file = place.dir.join("state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    state["boot_id"] = "of another boot".into();
    state["engines"][0]["dockerd"] = number.clone();
    state["registry"]["process"] = number.clone();
    state["farm"] = serde_json::json!([{ "name": "scheduler", "process": number }]);
    fs::write(&file, state.to_string()).unwrap();

    assert!(xtask(&["down", "--name", &name]).status().unwrap().success());
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger's process was ended");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_eq!(traces(&names), Vec::<String>::new());
}

#[test]
fn a_registry_takes_images_that_lie_and_goes_away_on_demand() {
    let alone = Options { engines: 0, bases: Bases::None, outbound: false, ..ALONE };
    let mut env = Scratch::new(&alone).unwrap();
    let registry = env.registry().unwrap().address();
    let [own, sibling] = native().unwrap();
    busybox::ensure(&[own.clone(), sibling.clone()], &[]).unwrap();

    // An index that says it has a platform and has another.
    let riscv64 = Platform::parse("linux/riscv64").unwrap();
    let honest = busybox::image(&own).unwrap();
    let lie = Image { platform: riscv64, ..honest.clone() };
    let digest = oci::push_index(&registry, "bad/index", "1", &[honest, lie]).unwrap();
    let index = oci::get_manifest(&registry, "bad/index", "1").unwrap();
    assert_eq!((index.digest, index.media_type.as_str()), (digest, oci::INDEX));
    assert_eq!(index.json["manifests"][1]["platform"]["architecture"], "riscv64");

    // A lone manifest, and nothing else under its tag.
    let alone = busybox::image(&sibling).unwrap();
    let digest = oci::push_manifest(&registry, "bad/lone", "1", &alone).unwrap();
    let manifest = oci::get_manifest(&registry, "bad/lone", "1").unwrap();
    assert_eq!((manifest.digest.clone(), manifest.media_type.as_str()), (digest.clone(), oci::MANIFEST));
    let config =
        oci::get_blob(&registry, "bad/lone", manifest.json["config"]["digest"].as_str().unwrap()).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["architecture"], sibling.json()["architecture"]);
    assert_eq!(oci::tags(&registry, "bad/lone").unwrap(), ["1"]);
    oci::delete_manifest(&registry, "bad/lone", &digest).unwrap();
    assert!(oci::get_manifest(&registry, "bad/lone", "1").is_err());
    assert!(oci::tags(&registry, "no/such").unwrap().is_empty());

    // Gone and back, at the same address, with what it had.
    env.state.registry.as_mut().unwrap().kill();
    assert!(oci::get_manifest(&registry, "bad/index", "1").is_err());
    env.state.registry.as_mut().unwrap().start().unwrap();
    assert_eq!(env.registry().unwrap().address(), registry);
    oci::get_manifest(&registry, "bad/index", "1").unwrap();
}
