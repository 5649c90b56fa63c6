//! A farm over two kinds of machine: this host, and a whole aarch64 machine that qemu
//! emulates. Compiled and run by `cargo xtask test --aarch64-vm` alone, over one such
//! farm for all; docs/aarch64-vm.md says what it proves and what not.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::path::Path;
use std::process::Command;

use archyard_tests::farm::{Outcome, finish};
use archyard_tests::project::unique;
use archyard_tests::{Coordinates, Project};
use serde_json::Value;
use xtask::mixed::Mixed;
use xtask::{busybox, oci};

const BOTH: &str = "linux/amd64,linux/arm64";

/// The farm that was started for these tests.
struct Farm {
    env: Coordinates,
    mixed: Mixed,
    home: tempfile::TempDir,
}

impl Farm {
    fn find() -> Self {
        let env = Coordinates::from_env().unwrap();
        let mixed = env.mixed.clone().expect("no machine was started: run cargo xtask test --aarch64-vm");
        Self { env, mixed, home: tempfile::tempdir().unwrap() }
    }

    fn run(&self, args: &[&str]) -> Outcome {
        let mut command = Command::new(&self.env.archyard);
        for (variable, folder) in [("XDG_CACHE_HOME", "cache"), ("DOCKER_CONFIG", "docker")] {
            command.env(variable, self.home.path().join(folder));
        }
        finish(command.env("ARCHYARD_FARM", &self.mixed.endpoint).env_remove("DOCKER_HOST").args(args))
    }

    fn build(&self, context: &Path, args: &[&str]) -> Outcome {
        self.run(&[&["build", "--progress", "plain"], args, &[context.to_str().unwrap()]].concat())
    }

    fn worker(&self, name: &str) -> Value {
        let listed = self.run(&["workers", "--json"]).expect(0).stdout;
        let mut workers = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        workers.find(|worker| worker["name"] == name).unwrap()
    }
}

fn platforms(worker: &Value) -> Vec<&str> {
    worker["platforms"].as_array().unwrap().iter().map(|platform| platform.as_str().unwrap()).collect()
}

#[test]
fn each_machine_offers_its_own_platforms_and_neither_knows_an_emulator() {
    let farm = Farm::find();
    let (host, machine) = (farm.worker(&farm.mixed.host), farm.worker(&farm.mixed.machine));
    // The machine's core has the 32-bit half of the architecture: measured there by execution, as anywhere.
    for native in ["linux/arm64", "linux/arm/v7"] {
        assert!(platforms(&machine).contains(&native) && !platforms(&host).contains(&native), "{native}");
    }
    for native in ["linux/amd64", "linux/386"] {
        assert!(platforms(&host).contains(&native) && !platforms(&machine).contains(&native), "{native}");
    }
    for worker in [&host, &machine] {
        assert_eq!(worker["state"], "ready", "{worker:#}");
        assert_eq!(worker["emulated"], serde_json::json!([]), "{worker:#}");
    }
    // An emulator registered on this host would run what the machine is for.
    let formats = std::fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    let formats: Vec<String> =
        formats.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(!formats.iter().any(|name| name.contains("aarch64") || name.contains("arm")), "{formats:?}");
}

#[test]
fn one_push_gives_one_index_from_two_kinds_of_machine() {
    let farm = Farm::find();
    let repository = unique("two-kinds");
    let name = format!("{}/{repository}:1", farm.env.registry);
    let project = Project::new(&format!(
        "FROM BASE AS build\nRUN echo {repository} && uname -m > /machine\n\
         FROM BASE\nCOPY --from=build /machine /machine\nRUN echo \"built on $(uname -m) of $(cat /machine)\"\n\
         CMD [\"cat\", \"/machine\"]\n"
    ));
    let outcome = farm.build(project.path(), &["--platform", BOTH, "--push", "-t", &name]).expect(0);
    for (platform, kind) in [("linux/amd64", "x86_64"), ("linux/arm64", "aarch64")] {
        let said = format!("built on {kind} of {kind}");
        let from_there = |line: &&str| line.starts_with(platform) && line.ends_with(&said);
        assert!(outcome.stderr.lines().any(|line| from_there(&line)), "{said}:\n{}", outcome.stderr);
    }
    for (platform, worker) in [("linux/amd64", &farm.mixed.host), ("linux/arm64", &farm.mixed.machine)] {
        outcome
            .stderr
            .lines()
            .find(|line| line.starts_with(platform) && line.contains(&format!("started on {worker}")))
            .unwrap_or_else(|| panic!("{platform} did not start on {worker}:\n{}", outcome.stderr));
    }

    // A tool that is not ours sees one index of two images, and an image behind each entry.
    let skopeo = |args: &[&str]| {
        finish(Command::new("skopeo").args(args).args(["--tls-verify=false", &format!("docker://{name}")]))
            .expect(0)
            .stdout
    };
    let index: Value = serde_json::from_str(&skopeo(&["inspect", "--raw"])).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    let architectures: Vec<&Value> = entries.iter().map(|entry| &entry["platform"]["architecture"]).collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    for architecture in ["amd64", "arm64"] {
        let config = skopeo(&["inspect", "--config", "--override-arch", architecture]);
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["architecture"], architecture);
    }
    assert_eq!(oci::tags(&farm.env.registry, &repository).unwrap(), ["1"]);
}

