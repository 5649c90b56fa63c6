//! What the farm hands over is what `docker buildx build` hands over for the same context on the same Engine.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use archyard_tests::differential::{Differential, Times};
use archyard_tests::project::unique;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use xtask::engine::Kind;

fn folder(path: &Path, mode: u32) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn file(path: &Path, content: &str, mode: u32) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn touch(path: &Path, seconds: i64, nanos: i64) {
    let at = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: at, last_modification: at };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Files of several names, links that lead anywhere, and modes that only few use.
fn links_and_modes(tree: &Path) {
    for (name, mode) in [("plain", 0o755), ("setuid", 0o4755), ("setgid", 0o2775), ("sticky", 0o1777)] {
        folder(&tree.join(name), mode);
        file(&tree.join(name).join("file"), name, 0o640);
    }
    for (name, mode) in [("program", 0o4755), ("group", 0o2755), ("none", 0o000), ("all", 0o777)] {
        file(&tree.join(name), name, mode);
    }
    fs::hard_link(tree.join("program"), tree.join("plain/again")).unwrap();
    fs::hard_link(tree.join("program"), tree.join("zzz")).unwrap();
    for (name, target) in [
        ("inside", "plain/file"),
        ("outside", "../../etc/passwd"),
        ("absolute", "/etc"),
        ("broken", "no/such"),
    ] {
        symlink(target, tree.join(name)).unwrap();
    }
    symlink("../program", tree.join("plain/up")).unwrap();
}

/// Folders with nothing in them, empty files, and names that are not plain words.
fn empty_and_named(tree: &Path) {
    folder(&tree.join("empty"), 0o755);
    folder(&tree.join("deep/er/and/deeper"), 0o700);
    file(&tree.join("nothing"), "", 0o644);
    for name in ["with space", "-dash", "ünïcödé", "a\\b", "dot.", "...", "*", "line\nbreak"] {
        file(&tree.join(name), name, 0o644);
    }
    let long = "n".repeat(200);
    folder(&tree.join(&long), 0o755);
    file(&tree.join(&long).join(&long), "longer than a tar's header has room for", 0o644);
}

/// Times of all kinds, on everything that has one.
fn times(tree: &Path) {
    folder(&tree.join("folder"), 0o755);
    for (name, seconds, nanos) in [
        ("zero", 0, 0),
        ("one", 1, 0),
        ("late", 1_700_000_000, 999_999_999),
        ("half", 1_600_000_000, 500_000_000),
    ] {
        file(&tree.join("folder").join(name), name, 0o644);
        touch(&tree.join("folder").join(name), seconds, nanos);
    }
    symlink("zero", tree.join("folder/link")).unwrap();
    touch(&tree.join("folder/link"), 1_500_000_000, 1);
    touch(&tree.join("folder"), 1_400_000_000, 123_456_789);
}

fn alike(kind: Kind, times_are: Times) {
    let on = Differential::on(kind);
    for fill in [links_and_modes, empty_and_named, times] {
        let context = tempfile::tempdir().unwrap();
        let tree = context.path().join("tree");
        folder(&tree, 0o755);
        fill(&tree);
        // A label makes it a build that nothing has cached.
        let dockerfile = format!("FROM scratch\nLABEL unique={}\nCOPY tree /tree\n", unique("alike"));
        fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
        on.assert_alike(context.path(), &[], times_are);
    }
}

#[test]
fn files_are_those_of_buildx_on_20_10() {
    // In a tar of 20.10 the farm's times are a second late where the source has half a second or more.
    alike(Kind::Host, Times::Ignored);
}

#[test]
fn files_are_those_of_buildx_on_28() {
    alike(Kind::SidOverlay, Times::Exact);
}

#[test]
fn files_are_those_of_buildx_on_28_with_containerds_store() {
    alike(Kind::SidContainerd, Times::Exact);
}
