//! Modification times: in steps, in folders and in tars they are those that docker gives on the same Engine.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;

use archyard_tests::farm::{Outcome, finish};
use archyard_tests::project::unique;
use archyard_tests::{Coordinates, Farm, Project, client};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, setxattr, utimensat};
use xtask::engine::Kind;

use crate::check::block_on;

/// Names below the context, and their times.
const TIMES: &[(&str, i64, i64)] = &[
    ("third", 1_700_000_000, 3),
    ("first", 1_700_000_000, 1),
    ("second", 1_700_000_000, 2),
    ("late", 1_700_000_000, 700_000_000),
    ("epoch", 0, 0),
    ("before", -2, 750_000_000),
    // Beyond what BuildKit's protocol holds.
    ("far", 10_413_792_000, 0),
    ("link", 1_000_000_000, 999_999_999),
    ("d/inner", 1_100_000_000, 123_456_789),
];

/// A folder with files of all these times, and what a build of it says of them.
fn project() -> Project {
    let names = TIMES.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(" ");
    let project = Project::new(&format!(
        "FROM BASE AS said\nCOPY . /c\nRUN cd /c && stat -c '%n %y' {names} hard # {}\n\
         FROM scratch\nCOPY . /c\n",
        unique("times")
    ));
    for (name, ..) in TIMES.iter().filter(|(name, ..)| *name != "link") {
        project.write(name, name.as_bytes());
    }
    symlink("first", project.join("link")).unwrap();
    std::fs::hard_link(project.join("third"), project.join("hard")).unwrap();
    for (name, seconds, nanoseconds) in TIMES {
        let time = Timespec { tv_sec: *seconds, tv_nsec: *nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, project.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    project
}

/// Docker's own command line on this Engine, with BuildKit.
fn docker(engine: &str, project: &Project, args: &[&str]) -> Outcome {
    let mut command = Command::new("/usr/bin/docker");
    command.env("DOCKER_HOST", engine).env("DOCKER_BUILDKIT", "1").args(["build", "--progress", "plain"]);
    finish(command.args(args).arg(project.path())).expect(0)
}

/// Names and times in a folder, less those of folders: every Engine makes folders anew.
fn folder(root: &Path) -> BTreeMap<String, (i64, i64)> {
    let mut names: Vec<&str> = TIMES.iter().map(|(name, ..)| *name).collect();
    names.push("hard");
    let of = |name: &str| {
        let found = root.join("c").join(name).symlink_metadata().unwrap();
        (name.to_owned(), (found.mtime(), found.mtime_nsec()))
    };
    names.into_iter().map(of).collect()
}

/// Names and times in a tar, as a reader of it that knows PAX sees them.
fn tar(path: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut time = entry.header().mtime().unwrap().to_string();
        for record in entry.pax_extensions().unwrap().into_iter().flatten().map(Result::unwrap) {
            if record.key() == Ok("mtime") {
                time = record.value().unwrap().to_owned();
            }
        }
        if !name.ends_with('/') {
            found.insert(name, time);
        }
    }
    found
}

fn times_are_dockers(kind: Kind) {
    let env = Coordinates::from_env().unwrap();
    let engine = env.engine(kind).unwrap().address.clone();
    let farm = Farm::on(vec![engine.clone()], &[], &["--slots", "1"]);
    let (project, dir) = (project(), tempfile::tempdir().unwrap());
    let platform = farm.env.native[0].to_string();

    farm.build(project.path(), &["--platform", &platform, "--target", "said"]).expect(0);
    let log = block_on(client::log(&farm, &farm.newest_build().unwrap(), 0));
    let ours = client::output(&client::frames(&log));
    for (name, fraction) in [("first", "000000001"), ("second", "000000002"), ("third", "000000003")] {
        assert!(ours.contains(&format!("{name} 2023-11-14 22:13:20.{fraction} ")), "{ours}");
    }
    assert!(ours.contains("epoch 1970-01-01 00:00:00.000000000"), "{ours}");
    let theirs = docker(&engine, &project, &["--target", "said", "--no-cache"]);
    for line in ours.lines() {
        assert!(theirs.stderr.contains(line) || theirs.stdout.contains(line), "{line}\n{}", theirs.stderr);
    }

    let at = |name: &str| dir.path().join(name);
    let to = |kind: &str, name: &str| format!("type={kind},dest={}", at(name).display());
    farm.build(project.path(), &["--platform", &platform, "-o", &to("local", "ours")]).expect(0);
    docker(&engine, &project, &["-o", &to("local", "theirs")]);
    assert_eq!(folder(&at("ours")), folder(&at("theirs")));
    for (name, seconds, nanoseconds) in TIMES.iter().filter(|(name, ..)| *name != "far") {
        assert_eq!(folder(&at("ours"))[*name], (*seconds, *nanoseconds), "{name}");
    }

    farm.build(project.path(), &["--platform", &platform, "-o", &to("tar", "ours.tar")]).expect(0);
    docker(&engine, &project, &["-o", &to("tar", "theirs.tar")]);
    assert_eq!(tar(&at("ours.tar")), tar(&at("theirs.tar")));
}

#[test]
fn times_are_dockers_on_20_10() {
    times_are_dockers(Kind::Host);
}

#[test]
fn times_are_dockers_on_26_1_with_containerds_store() {
    times_are_dockers(Kind::Debian13Containerd);
}

#[test]
fn attributes_of_root_reach_a_folder() {
    let farm = Farm::start(1);
    let platform = farm.env.native[0].to_string();
    let project = Project::new("FROM scratch\nCOPY f /f\n").file("f", &unique("trusted"));
    for name in ["trusted.archyard", "user.archyard"] {
        setxattr(project.join("f"), name, b"kept", XattrFlags::empty()).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    farm.build(project.path(), &["--platform", &platform, "-o", out.to_str().unwrap()]).expect(0);
    for name in ["trusted.archyard", "user.archyard"] {
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(out.join("f"), name, &mut value).unwrap();
        assert_eq!(&value[..length], b"kept", "{name}");
    }
    // An image does not keep it, and the build says so.
    let image = ["--platform", &platform, "--data-only"];
    farm.build(project.path(), &image).expect(0).says(&["trusted.archyard"]);
    setxattr(project.join("f"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    farm.build(project.path(), &image).expect(2).says(&["trusted.overlay.opaque"]);
}
