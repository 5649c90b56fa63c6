//! Engines newer than the host's: each works, or refuses in one line.

use archyard_tests::project::unique;
use archyard_tests::{Farm, Project, client};
use xtask::engine::Kind;
use xtask::oci;

use crate::check::block_on;

fn farm_on(kind: Kind) -> Farm {
    let env = archyard_tests::Coordinates::from_env().unwrap();
    Farm::on(vec![env.engine(kind).unwrap().address.clone()], &[], &["--slots", "1"])
}

/// Builds what runs a step, fails where it should, and is named by its version.
fn checks(kind: Kind) {
    let farm = farm_on(kind);
    let engine = farm.workers()[0]["engine"].as_str().unwrap().to_owned();
    assert!(engine.contains("26.1"), "{engine}");
    let platform = farm.env.native[0].to_string();
    let word = unique("newer");
    let project = Project::new("FROM BASE\nCOPY word /word\nRUN cat /word && uname -m\n").file("word", &word);
    farm.build(project.path(), &["--platform", &platform]).expect(0);
    let build = farm.newest_build().unwrap();
    assert!(client::output(&client::frames(&block_on(client::log(&farm, &build, 0)))).contains(&word));
    let project = Project::new(&format!("FROM BASE\nRUN echo {word}; exit 9\n"));
    farm.build(project.path(), &["--platform", &platform]).expect(1).says(&[
        "Dockerfile:2",
        "exit code: 9",
        &word,
    ]);
}

#[test]
fn engine_26_builds() {
    checks(Kind::Debian13Overlay);
}

#[test]
fn engine_26_with_containerd_store_builds() {
    checks(Kind::Debian13Containerd);
}

#[test]
fn every_engine_pushes_the_very_same_kind_of_image() {
    let repository = unique("engine");
    let project = Project::new(&format!("FROM BASE\nRUN echo {repository} > /x\n"));
    let pushed: Vec<_> = [Kind::Host, Kind::Debian13Overlay, Kind::Debian13Containerd]
        .into_iter()
        .map(|kind| {
            let farm = farm_on(kind);
            let name = format!("{}/{repository}:{}", farm.env.registry, kind.name());
            let platform = farm.env.native[0].to_string();
            farm.build(project.path(), &["--platform", &platform, "--push", "-t", &name]).expect(0);
            let index = oci::get_manifest(&farm.env.registry, &repository, kind.name()).unwrap();
            let digest = index.json["manifests"][0]["digest"].as_str().unwrap().to_owned();
            let manifest = oci::get_manifest(&farm.env.registry, &repository, &digest).unwrap();
            let types: Vec<String> = std::iter::once(&manifest.json["config"])
                .chain(manifest.json["layers"].as_array().unwrap())
                .map(|part| part["mediaType"].as_str().unwrap().to_owned())
                .collect();
            // The base is the same on all of them, so its layer is.
            (index.media_type, manifest.media_type, types, manifest.json["layers"][0].clone())
        })
        .collect();
    assert!(pushed.iter().all(|one| *one == pushed[0]), "{pushed:#?}");
}
