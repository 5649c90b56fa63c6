//! Scans of real directories.

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::ErrorKind;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn ignore(text: &str) -> Ignore {
    Ignore::parse(".dockerignore", text.as_bytes()).unwrap()
}

fn plain(root: &Path) -> Result<Snapshot, Error> {
    scan(root, &Ignore::default(), &Inputs::Everything, None)
}

fn chosen(root: &Path, lines: &str) -> Result<Snapshot, Error> {
    scan(root, &ignore(lines), &Inputs::Everything, None)
}

fn part(root: &Path, lines: &str, inputs: &[&str]) -> Result<Snapshot, Error> {
    let inputs = Inputs::of_paths(inputs.iter().map(|path| (*path).to_owned())).unwrap();
    scan(root, &ignore(lines), &inputs, None)
}

fn paths(snapshot: &Snapshot) -> Vec<String> {
    snapshot.manifest.entries().iter().map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect()
}

fn read(snapshot: &Snapshot, blob: BlobSource<'_>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = snapshot.open(blob)?.read_to_end(&mut bytes);
    read.map(|_| bytes).map_err(|error| Error::from_read(error, blob.path))
}

#[test]
fn finds_everything_in_walking_order() {
    let dir = tree(&[("a/z", "1"), ("a/b/c", "2"), ("a-b", "3"), ("a.b", ""), ("big", &"x".repeat(1 << 20))]);
    fs::create_dir(dir.path().join("empty")).unwrap();
    symlink("../../outside", dir.path().join("link")).unwrap();
    fs::hard_link(dir.path().join("a/z"), dir.path().join("b")).unwrap();
    fs::set_permissions(dir.path().join("a-b"), Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(dir.path().join("empty"), Permissions::from_mode(0o1777)).unwrap();
    let snapshot = plain(dir.path()).unwrap();
    assert_eq!(paths(&snapshot), ["a", "a/b", "a/b/c", "a/z", "a-b", "a.b", "b", "big", "empty", "link"]);
    let entry = |path: &str| snapshot.manifest.entries().iter().find(|e| e.path == path.as_bytes()).unwrap();
    assert_eq!(entry("a-b").mode, 0o4751);
    assert_eq!(entry("empty").mode, 0o1777);
    assert_eq!(entry("link").kind, EntryKind::Symlink { target: b"../../outside".to_vec() });
    assert_eq!(entry("b").kind, EntryKind::Hardlink { target: b"a/z".to_vec() });
    for path in ["a/z", "b", "a", "link"] {
        let source = fs::symlink_metadata(dir.path().join(path)).unwrap();
        let (s, ns) = (entry(path).modified_s, entry(path).modified_ns);
        assert_eq!((s, i64::from(ns)), (source.mtime(), source.mtime_nsec()), "{path}");
    }
    assert_eq!((snapshot.reference.files, snapshot.reference.total_bytes), (5, 3 + (1 << 20)));
    for blob in snapshot.blobs() {
        assert_eq!(read(&snapshot, blob).unwrap(), fs::read(dir.path().join(blob.path)).unwrap());
        assert_eq!(snapshot.blob(blob.digest), Some(blob));
    }
    assert_eq!(snapshot.blobs().count(), 5);
}

#[test]
fn equal_contents_are_one_blob() {
    let dir = tree(&[("a", "same"), ("b", "same"), ("c", "other")]);
    let snapshot = plain(dir.path()).unwrap();
    assert_eq!(snapshot.blobs().map(|b| b.path.to_str().unwrap()).collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn the_root_may_be_a_link_but_nothing_in_it_is_followed() {
    let dir = tree(&[("real/f", "1"), ("secret/s", "2")]);
    symlink("real", dir.path().join("root")).unwrap();
    symlink("../secret", dir.path().join("real/sub")).unwrap();
    assert_eq!(paths(&plain(&dir.path().join("root")).unwrap()), ["f", "sub"]);
}

#[test]
fn what_is_brought_back_keeps_its_parents() {
    let dir = tree(&[
        ("docs/a/keep", ""),
        ("docs/a/drop", ""),
        ("docs/b/drop", ""),
        ("src/x", ""),
        ("src/y.md", ""),
    ]);
    let snapshot = chosen(dir.path(), "docs\n!docs/*/keep\n**/*.md\n").unwrap();
    assert_eq!(paths(&snapshot), ["docs", "docs/a", "docs/a/keep", "src", "src/x"]);
    let snapshot = chosen(dir.path(), "*\n!src/**\n").unwrap();
    assert_eq!(paths(&snapshot), ["src", "src/x", "src/y.md"]);
}

#[test]
fn sockets_are_left_out_and_fifos_and_devices_are_kept() {
    let dir = tree(&[("sub/f", "")]);
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("sub/pipe"), 0o640.into()).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let snapshot = plain(dir.path()).unwrap();
    assert_eq!(paths(&snapshot), ["sub", "sub/f", "sub/pipe"]);
    let pipe = snapshot.manifest.entries().last().unwrap();
    assert_eq!((&pipe.kind, pipe.mode), (&EntryKind::Fifo, 0o640));
    // Only root can make one, but all can read its numbers.
    let devices = part(Path::new("/dev"), "", &["null"]).unwrap();
    let null = devices.manifest.entries().first().unwrap();
    assert_eq!(null.kind, EntryKind::Device { block: false, major: 1, minor: 3 });
}

#[test]
fn only_inputs_are_looked_at() {
    let dir = tree(&[("a/x", "1"), ("a/y", "2"), ("b/z", "3"), ("c.go", "4"), ("d/e/f", "5")]);
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    symlink("b/z", dir.path().join("l.go")).unwrap();
    fs::hard_link(dir.path().join("a/x"), dir.path().join("h")).unwrap();
    let found = |lines: &str, inputs: &[&str]| paths(&part(dir.path(), lines, inputs).unwrap());
    assert_eq!(found("", &["a/y", "gone", "gone/too"]), ["a", "a/y"]);
    assert_eq!(found("", &["*.go"]), ["b", "b/z", "c.go", "l.go"]);
    assert_eq!(found("", &["d", "h"]), ["d", "d/e", "d/e/f", "h"]);
    assert_eq!(found("d\n*.go", &["d/e", "l.go", "closed"]), ["b", "b/z", "closed"]);
    assert_eq!(found("d\n!d/e/f", &["d/e"]), ["d", "d/e", "d/e/f"]);
    assert!(found("", &[]).is_empty() && found("", &["d/e/f/g"]).is_empty());
    let snapshot = part(dir.path(), "", &["a/x", "h"]).unwrap();
    assert!(snapshot.reference.partial && snapshot.manifest.inputs().covers("h"));
    assert_eq!(snapshot.reference.files, 1);
}

#[test]
fn a_part_is_another_context_than_the_whole() {
    let dir = tree(&[("a", "1")]);
    let (whole, one) = (plain(dir.path()).unwrap(), part(dir.path(), "", &["a"]).unwrap());
    let two = part(dir.path(), "", &["a", "b"]).unwrap();
    assert_eq!(whole.manifest.entries(), one.manifest.entries());
    assert_eq!(one.manifest.entries(), two.manifest.entries());
    assert!(whole.reference.digest != one.reference.digest && one.reference.digest != two.reference.digest);
}

/// Root reads everything, so a test run by root does this part as someone else.
#[test]
fn unreadable_files_are_refused_unless_ignored() {
    const CHILD: &str = "ARCHYARD_TEST_UNREADABLE";
    if rustix::process::geteuid().is_root() && std::env::var_os(CHILD).is_none() {
        use std::os::unix::process::CommandExt as _;
        let copy = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
        let program = copy.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let name = "context::tests::unreadable_files_are_refused_unless_ignored";
        let status = std::process::Command::new(program)
            .args(["--exact", name])
            .current_dir("/")
            .env(CHILD, "1")
            .uid(65534)
            .gid(65534)
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let dir = tree(&[("f", ""), ("sub/key", "secret"), ("closed/x", "")]);
    for (path, mode) in [("sub/key", 0o000), ("closed", 0o000)] {
        fs::set_permissions(dir.path().join(path), Permissions::from_mode(mode)).unwrap();
    }
    for (lines, path) in [("closed", "sub/key"), ("sub", "closed")] {
        let error = chosen(dir.path(), lines).unwrap_err();
        assert_eq!((error.code(), error.kind()), ("unreadable_file", ErrorKind::Usage));
        assert!(error.to_string().starts_with(&format!("{path}: not readable by this user; ")), "{error}");
    }
    let snapshot = chosen(dir.path(), "sub/key\nclosed\n!closed/y");
    let found = paths(&snapshot.unwrap());
    fs::set_permissions(dir.path().join("closed"), Permissions::from_mode(0o755)).unwrap();
    assert_eq!(found, ["f", "sub"]);
}

#[test]
fn attributes_of_users_are_kept() {
    let dir = tree(&[("f", "")]);
    let file = File::open(dir.path().join("f")).unwrap();
    let set = rustix::fs::fsetxattr(&file, "user.b", b"2", rustix::fs::XattrFlags::empty());
    if set == Err(rustix::io::Errno::NOTSUP) {
        return; // tmpfs of an older kernel
    }
    set.unwrap();
    rustix::fs::fsetxattr(&file, "user.a", &[7; 1000], rustix::fs::XattrFlags::empty()).unwrap();
    let cache = tempfile::tempdir().unwrap();
    std::thread::sleep(Duration::from_millis(150));
    for _ in 0..2 {
        let snapshot = scan(dir.path(), &Ignore::default(), &Inputs::Everything, Some(cache.path())).unwrap();
        let wanted = [("user.a".to_owned(), vec![7; 1000]), ("user.b".to_owned(), b"2".to_vec())];
        assert_eq!(snapshot.manifest.entries()[0].xattrs, wanted);
    }
}

#[test]
fn attributes_of_root_are_kept_and_those_of_overlayfs_refused() {
    let dir = tree(&[("f", "")]);
    let file = File::open(dir.path().join("f")).unwrap();
    let set = |name: &str| rustix::fs::fsetxattr(&file, name, b"1", rustix::fs::XattrFlags::empty());
    if !rustix::process::geteuid().is_root() || set("trusted.a") == Err(rustix::io::Errno::NOTSUP) {
        return; // only root may set or see them
    }
    let scanned = || scan(dir.path(), &Ignore::default(), &Inputs::Everything, None);
    assert_eq!(scanned().unwrap().manifest.entries()[0].xattrs, [("trusted.a".to_owned(), b"1".to_vec())]);
    set("trusted.overlay.opaque").unwrap();
    let error = scanned().unwrap_err();
    assert_eq!(error.code(), "invalid_argument");
    for word in ["f", "trusted.overlay.opaque", ".dockerignore"] {
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_file_changed_before_its_upload_is_noticed() {
    let dir = tree(&[
        ("same", "12345"),
        ("longer", "12345"),
        ("shorter", "12345x"),
        ("gone", "123"),
        ("link", "1"),
    ]);
    let snapshot = plain(dir.path()).unwrap();
    let blob = |path: &str| snapshot.blobs().find(|b| b.path == Path::new(path)).unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("shorter"), "1").unwrap();
    fs::remove_file(path("gone")).unwrap();
    fs::remove_file(path("link")).unwrap();
    symlink("same", path("link")).unwrap();
    for name in ["shorter", "gone", "link"] {
        let error = read(&snapshot, blob(name)).unwrap_err();
        assert_eq!(error.code(), "file_changed", "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    fs::write(path("longer"), "54321").unwrap();
    assert_eq!(read(&snapshot, blob("longer")).unwrap_err().code(), "file_changed");
}

#[test]
fn an_unchanged_tree_is_not_read_again_and_a_changed_one_is() {
    let dir = tree(&[("a", "old!"), ("b/c", "keep")]);
    let cache = tempfile::tempdir().unwrap();
    let scan = || scan(dir.path(), &Ignore::default(), &Inputs::Everything, Some(cache.path())).unwrap();
    let fresh = scan();
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(scan().reference, fresh.reference);
    let saved = fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path();
    let before = fs::metadata(&saved).unwrap().ino();
    assert_eq!(scan().encoded, fresh.encoded);
    assert_eq!(fs::metadata(&saved).unwrap().ino(), before, "nothing new, nothing written");

    // The same name, size and modification time, other bytes.
    let path = dir.path().join("a");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "new!").unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let changed = scan();
    assert_ne!(changed.reference.digest, fresh.reference.digest);
    assert_eq!(plain(dir.path()).unwrap().reference, changed.reference);

    fs::write(&saved, "damaged").unwrap();
    assert_eq!(scan().reference, changed.reference);
}

#[test]
fn what_is_past_a_limit_is_refused_before_it_is_read() {
    let dir = tree(&[("f", "")]);
    let huge = File::options().write(true).open(dir.path().join("f")).unwrap();
    huge.set_len(limits::CONTEXT_BYTES + 1).unwrap();
    let error = plain(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("at most 68719476736 bytes; use a .dockerignore"), "{error}");
}

#[test]
fn a_path_too_long_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let name = "d".repeat(250);
    let mut fd: OwnedFd = File::open(dir.path()).unwrap().into();
    for _ in 0..17 {
        rustix::fs::mkdirat(&fd, &name, 0o755.into()).unwrap();
        fd = open::directory(&fd, Path::new(&name)).unwrap();
    }
    let error = plain(dir.path()).unwrap_err();
    assert!(error.to_string().contains("at most 4096 bytes; shorten it"), "{error}");
}

#[test]
fn a_snapshot_may_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Snapshot>();
    shared::<Error>();
}