#[test]
fn an_amd64_program_in_the_arm64_image_is_refused_there_and_nothing_is_published() {
    let farm = Farm::find();
    let repository = unique("foreign");
    let project = Project::new("FROM BASE\nCOPY tool /tool\nENTRYPOINT [\"/tool\", \"true\"]\n");
    project.write("tool", &busybox::binary(&farm.env.native[0]).unwrap());
    std::fs::set_permissions(project.join("tool"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let tag = format!("{}/{repository}:1", farm.env.registry);
    let outcome = farm.build(project.path(), &["--platform", BOTH, "--push", "-t", &tag]).expect(1);
    outcome.says(&["linux/arm64", "\"/tool\"", "x86-64", "arm64"]);
    assert!(
        oci::tags(&farm.env.registry, &repository).map_or(true, |tags| tags.is_empty()),
        "a tag was published"
    );

    let newest = farm.run(&["ps", "--all", "--json", "-n", "1"]).expect(0).stdout;
    let newest: Value = serde_json::from_str(&newest).unwrap();
    let record = farm.run(&["show", newest["id"].as_str().unwrap(), "--json"]).expect(0).stdout;
    let record: Value = serde_json::from_str(&record).unwrap();
    let job = record["jobs"].as_array().unwrap().iter().find(|job| job["platform"] == "linux/arm64").unwrap();
    assert_eq!(job["failure"]["code"], "command_foreign", "{job:#}");
    assert_eq!(job["failure"]["class"], "user", "{job:#}");
    assert_eq!(job["attempts"][0]["worker"], farm.mixed.machine.as_str(), "{job:#}");
}

#[test]
fn a_smoke_test_runs_on_the_machine_of_its_platform() {
    let farm = Farm::find();
    let project = Project::new(&format!("FROM BASE\nRUN echo {}\nCMD [\"true\"]\n", unique("smoke")));
    let passes = "sh -c 'echo \"smoke on $(uname -m)\"'";
    let outcome = farm.build(project.path(), &["--platform", BOTH, "--smoke-test", passes]).expect(0);
    for (platform, kind) in [("linux/amd64", "x86_64"), ("linux/arm64", "aarch64")] {
        let said = format!("smoke on {kind}");
        assert!(
            outcome.stderr.lines().any(|line| line.starts_with(platform) && line.ends_with(&said)),
            "{said}:\n{}",
            outcome.stderr
        );
    }

    // Only there it fails, and so does the build.
    let outcome =
        farm.build(project.path(), &["--platform", BOTH, "--smoke-test", "sh -c '[ $(uname -m) = x86_64 ]'"]);
    outcome.expect(1).says(&["linux/arm64", "smoke test", "exit code 1"]);
}

#[test]
fn the_machines_32_bit_half_is_executed_not_assumed() {
    let farm = Farm::find();
    let repository = unique("v7");
    let name = format!("{}/{repository}:1", farm.env.registry);
    // The base of this platform holds nothing but a 32-bit program: it runs, or the step fails.
    let project = Project::new(&format!(
        "FROM BASE\nRUN echo {repository} && od -An -tx1 -j4 -N1 /bin/busybox | tr -d ' ' | sed 's/^/class /'\nCMD [\"true\"]\n"
    ));
    let outcome =
        farm.build(project.path(), &["--platform", "linux/arm/v7", "--push", "-t", &name]).expect(0);
    assert!(outcome.stderr.lines().any(|line| line.ends_with("class 01")), "{}", outcome.stderr);
}
