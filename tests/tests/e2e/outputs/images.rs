//! Images: the archive that everybody reads, and `--load`.

use std::process::Command;

use archyard_tests::Farm;
use archyard_tests::farm::finish;
use archyard_tests::project::unique;
use serde_json::Value;
use xtask::engine::Kind;
use xtask::oci;

use super::{docker, kept, native, speaking, to};
use crate::faults::bytes_under;

#[test]
fn an_archive_names_the_index_of_a_push_and_everybody_reads_it() {
    let farm = Farm::start(2);
    let word = unique("archive");
    let project = speaking(&word);
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("image.tar");
    let name = format!("{}/{word}:v1", farm.env.registry);
    let metadata = dir.path().join("metadata.json");
    let build = |output: &str| {
        farm.build(
            project.path(),
            &[
                "--platform",
                &native(&farm),
                "-t",
                &name,
                "-o",
                output,
                "--annotation",
                "index:org.example.word=yes",
                "--annotation",
                "manifest:org.example.of=manifest",
                "--metadata-file",
                metadata.to_str().unwrap(),
            ],
        )
        .expect(0)
    };
    let outcome = build(&to("oci", &archive));
    assert!(outcome.stdout.contains(&format!("archive: {}", archive.display())), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("fetched"), "{}", outcome.stderr);
    assert_eq!(bytes_under(&kept(&farm)), 0, "what was fetched is gone");
    let told: Value = serde_json::from_slice(&std::fs::read(&metadata).unwrap()).unwrap();

    // The very bytes that a push publishes, whichever tool reads them.
    build("type=registry");
    let pushed = oci::get_manifest(&farm.env.registry, &word, "v1").unwrap();
    let source = format!("oci-archive:{}", archive.display());
    let raw = finish(Command::new("skopeo").args(["inspect", "--raw", &source])).expect(0);
    assert_eq!(raw.stdout.as_bytes(), &pushed.bytes[..]);
    assert_eq!(told["containerimage.digest"], oci::digest(&pushed.bytes).as_str());
    for platform in &farm.env.native {
        let arch = platform.json()["architecture"].as_str().unwrap().to_owned();
        let target = format!("oci:{}:x", dir.path().join(&arch).display());
        finish(Command::new("skopeo").args(["--override-arch", &arch, "copy", "-q", &source, &target]))
            .expect(0);
        let config = finish(Command::new("skopeo").args(["inspect", "--config", "--raw", &target])).expect(0);
        let config: Value = serde_json::from_str(&config.stdout).unwrap();
        assert_eq!(config["architecture"], arch.as_str());
    }

    // Again: the same bytes.
    let again = dir.path().join("again.tar");
    build(&to("oci", &again));
    assert_eq!(std::fs::read(&archive).unwrap(), std::fs::read(&again).unwrap());
    let stdout = dir.path().join("stdout.tar");
    finish(
        farm.command()
            .args(["build", "--platform", &native(&farm), "-t", &name, "-o", "type=oci,dest=-"])
            .args(["--annotation", "index:org.example.word=yes"])
            .args(["--annotation", "manifest:org.example.of=manifest"])
            .arg(project.path())
            .stdout(std::fs::File::create(&stdout).unwrap()),
    )
    .expect(0);
    assert_eq!(std::fs::read(&archive).unwrap(), std::fs::read(&stdout).unwrap());

    // And every kind of Engine takes it, under its name.
    let said = format!("{word}-{}", farm.env.native[0].json()["architecture"].as_str().unwrap());
    for kind in Kind::ALL {
        let engine = &farm.env.engine(kind).unwrap().address;
        docker(engine, &["load", "-q", "-i", archive.to_str().unwrap()]).expect(0);
        let ran = docker(engine, &["run", "--rm", &name]).expect(0);
        assert_eq!(ran.stdout.trim(), said, "on {}", kind.name());
        docker(engine, &["rmi", "-f", &name]);
    }
}

#[test]
fn an_image_is_loaded_into_every_kind_of_engine() {
    let farm = Farm::start(2);
    let word = unique("load");
    let project = speaking(&word);
    let name = format!("r.example/{word}:v1");
    let arch = |at: usize| farm.env.native[at].json()["architecture"].as_str().unwrap().to_owned();
    for kind in Kind::ALL {
        let engine = farm.env.engine(kind).unwrap().address.clone();
        let outcome = farm
            .build(
                project.path(),
                &["--platform", &native(&farm), "-t", &name, "--load", "--engine", &engine],
            )
            .expect(0);
        assert!(outcome.stdout.contains(&format!("loaded {}", farm.env.native[0])), "{}", outcome.stdout);
        assert!(outcome.stdout.contains(&name), "{}", outcome.stdout);
        let ran = docker(&engine, &["run", "--rm", &name]).expect(0);
        assert_eq!(ran.stdout.trim(), format!("{word}-{}", arch(0)), "on {}", kind.name());
        if kind.stores_in_containerd() {
            let other = farm.env.native[1].to_string();
            assert!(outcome.stdout.contains(&other), "{}", outcome.stdout);
            let ran = docker(&engine, &["run", "--rm", "--platform", &other, &name]).expect(0);
            assert_eq!(ran.stdout.trim(), format!("{word}-{}", arch(1)));
        }
        docker(&engine, &["rmi", "-f", &name]);
    }
}

#[test]
fn loading_without_this_machines_platform_is_refused_before_anything_is_built() {
    let farm = Farm::start(1);
    let project = speaking(&unique("load"));
    let engine = farm.env.engines[0].address.clone();
    let other = farm.env.native[1].to_string();
    farm.build(project.path(), &["--platform", &other, "--load", "--engine", &engine]).expect(2).says(&[
        "--load",
        &other,
        &format!("--platform {}", farm.env.native[0]),
    ]);
    farm.build(project.path(), &["--load", "--engine", "unix:///nowhere/docker.sock"])
        .expect(3)
        .says(&["/nowhere/docker.sock"]);
    for (output, part) in [("type=oci,dest=/nowhere/x.tar", "/nowhere"), ("type=zip", "type=oci")] {
        farm.build(project.path(), &["-o", output]).expect(2).says(&["--output", part]);
    }
    assert_eq!(farm.newest_build(), None);
}
