//! The binary as a user runs it, as far as no farm is needed: usage errors, the plan, completions, exit codes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

use assert_cmd::cargo::CommandCargoExt as _;
use serde_json::Value;
use tempfile::TempDir;

/// `archyard` with nothing of the user's own, and a farm that is not there.
fn archyard(home: &Path) -> Command {
    let mut command = Command::cargo_bin("archyard").unwrap();
    command
        .env("HOME", home)
        .env("XDG_CACHE_HOME", home.join("cache"))
        .env("XDG_STATE_HOME", home.join("state"))
        .env("DOCKER_CONFIG", home.join("docker"))
        .env("ARCHYARD_FARM", format!("unix:{}", home.join("none.sock").display()))
        .env_remove("ARCHYARD_TLS_DIR")
        .env_remove("ARCHYARD_LOG")
        .env_remove("DOCKER_HOST")
        .env_remove("DOCKER_DEFAULT_PLATFORM")
        .env_remove("SOURCE_DATE_EPOCH")
        .env_remove("BUILDKIT_PROGRESS");
    command
}

/// A folder with a Dockerfile and a file.
fn project() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("Dockerfile"), "FROM scratch\nCOPY a /a\n").unwrap();
    std::fs::write(dir.path().join("a"), "a").unwrap();
    dir
}

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Usage: exit code 2, these words, nothing on standard output, and nothing left behind.
#[track_caller]
fn refused(project: &TempDir, arguments: &[&str], words: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    let said = run(archyard(home.path()).arg("build").args(arguments).arg(project.path()));
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert_eq!(said.stdout, "");
    for word in words {
        assert!(said.stderr.contains(word), "{word:?} is not in\n{}", said.stderr);
    }
    assert!(!home.path().join("state").exists(), "something was left behind");
}

#[test]
fn an_unknown_or_malformed_platform() {
    let project = project();
    refused(
        &project,
        &["--platform", "linux/amd46"],
        &["--platform", "linux/amd46", "did you mean linux/amd64"],
    );
    refused(&project, &["--platform", "linux"], &["\"linux\"", "OS/ARCHITECTURE"]);
    refused(&project, &["--platform", "windows/amd64"], &["windows/amd64", "only linux"]);
    refused(&project, &["--platform", ""], &["platform"]);
    refused(&project, &["--platform", "linux/amd64,"], &["platform"]);
}

#[test]
fn a_bad_tag() {
    let project = project();
    refused(&project, &["-t", "UPPER/Case:x"], &["--tag", "UPPER/Case:x", "lowercase"]);
    refused(&project, &["-t", "name:bad tag"], &["name:bad tag"]);
}

#[test]
fn a_push_without_a_tag() {
    refused(&project(), &["--push"], &["--push", "--tag"]);
}

#[test]
fn a_missing_dockerfile() {
    let project = project();
    refused(&project, &["-f", "/nowhere/Dockerfile"], &["/nowhere/Dockerfile"]);
    std::fs::remove_file(project.path().join("Dockerfile")).unwrap();
    refused(&project, &[], &["Dockerfile", "-f"]);
}

#[test]
fn a_missing_context() {
    let home = tempfile::tempdir().unwrap();
    let said = run(archyard(home.path()).args(["build", "/nowhere/at-all"]));
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("/nowhere/at-all"), "{}", said.stderr);
    let said = run(archyard(home.path()).arg("build"));
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("CONTEXT"), "{}", said.stderr);
}

#[test]
fn result_files_that_could_not_be_written_are_refused_before_the_build() {
    let project = project();
    refused(&project, &["--metadata-file", "/nowhere/m.json"], &["--metadata-file", "/nowhere/m.json"]);
    refused(
        &project,
        &["--iidfile", "/tmp/iid", "--platform", "linux/amd64,linux/386"],
        &["--iidfile", "2 platforms", "--metadata-file"],
    );
}

#[test]
fn flags_that_are_not_ours() {
    let project = project();
    refused(
        &project,
        &["--no-such-flag"],
        &["archyard: --no-such-flag: unknown flag; see archyard build --help\n"],
    );
    refused(&project, &["--no-cahce"], &["archyard: --no-cahce: unknown flag; did you mean --no-cache?\n"]);
    refused(&project, &["-q", "--json"], &["--quiet", "--json"]);
    refused(&project, &["--project", "../x"], &["--project", "../x"]);
    refused(&project, &["--farm-timeout", "soon"], &["--farm-timeout", "soon"]);
}

