//! The flags of what is built, checked and written on it: each mistake is one line that names flag, value and remedy,
//! told before any file is read, with exit code 2.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

use assert_cmd::cargo::CommandCargoExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;

fn build(home: &Path, arguments: &[&str], context: &Path) -> (Option<i32>, String, String) {
    let mut command = Command::cargo_bin("archyard").unwrap();
    command
        .arg("build")
        .args(arguments)
        .arg(context)
        .env("HOME", home)
        .env("XDG_CACHE_HOME", home.join("cache"))
        .env("DOCKER_CONFIG", home.join("docker"))
        .env_remove("DOCKER_DEFAULT_PLATFORM")
        .env_remove("SOURCE_DATE_EPOCH")
        .env_remove("BUILDKIT_PROGRESS")
        .env("ARCHYARD_FARM", format!("unix:{}", home.join("none.sock").display()));
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The context is not there: a flag that is wrong is told before that is seen.
#[track_caller]
fn refused(arguments: &[&str], want: &str) {
    let home = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = build(home.path(), arguments, &home.path().join("nothing"));
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    assert!(stderr.starts_with(&format!("archyard: {want}")), "{want:?} is not how this begins:\n{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

/// The plan as `--print` shows it.
#[track_caller]
fn plan(dockerfile: &str, arguments: &[&str]) -> Value {
    let project = project(dockerfile);
    let home = tempfile::tempdir().unwrap();
    let arguments: Vec<&str> = std::iter::once("--print").chain(arguments.iter().copied()).collect();
    let (code, stdout, stderr) = build(home.path(), &arguments, project.path());
    assert_eq!(code, Some(0), "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

fn project(dockerfile: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("Dockerfile"), dockerfile).unwrap();
    dir
}

#[test]
fn platforms_on_trial_come_after_those_that_are_required() {
    let flags =
        ["--platform", "linux/amd64", "--trial", "linux/riscv64,linux/386", "--cross", "linux/riscv64"];
    let plan = plan("FROM scratch\n", &flags);
    assert_eq!(plan["platforms"], json!(["linux/amd64", "linux/riscv64", "linux/386"]));
    assert_eq!(plan["trial"], json!(["linux/riscv64", "linux/386"]));
    assert_eq!(plan["cross"], json!(["linux/riscv64"]));
}

#[test]
fn a_platform_both_required_and_on_trial() {
    let flags = ["--platform", "linux/amd64,linux/386", "--trial", "linux/386"];
    refused(
        &flags,
        "--trial \"linux/386\": it is required already; name it in one of --platform and --trial",
    );
}

#[test]
fn nothing_but_trials() {
    let flags = ["--platform", "linux/386", "--trial", "linux/386"];
    refused(
        &flags,
        "--trial \"linux/386\": every platform is on trial, and nothing would be published; require",
    );
}

#[test]
fn a_trial_beside_this_machines_platform() {
    let plan = plan("FROM scratch\n", &["--trial", "linux/s390x"]);
    assert_eq!(plan["platforms"].as_array().unwrap().len(), 2);
    assert_eq!(plan["trial"], json!(["linux/s390x"]));
}

#[test]
fn cross_for_a_platform_that_is_not_built() {
    let flags = ["--platform", "linux/amd64", "--cross", "linux/arm64"];
    refused(
        &flags,
        "--cross \"linux/arm64\": the build has linux/amd64; name it in --platform or --trial too",
    );
}

#[test]
fn cross_where_the_target_runs_something() {
    let project = project("FROM busybox AS tools\nRUN mkdir /x\nFROM scratch\nCOPY --from=tools /x /x\n");
    let home = tempfile::tempdir().unwrap();
    let flags = ["--platform", "linux/amd64,linux/arm64", "--cross", "linux/arm64"];
    let (code, stdout, stderr) = build(home.path(), &flags, project.path());
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(2), "", 1), "{stderr}");
    let want = "Dockerfile:2: RUN of stage \"tools\" would run on linux/arm64, which --cross linux/arm64 builds on \
                another machine";
    assert!(stderr.contains(want) && stderr.contains("FROM --platform=$BUILDPLATFORM"), "{stderr}");
}

#[test]
fn what_an_image_must_pass_is_in_the_plan() {
    let flags = [
        "--smoke-test",
        "app --version",
        "--smoke-test",
        "sh -c 'exit 0'",
        "--smoke-test",
        "",
        "--smoke-test-network",
        "--smoke-test-writable",
        "--smoke-test-timeout",
        "5m",
        "--smoke-test-memory",
        "1g",
        "--foreign",
        "deny",
        "--foreign-allow",
        "/lib/firmware/**",
    ];
    let want = json!({
        "smoke_tests": ["app --version", "sh -c 'exit 0'", ""],
        "smoke_network": true,
        "smoke_writable": true,
        "smoke_timeout_ms": 300_000,
        "smoke_memory_bytes": 1 << 30,
        "foreign": "deny",
        "foreign_allow": ["/lib/firmware/**"],
        "data_only": false,
    });
    assert_eq!(plan("FROM scratch\n", &flags)["checks"], want);
    assert_eq!(plan("FROM scratch\n", &["--data-only"])["checks"]["data_only"], true);
}

#[test]
fn smoke_tests_that_are_no_words() {
    refused(&["--smoke-test", "echo 'x"], "--smoke-test \"echo 'x\": it cannot be split into words");
    refused(&["--smoke-test", "x", "--data-only"], "--smoke-test \"x\": an image that only holds files");
    refused(&["--smoke-test", "", "--data-only"], "--smoke-test \"\": an image that only holds files");
    refused(
        &["--smoke-test-writable", "--data-only"],
        "--smoke-test-writable \"\": an image that only holds",
    );
}

#[test]
fn limits_of_smoke_tests_that_cannot_be() {
    refused(&["--smoke-test-timeout", "60"], "--smoke-test-timeout \"60\": expected a duration, as in 60s");
    refused(&["--smoke-test-timeout", "2h"], "--smoke-test-timeout \"2h\": a smoke test may take 1s to 1h");
    refused(&["--smoke-test-memory", "big"], "--smoke-test-memory \"big\": expected a size, as in 512m");
    refused(&["--smoke-test-memory", "1m"], "--smoke-test-memory \"1m\": a smoke test may use 16m to 64g");
}

#[test]
fn foreign_globs_that_are_none() {
    refused(&["--foreign-allow", "/a[b"], "--foreign-allow \"/a[b\": unclosed character class");
    refused(&["--foreign-allow", "lib/x"], "--foreign-allow \"lib/x\": it is held against absolute paths");
    let home = tempfile::tempdir().unwrap();
    let (code, _, stderr) = build(home.path(), &["--foreign", "maybe"], home.path());
    assert_eq!(code, Some(2));
    for word in ["maybe", "--foreign", "allow, warn, deny"] {
        assert!(stderr.contains(word), "{stderr}");
    }
}

#[test]
fn annotations_are_in_the_plan() {
    let flags = [
        "--platform",
        "linux/amd64",
        "--annotation",
        "index,manifest[linux/amd64]:a=b",
        "--annotation",
        "c=d",
    ];
    let entry = |level: &str, platform: Value, key: &str, value: &str| json!({ "level": level, "platform": platform, "key": key, "value": value });
    let want = json!([
        entry("index", Value::Null, "a", "b"),
        entry("manifest", Value::Null, "c", "d"),
        entry("manifest", json!("linux/amd64"), "a", "b"),
    ]);
    assert_eq!(plan("FROM scratch\n", &flags)["annotations"], want);
}

#[test]
fn annotations_that_are_none() {
    for (given, want) in [
        ("a", "expected KEY=VALUE"),
        ("=b", "expected a key before '='"),
        ("index-descriptor:a=b", "an index in a registry has no entry that could be annotated; use index"),
        ("layer:a=b", "unknown type \"layer\"; known are manifest, index, manifest-descriptor"),
        ("manifest[]:a=b", "\"manifest[]\" is no type"),
        ("manifest[linux/s390x]:a=b", "linux/s390x is not built; the build has"),
        ("index[linux/amd64]:a=b", "the index is that of all platforms; leave out the platform"),
    ] {
        refused(&["--annotation", given], &format!("--annotation {given:?}: {want}"));
    }
}

#[test]
fn a_candidate_is_in_the_plan_with_the_tags_of_later() {
    let plan = plan("FROM scratch\n", &["--candidate", "r.example/staging", "-t", "r.example/app:1"]);
    assert_eq!(plan["output"], "candidate");
    assert_eq!(plan["staging"], "r.example/staging");
    assert_eq!(plan["tags"], json!(["r.example/app:1"]));
}

#[test]
fn candidates_that_contradict_themselves() {
    refused(
        &["--candidate", "r.example/x:1"],
        "--candidate \"r.example/x:1\": expected a repository without tag",
    );
    refused(&["--candidate", "UPPER/x"], "--candidate \"UPPER/x\": ");
    let flags = ["--candidate", "r.example/x", "--push", "-t", "r.example/y"];
    refused(&["--load", "-o", "out"], "--output \"out\": a build has one output; leave out this or --load");
    refused(&flags, "--candidate \"r.example/x\": a candidate goes nowhere else yet; leave out --push");
}
