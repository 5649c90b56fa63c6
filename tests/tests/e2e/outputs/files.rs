//! Files: what is in the image, and nothing else, as a tar and below a folder.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use archyard_tests::project::unique;
use archyard_tests::{Coordinates, Farm, Project, client};
use xtask::engine::Kind;
use xtask::oci;

use super::{docker, files, names, native, to};
use crate::check::block_on;

/// What a tar says of each path, and its time; less what the Engine itself puts into a container.
fn listed(tar: &Path) -> BTreeMap<String, (String, u64)> {
    let mut found = BTreeMap::new();
    let mut archive = tar::Archive::new(std::fs::File::open(tar).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8_lossy(&entry.path_bytes()).trim_matches(['.', '/']).to_owned();
        let of_engine = [".dockerenv", "dockerenv", "dev", "proc", "sys", "etc"];
        let ours = path.split('/').next().is_none_or(|first| !of_engine.contains(&first));
        if path.is_empty() || !ours {
            continue;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        let link =
            entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).trim_matches('/').to_owned());
        let text = format!(
            "{:?} {:o} {}:{} {link:?} {}",
            header.entry_type(),
            header.mode().unwrap() & 0o7777,
            header.uid().unwrap(),
            header.gid().unwrap(),
            oci::digest(&content),
        );
        found.insert(path, (text, header.mtime().unwrap()));
    }
    found
}

/// What `docker export` gives of a build's image.
fn exported(farm: &Farm, project: &Project, platform: &str, dir: &Path) -> PathBuf {
    let engine = farm.env.engines[0].address.clone();
    let name = format!("r.example/{}:v1", unique("export"));
    let archive = dir.join("image.tar");
    farm.build(project.path(), &["--platform", platform, "-t", &name, "-o", &to("oci", &archive)]).expect(0);
    docker(&engine, &["load", "-q", "-i", archive.to_str().unwrap()]).expect(0);
    let container = docker(&engine, &["create", &name, "sh"]).expect(0).stdout.trim().to_owned();
    let export = dir.join("export.tar");
    docker(&engine, &["export", "-o", export.to_str().unwrap(), &container]).expect(0);
    docker(&engine, &["rm", &container]);
    docker(&engine, &["rmi", "-f", &name]);
    export
}

/// The tar of a build on an Engine is what the Engine exports of its image.
fn tar_is_the_image(kind: Kind) {
    let env = Coordinates::from_env().unwrap();
    let farm = Farm::on(vec![env.engine(kind).unwrap().address.clone()], &[], &["--slots", "1"]);
    let (project, dir) = (files(), tempfile::tempdir().unwrap());
    let platform = farm.env.native[0].to_string();
    let tar = dir.path().join("files.tar");
    farm.build(project.path(), &["--platform", &platform, "-o", &to("tar", &tar)]).expect(0);
    let (ours, theirs) = (listed(&tar), listed(&exported(&farm, &project, &platform, dir.path())));
    assert!(ours.contains_key("a/b/deep") && ours.contains_key("bin/busybox"), "{ours:#?}");
    for (path, (what, time)) in &theirs {
        let (our_what, our_time) = &ours[path];
        assert_eq!(our_what, what, "{path}");
        // BuildKit rounds to whole seconds where the Engine cuts.
        assert!(our_time.abs_diff(*time) <= 1, "{path}: {our_time} and {time}");
    }
    assert_eq!(ours.len(), theirs.len());

    // Without the cache too it is what was built, and was inspected, and nothing of before or after.
    farm.build(project.path(), &["--platform", &platform, "--no-cache", "-o", &to("tar", &tar)]).expect(0);
    let log = block_on(client::log(&farm, &farm.newest_build().unwrap(), 0));
    let said = client::output(&client::frames(&log));
    assert_eq!(said.lines().count(), 1, "it ran more than once: {said}");
    assert!(listed(&tar)["once"].0.ends_with(&oci::digest(said.as_bytes())), "{said}");
}

#[test]
fn a_tar_is_what_the_engine_exports_on_20_10() {
    tar_is_the_image(Kind::Host);
}

#[test]
fn a_tar_is_what_the_engine_exports_on_26_1() {
    tar_is_the_image(Kind::Debian13Overlay);
}

#[test]
fn a_tar_is_what_the_engine_exports_on_26_1_with_containerds_store() {
    tar_is_the_image(Kind::Debian13Containerd);
}

#[test]
fn a_tar_is_what_the_engine_exports_on_28() {
    tar_is_the_image(Kind::SidOverlay);
}

#[test]
fn a_tar_is_what_the_engine_exports_on_28_with_containerds_store() {
    tar_is_the_image(Kind::SidContainerd);
}

#[test]
fn files_of_two_platforms_lie_in_a_folder_each_and_what_was_there_stays() {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
    let farm = Farm::start(2);
    let (project, dir) = (files(), tempfile::tempdir().unwrap());
    let out = dir.path().join("out");
    std::fs::create_dir_all(out.join("linux_amd64")).unwrap();
    std::fs::write(out.join("linux_amd64/mine"), "kept").unwrap();
    std::fs::write(out.join("other"), "kept").unwrap();
    let folders: Vec<String> = farm.env.native.iter().map(|p| p.to_string().replace('/', "_")).collect();
    for _ in 0..2 {
        let outcome = farm
            .build(project.path(), &["--platform", &native(&farm), "-o", out.to_str().unwrap()])
            .expect(0);
        assert!(outcome.stdout.contains(&format!("files: {}", out.display())), "{}", outcome.stdout);
    }
    for (folder, platform) in folders.iter().zip(&farm.env.native) {
        let root = out.join(folder);
        let of = std::fs::read_to_string(root.join("of")).unwrap();
        assert!(of.trim().ends_with(platform.json()["architecture"].as_str().unwrap()), "{of}");
        let deep = root.join("a/b/deep").metadata().unwrap();
        assert_eq!((deep.permissions().mode() & 0o7777, deep.uid(), deep.gid()), (0o4755, 7, 8));
        assert_eq!(root.join("a").metadata().unwrap().permissions().mode() & 0o7777, 0o1777);
        assert_eq!(root.join("a/hard").metadata().unwrap().ino(), root.join("of").metadata().unwrap().ino());
        assert_eq!(std::fs::read_link(root.join("a/soft")).unwrap(), Path::new("../of"));
        assert!(root.join("a/fifo").symlink_metadata().unwrap().file_type().is_fifo());
    }
    assert_eq!(std::fs::read(out.join("linux_amd64/mine")).unwrap(), b"kept");
    assert_eq!(std::fs::read(out.join("other")).unwrap(), b"kept");
    assert!(!names(&out).iter().any(|name| name.starts_with('.')), "{:?}", names(&out));

    let tar = dir.path().join("both.tar");
    farm.build(project.path(), &["--platform", &native(&farm), "-o", &to("tar", &tar)]).expect(0);
    let listed = listed(&tar);
    for folder in &folders {
        assert!(listed.contains_key(&format!("{folder}/a/b/deep")), "{listed:#?}");
        // One of the two names is the file, the other a link to it; which, BuildKit says.
        let (hard, of) = (format!("{folder}/a/hard"), format!("{folder}/of"));
        assert!(listed[&hard].0.contains(&of) || listed[&of].0.contains(&hard), "{listed:#?}");
    }
}