#[test]
fn the_plan_is_printed_and_nobody_is_talked_to() {
    let home = tempfile::tempdir().unwrap();
    let project = project();
    let mut command = archyard(home.path());
    command.args([
        "build",
        "--print",
        "--platform",
        "linux/arm64/v8,linux/386",
        "-t",
        "app",
        "--build-arg",
        "FROM_ENV",
    ]);
    let said = run(command.arg(project.path()).env("FROM_ENV", "value"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let plan: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(plan["platforms"], serde_json::json!(["linux/arm64", "linux/386"]));
    assert_eq!(plan["tags"], serde_json::json!(["docker.io/library/app:latest"]));
    assert_eq!(plan["build_args"]["FROM_ENV"], "value");
    assert_eq!(plan["output"], "check");
}

#[test]
fn the_default_platform_is_this_machines() {
    let home = tempfile::tempdir().unwrap();
    let said = run(archyard(home.path()).args(["build", "--print"]).arg(project().path()));
    let plan: Value = serde_json::from_str(&said.stdout).unwrap();
    let own = match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64",
        other => panic!("tell this test about {other}"),
    };
    assert_eq!(plan["platforms"], serde_json::json!([own]));
}

#[test]
fn the_environment_counts_as_it_does_for_docker() {
    let (home, project) = (tempfile::tempdir().unwrap(), project());
    std::fs::create_dir(home.path().join("docker")).unwrap();
    let config = r#"{"proxies":{"default":{"httpsProxy":"http://user:hush@p:3128"}}}"#;
    std::fs::write(home.path().join("docker/config.json"), config).unwrap();
    let said = run(archyard(home.path())
        .env("DOCKER_DEFAULT_PLATFORM", "linux/s390x,linux/s390x")
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .args(["build", "--print"])
        .arg(project.path()));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(!said.stdout.contains("hush") && !said.stderr.contains("hush"), "{}", said.stdout);
    let plan: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(plan["platforms"], serde_json::json!(["linux/s390x"]));
    let want = serde_json::json!({
        "HTTPS_PROXY": "http://***@p:3128",
        "https_proxy": "http://***@p:3128",
        "SOURCE_DATE_EPOCH": "1700000000",
    });
    assert_eq!(plan["build_args"], want);
    for (name, value, want) in [
        ("DOCKER_DEFAULT_PLATFORM", "arm46", "DOCKER_DEFAULT_PLATFORM \"arm46\": expected OS/ARCHITECTURE"),
        ("SOURCE_DATE_EPOCH", "now", "SOURCE_DATE_EPOCH \"now\": the environment's value is no number"),
        ("BUILDKIT_PROGRESS", "fancy", "BUILDKIT_PROGRESS \"fancy\": expected auto, tty, plain or quiet"),
    ] {
        let said = run(archyard(home.path()).env(name, value).arg("build").arg(project.path()));
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        assert!(said.stderr.starts_with(&format!("archyard: {want}")), "{}", said.stderr);
        assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
    }
}

#[test]
fn a_farm_that_was_named_and_does_not_answer() {
    let home = tempfile::tempdir().unwrap();
    let project = project();
    let build = project.path().to_str().unwrap();
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for arguments in [
        &["ps"][..],
        &["show", id],
        &["logs", id],
        &["cancel", id],
        &["rerun", "--failed", id],
        &["promote", "-t", "r.example/app:1", id],
        &["workers"],
        &["drain", "w"],
        &["build", build],
    ] {
        let said = run(archyard(home.path()).args(arguments));
        assert_eq!(said.code, Some(3), "{arguments:?}: {}", said.stderr);
        assert!(said.stderr.contains("none.sock"), "{arguments:?}: {}", said.stderr);
        assert!(said.stderr.contains("archyard up"), "{arguments:?}: {}", said.stderr);
        assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
        assert_eq!(said.stdout, "");
    }
}

#[test]
fn no_farm_at_all() {
    let home = tempfile::tempdir().unwrap();
    let mut command = archyard(home.path());
    command.args(["ps"]).env("ARCHYARD_FARM", "").env("XDG_RUNTIME_DIR", home.path());
    // Root's socket is the machine's, and somebody may listen there.
    if Path::new("/run/archyard/scheduler.sock").exists() {
        return;
    }
    let said = run(&mut command);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(said.stderr.contains("archyard up") && said.stderr.contains("ARCHYARD_FARM"), "{}", said.stderr);
}

#[test]
fn farms_and_builds_that_are_no_such_thing() {
    let home = tempfile::tempdir().unwrap();
    let said = run(archyard(home.path()).args(["ps", "--farm", "farm.example"]));
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("farm.example") && said.stderr.contains("unix:PATH"), "{}", said.stderr);
    let said = run(archyard(home.path()).args(["ps", "--farm", "https://farm.example:7420"]));
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("--tls-dir"), "{}", said.stderr);
    let said = run(archyard(home.path()).args(["show", "not-an-id"]));
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("not-an-id"), "{}", said.stderr);
}

