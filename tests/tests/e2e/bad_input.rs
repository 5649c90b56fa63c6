//! Bad input: one clear error that names the field, the value and the remedy, the right exit code, and nothing
//! left behind. One test a row.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use archyard_proto::v1 as proto;
use archyard_tests::farm::{PATIENCE, finish};
use archyard_tests::process::wait_for;
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project, client};
use proto::build_service_client::BuildServiceClient;
use tonic::Code;

use crate::check::block_on;

/// A build that must be refused before it reaches the farm: exit code 2, these words, and no build.
#[track_caller]
fn refused(farm: &Farm, project: &Project, args: &[&str], says: &[&str]) {
    let outcome = farm.build(project.path(), args).expect(2).says(says);
    assert!(outcome.stdout.is_empty(), "{}", outcome.stdout);
    assert_eq!(farm.newest_build(), None, "a build was accepted");
}

#[test]
fn platforms() {
    let farm = Farm::start(0);
    let project = Project::new("FROM BASE\n");
    refused(&farm, &project, &["--platform", "linux/amd46"], &["linux/amd46", "did you mean linux/amd64"]);
    refused(&farm, &project, &["--platform", "linux"], &["\"linux\"", "OS/ARCHITECTURE"]);
    refused(&farm, &project, &["--platform", ""], &["platform"]);
}

#[test]
fn references() {
    let farm = Farm::start(0);
    let project = Project::new("FROM BASE\n");
    refused(&farm, &project, &["-t", "UPPER/Case:x"], &["UPPER/Case:x", "lowercase"]);
    refused(&farm, &project, &["-t", "name:bad tag"], &["name:bad tag"]);
    refused(&farm, &project, &["--push"], &["-t"]);
}

#[test]
fn a_missing_dockerfile() {
    let farm = Farm::start(0);
    let project = Project::new("FROM BASE\n");
    refused(&farm, &project, &["-f", "/nowhere/Dockerfile"], &["/nowhere/Dockerfile"]);
    std::fs::remove_file(project.join("Dockerfile")).unwrap();
    refused(&farm, &project, &[], &["Dockerfile", "-f"]);
}

#[test]
fn a_context_that_is_no_folder() {
    let farm = Farm::start(0);
    let project = Project::new("FROM BASE\n");
    let context = project.join("nothing");
    finish(farm.command().args(["build"]).arg(&context)).expect(2).says(&["nothing"]);
    finish(farm.command().args(["build"]).arg(project.join("Dockerfile"))).expect(2).says(&["Dockerfile"]);
}

#[test]
fn a_dockerfile_that_does_not_parse_or_has_no_such_target() {
    let farm = Farm::start(0);
    let project = Project::new("FROM BASE AS one\nFROM one AS two\n");
    refused(&farm, &project, &["--target", "three"], &["three", "one", "two"]);
    let project = Project::new("RUN before from\n");
    refused(&farm, &project, &[], &["Dockerfile"]);
    let project = Project::new("ARG X\nFROM ${X}\n");
    refused(&farm, &project, &[], &["X", "--build-arg"]);
}

