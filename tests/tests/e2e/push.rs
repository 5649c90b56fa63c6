//! `--push`: one OCI index over natively built images, and nothing else in the registry.

use std::process::Command;

use archyard_tests::farm::finish;
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};
use serde_json::Value;
use xtask::oci;
use xtask::registry::OwnRegistry;

use crate::check::native;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
fn one_index_of_two_native_images_under_every_tag() {
    let farm = Farm::start(2);
    let repository = unique("push");
    let registry = farm.env.registry.clone();
    let name = format!("{registry}/{repository}");
    let project = Project::new(&format!(
        "FROM BASE AS build\nRUN uname -m > /machine && echo {repository}\n\
         FROM BASE\nCOPY --from=build /machine /machine\nRUN cat /machine\nLABEL from=dockerfile\nCMD [\"cat\", \"/machine\"]\n"
    ));
    let metadata = project.join("metadata.json");
    let iidfile = project.join("iid");
    let outcome = farm
        .build(
            project.path(),
            &[
                "--platform",
                &native(&farm),
                "--push",
                "-t",
                &format!("{name}:one"),
                "-t",
                &format!("{name}:two"),
                "--label",
                "from.flag=yes",
                "--metadata-file",
                metadata.to_str().unwrap(),
                "--iidfile",
                iidfile.to_str().unwrap(),
            ],
        )
        .expect(0);

    // The index, as the registry has it, is what the build said.
    let index = oci::get_manifest(&registry, &repository, "one").unwrap();
    assert_eq!(index.media_type, INDEX);
    assert_eq!(index.json["mediaType"], INDEX);
    let digest = oci::digest(&index.bytes);
    assert!(outcome.stdout.contains(&digest), "{} does not name {digest}", outcome.stdout);
    assert_eq!(std::fs::read_to_string(iidfile).unwrap().trim(), digest);
    let metadata: Value = serde_json::from_slice(&std::fs::read(metadata).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.digest"], digest);
    let mut tags = oci::tags(&registry, &repository).unwrap();
    tags.sort();
    assert_eq!(tags, ["one", "two"], "a temporary tag was left behind");
    assert_eq!(oci::get_manifest(&registry, &repository, "two").unwrap().bytes, index.bytes);

    // An entry per platform, in the order asked for, each OCI through and through.
    let entries = index.json["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    for (entry, platform) in entries.iter().zip(&farm.env.native) {
        assert_eq!(entry["mediaType"], MANIFEST);
        assert_eq!(entry["platform"], platform.json());
        let manifest = oci::get_manifest(&registry, &repository, entry["digest"].as_str().unwrap()).unwrap();
        assert_eq!(manifest.media_type, MANIFEST);
        assert_eq!(manifest.bytes.len() as u64, entry["size"].as_u64().unwrap());
        let config = &manifest.json["config"];
        assert_eq!(config["mediaType"], "application/vnd.oci.image.config.v1+json");
        let config: Value = serde_json::from_slice(
            &oci::get_blob(&registry, &repository, config["digest"].as_str().unwrap()).unwrap(),
        )
        .unwrap();
        assert_eq!(config["architecture"], platform.json()["architecture"]);
        assert_eq!(config["config"]["Labels"]["from.flag"], "yes");
        assert_eq!(config["config"]["Labels"]["from"], "dockerfile");
        for layer in manifest.json["layers"].as_array().unwrap() {
            assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        }
    }

    // Tools that are not ours agree.
    let raw = finish(Command::new("skopeo").args([
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{name}:one"),
    ]))
    .expect(0);
    assert_eq!(raw.stdout.as_bytes(), index.bytes);
    let engine = &farm.env.engines[0].address;
    for platform in &farm.env.native {
        let docker = |args: &[&str]| {
            finish(
                Command::new("docker").args(["-H", engine]).args(args).env("DOCKER_CONFIG", project.path()),
            )
            .expect(0)
        };
        docker(&["pull", "--platform", &platform.to_string(), &format!("{name}@{digest}")]);
        let ran = docker(&["run", "--rm", "--platform", &platform.to_string(), &format!("{name}@{digest}")]);
        assert!(!ran.stdout.trim().is_empty());
        docker(&["rmi", "-f", &format!("{name}@{digest}")]);
    }
}

#[test]
fn the_same_build_again_gives_the_same_index() {
    let farm = Farm::start(1);
    let repository = unique("again");
    let name = format!("{}/{repository}:latest", farm.env.registry);
    let project = Project::new(&format!("FROM BASE\nRUN echo {repository} > /x\n"));
    let platform = farm.env.native[0].to_string();
    let push = || {
        farm.build(project.path(), &["--platform", &platform, "--push", "-t", &name]).expect(0);
        oci::digest(&oci::get_manifest(&farm.env.registry, &repository, "latest").unwrap().bytes)
    };
    assert_eq!(push(), push());
}

#[test]
fn nothing_is_published_when_one_platform_fails() {
    let farm = Farm::start(2);
    let repository = unique("half");
    let project = Project::new(&format!(
        "FROM BASE\nARG TARGETARCH\nRUN echo {repository} && test $TARGETARCH != {}\n",
        farm.env.native[1].json()["architecture"].as_str().unwrap()
    ));
    let outcome = farm
        .build(
            project.path(),
            &[
                "--platform",
                &native(&farm),
                "--push",
                "-t",
                &format!("{}/{repository}:v1", farm.env.registry),
            ],
        )
        .expect(1);
    assert!(outcome.stderr.contains(&farm.env.native[1].to_string()), "{}", outcome.stderr);
    assert!(
        oci::tags(&farm.env.registry, &repository).map_or(true, |tags| tags.is_empty()),
        "a tag was published"
    );
}

#[test]
fn of_an_image_that_changed_a_little_only_that_is_sent() {
    let registry = OwnRegistry::open().unwrap();
    let farm = Farm::start(1);
    let name = format!("{}/{}:v1", registry.address, unique("little"));
    let project = Project::new("FROM BASE\nCOPY large /large\nCOPY small /small\n");
    project.write("large", unique("large").repeat(50_000).as_bytes());
    let push = |small: &str| {
        project.write("small", unique(small).as_bytes());
        let platform = farm.env.native[0].to_string();
        farm.build(project.path(), &["--platform", &platform, "--push", "-t", &name]).expect(0);
        registry.uploads().unwrap()
    };
    let first = push("one");
    // The base's layer, both files, the config.
    assert_eq!(first, 4);
    // The layer of the small one, and the config that names it.
    assert_eq!(push("two") - first, 2);
}
