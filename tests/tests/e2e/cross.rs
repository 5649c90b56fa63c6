//! `--cross`: built elsewhere, said so, and never run.

mod emulated;

use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};
use xtask::images::{Entry, Image, tar};
use xtask::oci;

#[test]
fn a_cross_build_says_so_in_record_and_index() {
    let farm = Farm::start(1);
    let (own, foreign) = (farm.env.native[0].to_string(), farm.env.foreign[0].to_string());
    let repository = unique("cross-index");
    let name = format!("{}/{repository}:1", farm.env.registry);
    let project = Project::new(&format!(
        "FROM --platform=$BUILDPLATFORM BASE AS build\nRUN echo {repository} > /made\n\
         FROM BASE\nCOPY --from=build /made /made\n"
    ));
    let platforms = format!("{own},{foreign}");
    farm.build(
        project.path(),
        &["--platform", &platforms, "--cross", &foreign, "--push", "-t", &name, "--smoke-test", "true"],
    )
    .expect(0);
    let index = oci::get_manifest(&farm.env.registry, &repository, "1").unwrap().json;
    assert_eq!(index["annotations"]["archyard.cross"], foreign.as_str(), "{index:#}");
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries[0]["annotations"]["archyard.cross"], serde_json::Value::Null);
    assert_eq!(entries[1]["annotations"]["archyard.cross"], own.as_str());
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(
        (&record["jobs"][0]["cross"], &record["jobs"][1]["cross"]),
        (&().into(), &own.as_str().into())
    );
}

#[test]
fn where_a_native_worker_is_known_nothing_is_cross() {
    let farm = Farm::start(1);
    let own = farm.env.native[1].to_string();
    let repository = unique("cross-native");
    let name = format!("{}/{repository}:1", farm.env.registry);
    let project = Project::new(&format!("FROM BASE\nLABEL marker={repository}\n"));
    farm.build(project.path(), &["--platform", &own, "--cross", &own, "--push", "-t", &name]).expect(0);
    let index = oci::get_manifest(&farm.env.registry, &repository, "1").unwrap().json;
    assert_eq!(index["annotations"], serde_json::Value::Null);
}

#[test]
fn a_bases_trigger_that_would_run_there_fails_by_its_own_name() {
    let farm = Farm::start(1);
    let foreign = farm.env.foreign[0].clone();
    let repository = unique("base/onbuild");
    // What a kernel of another machine sees of any of its programs.
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(16, 0);
    program.extend_from_slice(&[2, 0, 183, 0, 1, 0, 0, 0]);
    program.resize(64, 0);
    let mut base = Image::new(&foreign, tar(&[("bin/sh", Entry::File(0o755, &program))]).unwrap());
    base.config["config"]["OnBuild"] = serde_json::json!(["RUN true"]);
    oci::push_index(&farm.env.registry, &repository, "1", &[base]).unwrap();
    let project = Project::new(&format!("FROM {}/{repository}:1\nCOPY Dockerfile /\n", farm.env.registry));
    let foreign = foreign.to_string();
    farm.build(project.path(), &["--platform", &foreign, "--cross", &foreign]).expect(1).says(&[
        "Dockerfile:1:",
        "ONBUILD RUN true",
        &foreign,
        "leave out --cross",
    ]);
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["failure"]["code"], "cross_run", "{record:#}");
    assert_eq!(record["jobs"][0]["attempts"], serde_json::json!([]), "a worker was asked");
}