#[test]
fn a_file_that_cannot_be_read() {
    let farm = Farm::start(0);
    let project = Project::new("FROM BASE\nCOPY . /\n").file("secret", "x");
    std::fs::set_permissions(project.path(), Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(project.join("secret"), Permissions::from_mode(0o000)).unwrap();
    // As nobody: for root every file can be read. The program is copied to where nobody can run it.
    let bin = tempfile::tempdir().unwrap();
    std::fs::set_permissions(bin.path(), Permissions::from_mode(0o755)).unwrap();
    let program = bin.path().join("archyard");
    std::fs::copy(&farm.env.archyard, &program).unwrap();
    let mut command = Command::new(program);
    command
        .args(["build", "--print"])
        .arg(project.path())
        .env("HOME", "/nonexistent")
        .env_remove("XDG_CACHE_HOME");
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    finish(&mut command).expect(2).says(&["secret", ".dockerignore"]);
}

#[test]
fn sockets_are_left_out_and_pipes_and_devices_are_kept() {
    let farm = Farm::start(0);
    let project = Project::new("FROM BASE\nCOPY . /x\n");
    finish(Command::new("mkfifo").arg(project.join("a-fifo"))).expect(0);
    let _socket = std::os::unix::net::UnixListener::bind(project.join("a-socket")).unwrap();
    let mut kept = vec![("Dockerfile", "file"), ("a-fifo", "fifo")];
    if rustix::process::geteuid().is_root() {
        finish(Command::new("mknod").arg(project.join("a-device")).args(["c", "1", "3"])).expect(0);
        kept.insert(1, ("a-device", "device"));
    }
    let printed = finish(farm.command().args(["build", "--print"]).arg(project.path())).expect(0).stdout;
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let entries = printed["context"]["entries"].as_array().unwrap();
    let text = |entry: &serde_json::Value, key: &str| entry[key].as_str().unwrap().to_owned();
    let found: Vec<_> = entries.iter().map(|entry| (text(entry, "path"), text(entry, "type"))).collect();
    let found: Vec<_> = found.iter().map(|(path, kind)| (path.as_str(), kind.as_str())).collect();
    assert_eq!(found, kept);
}

#[test]
fn a_context_past_the_limit() {
    let farm = Farm::start(0);
    let project = Project::new("FROM BASE\nCOPY . /\n");
    std::fs::File::create(project.join("sparse")).unwrap().set_len(65 << 30).unwrap();
    let started = std::time::Instant::now();
    refused(&farm, &project, &[], &["68719476736", ".dockerignore"]);
    assert!(started.elapsed() < Duration::from_secs(10), "it was read before it was refused");
}

#[test]
fn a_run_that_fails_shows_its_line_its_output_and_its_code() {
    let farm = Farm::start(1);
    let word = unique("fails");
    let project = Project::new(&format!("FROM BASE\nRUN true\nRUN echo {word} && exit 7\n"));
    farm.build(project.path(), &["--platform", &farm.env.native[0].to_string()]).expect(1).says(&[
        &word,
        "exit code: 7",
        "Dockerfile:3",
    ]);
    let record = farm.show(&farm.newest_build().unwrap());
    // The excerpt is what the user wrote, not what the lock made of it.
    let excerpt = record["jobs"][0]["failure"]["detail"].as_str().unwrap();
    assert!(excerpt.contains(&format!("FROM {}\n", farm.env.base.reference)), "{excerpt}");
    let attempts = record["jobs"][0]["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1, "a user's own failure is never tried again: {record:#}");
    assert_eq!(attempts[0]["failure"]["exit_code"], 7);
}

#[test]
fn unknown_builds() {
    let farm = Farm::start(0);
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for command in [["show", id], ["logs", id], ["cancel", id]] {
        farm.run(&command).expect(1).says(&[id]);
    }
    farm.run(&["show", "not-an-id"]).expect(2).says(&["not-an-id"]);
    let status = block_on(async {
        let mut builds = BuildServiceClient::new(client::connect(&farm).await);
        builds.get_build(proto::GetBuildRequest { build_id: id.to_owned() }).await.unwrap_err()
    });
    assert_eq!(status.code(), Code::NotFound);
}

#[test]
fn messages_that_are_malformed_or_too_large() {
    let farm = Farm::start(0);
    let (empty, large) = block_on(async {
        let mut builds = BuildServiceClient::new(client::connect(&farm).await);
        let empty = builds.submit_build(proto::SubmitBuildRequest::default()).await.unwrap_err();
        let plan = proto::Plan { dockerfile_name: "x".repeat(5 << 20), ..Default::default() };
        let request =
            proto::SubmitBuildRequest { request_id: "r".to_owned(), plan: Some(plan), ..Default::default() };
        (empty, builds.submit_build(request).await.unwrap_err())
    });
    assert_eq!(empty.code(), Code::InvalidArgument, "{empty:?}");
    assert!(matches!(large.code(), Code::OutOfRange | Code::ResourceExhausted), "{large:?}");
    let malformed = block_on(client::call_with_bytes(
        &farm,
        "/archyard.v1.BuildService/GetBuild",
        vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
    ));
    assert!(matches!(malformed.code(), Code::InvalidArgument | Code::Internal), "{malformed:?}");
    assert_eq!(farm.newest_build(), None);
}

#[test]
fn a_farm_that_is_not_there() {
    let farm = Farm::start(0);
    let outcome =
        finish(farm.command().args(["workers"]).env("ARCHYARD_FARM", "unix:/nowhere/s.sock")).expect(3);
    assert!(outcome.stderr.contains("/nowhere/s.sock"), "{}", outcome.stderr);
}

#[test]
fn a_platform_no_worker_runs_waits_and_says_so() {
    let farm = Farm::start(1);
    let platform = farm.env.foreign[0].to_string();
    let project = Project::new("FROM BASE\nCOPY Dockerfile /\n");
    let out = tempfile::tempdir().unwrap();
    let mut client = farm.start_build(project.path(), &["--platform", &platform], out.path());
    let wanted = format!("no native worker for {platform}");
    wait_for("the wait is told", PATIENCE, || {
        std::fs::read_to_string(out.path().join("stderr")).unwrap_or_default().contains(&wanted).then_some(())
    });
    let build = farm.newest_build().unwrap();
    farm.run(&["cancel", &build]).expect(0);
    assert_eq!(client.wait().unwrap().code(), Some(130));
}