#[test]
fn roles_that_cannot_be_started_as_asked() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    for (arguments, words) in [
        (&["scheduler", "--listen", "0.0.0.0:0"][..], &["--listen", "0.0.0.0:0", "--tls"][..]),
        (&["scheduler", "--listen", "farm.example:1"], &["--listen", "farm.example:1", "IP address"]),
        (&["scheduler", "--tls-name", "x"], &["--tls"]),
        (&["up", "--pool", "nobody"], &["nobody", "trusted or untrusted"]),
        (&["worker", "--scheduler", "unix:/s", "--slots", "0"], &["slots", "1 to 256"]),
        (&["worker", "--scheduler", "unix:/s", "--name", "A B"], &["A B", "--name"]),
        (&["worker", "--scheduler", "unix:/s", "--label", "x"], &["--label", "NAME=VALUE"]),
        (
            &["worker", "--scheduler", "unix:/s", "--engine", "tcp://127.0.0.1:1"],
            &["tcp://127.0.0.1:1", "unix:///"],
        ),
        (&["worker", "--scheduler", "https://farm.example:1"], &["--tls-dir"]),
    ] {
        let said = run(archyard(home.path()).args(arguments).arg("--data-dir").arg(&data));
        assert_eq!(said.code, Some(2), "{arguments:?}: {}", said.stderr);
        for word in words {
            assert!(said.stderr.contains(word), "{word:?} is not in\n{}", said.stderr);
        }
    }
}

#[test]
fn completions_for_every_shell() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let said = run(archyard(home.path()).args(["completions", shell]));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert!(said.stdout.contains("platform") && said.stdout.contains("drain"), "{shell}");
        for word in ["rerun", "promote", "smoke-test-memory", "foreign-allow", "candidate", "farm-timeout"] {
            assert!(said.stdout.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(run(archyard(home.path()).args(["completions", "ksh"])).code, Some(2));
}

#[test]
fn versions() {
    let home = tempfile::tempdir().unwrap();
    let want = format!("archyard {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(archyard(home.path()).arg("version")).stdout, want);
    assert_eq!(run(archyard(home.path()).arg("--version")).stdout, want);
    let json: Value =
        serde_json::from_str(&run(archyard(home.path()).args(["version", "--json"])).stdout).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn help_is_short_and_shows_examples() {
    let home = tempfile::tempdir().unwrap();
    for command in
        ["build", "rerun", "promote", "ps", "logs", "up", "scheduler", "worker", "drain", "completions"]
    {
        let said = run(archyard(home.path()).args([command, "--help"]));
        assert_eq!(said.code, Some(0));
        assert!(said.stdout.contains("Examples:"), "{command}");
        assert!(said.stdout.lines().all(|line| line.chars().count() <= 120), "{command}:\n{}", said.stdout);
    }
    let said = run(archyard(home.path()).arg("--help"));
    assert!(!said.stdout.contains("runner"), "{}", said.stdout);
}

#[test]
fn a_runner_without_an_attempt_fails_fast() {
    let home = tempfile::tempdir().unwrap();
    let said = run(archyard(home.path()).args(["runner", "/nowhere"]));
    assert_eq!(said.code, Some(1), "{}", said.stderr);
}
