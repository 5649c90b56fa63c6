//! `rerun --failed`: the same index as if it had been one build, and no tag goes back.

use archyard_tests::farm::finish;
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};
use xtask::oci;

/// The second platform's step fails the first time that it runs.
fn fails_once(farm: &Farm, marker: &str) -> (Project, String) {
    let platforms = format!("{},{}", farm.env.native[0], farm.env.native[1]);
    let project = Project::new(&format!(
        "FROM BASE\nARG TARGETPLATFORM\nRUN --mount=type=cache,id={marker},target=/c \\\n  \
         [ $TARGETPLATFORM = {} ] || [ -e /c/seen ] || ( touch /c/seen && exit 3 )\n",
        farm.env.native[0]
    ));
    (project, platforms)
}

fn index(farm: &Farm, repository: &str, tag: &str) -> String {
    oci::get_manifest(&farm.env.registry, repository, tag).unwrap().digest
}

#[test]
fn what_a_rerun_completes_is_what_one_clean_build_publishes() {
    let farm = Farm::start(1);
    let marker = unique("rerun-same");
    let (project, platforms) = fails_once(&farm, &marker);
    let tag = |tag: &str| format!("{}/{marker}:{tag}", farm.env.registry);
    farm.build(project.path(), &["--platform", &platforms, "--push", "-t", &tag("rerun")]).expect(1);
    let first = farm.newest_build().unwrap();
    assert!(oci::tags(&farm.env.registry, &marker).map_or(true, |tags| tags.is_empty()));
    farm.run(&["rerun", "--failed", &first]).expect(0);
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["jobs"][0]["carried"], true);
    assert!(record["jobs"][0]["attempts"].as_array().unwrap().is_empty(), "it was built again");
    assert_eq!(record["lock"], farm.show(&first)["lock"]);
    farm.build(project.path(), &["--platform", &platforms, "--push", "-t", &tag("clean")]).expect(0);
    assert_eq!(index(&farm, &marker, "rerun"), index(&farm, &marker, "clean"));
}

#[test]
fn a_rerun_of_an_older_build_leaves_the_newer_ones_tag_alone() {
    let mut farm = Farm::start(1);
    let marker = unique("rerun-old");
    let (project, platforms) = fails_once(&farm, &marker);
    let name = format!("{}/{marker}:1", farm.env.registry);
    farm.build(project.path(), &["--platform", &platforms, "--push", "-t", &name]).expect(1);
    let old = farm.newest_build().unwrap();
    let newer = Project::new(&format!("FROM BASE\nRUN echo {marker}\n"));
    let own = farm.env.native[0].to_string();
    farm.build(newer.path(), &["--platform", &own, "--push", "-t", &name]).expect(0);
    let moved = index(&farm, &marker, "1");
    let newer = farm.newest_build().unwrap();
    // Both builds are archived by now; what is known of the tag outlives the process too.
    farm.kill_scheduler();
    farm.start_scheduler();
    farm.wait_for_workers();
    farm.run(&["rerun", "--failed", &old]).expect(4).says(&["NOT MOVED", &newer]);
    assert_eq!(index(&farm, &marker, "1"), moved, "the tag went back");
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!((&record["state"], &record["tags"][0]["moved"]), (&"superseded".into(), &false.into()));
    assert!(record["tags"][0]["detail"].as_str().unwrap().contains(&newer), "{record:#}");
    let published = record["index"]["digest"].as_str().unwrap();
    assert!(
        oci::get_manifest(&farm.env.registry, &marker, published).is_ok(),
        "its index is there by digest"
    );
}

#[test]
fn an_archive_is_completed_by_what_its_first_build_left() {
    let farm = Farm::start(1);
    let marker = unique("rerun-oci");
    let (project, platforms) = fails_once(&farm, &marker);
    let archive = project.join("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    farm.build(project.path(), &["--platform", &platforms, "-o", &output]).expect(1);
    assert!(!archive.exists());
    farm.run(&["rerun", "--failed", "-o", &output, &farm.newest_build().unwrap()]).expect(0);
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!((&record["jobs"][0]["carried"], &record["jobs"][1]["carried"]), (&true.into(), &false.into()));
    let from = format!("oci-archive:{}", archive.display());
    let raw = finish(std::process::Command::new("skopeo").args(["inspect", "--raw", &from])).expect(0).stdout;
    let index: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{index:#}");
    let copy = format!("dir:{}", project.join("copy").display());
    finish(std::process::Command::new("skopeo").args(["copy", "--all", &from, &copy])).expect(0);
}

#[test]
fn what_cannot_be_built_again_is_refused_in_one_line() {
    let farm = Farm::start(1);
    let project = Project::new("FROM BASE\n");
    let own = farm.env.native[0].to_string();
    farm.build(project.path(), &["--platform", &own]).expect(0);
    let build = farm.newest_build().unwrap();
    let outcome = farm.run(&["rerun", "--failed", &build]).expect(1).says(&[&build, "nothing of it is left"]);
    assert_eq!(outcome.stderr.trim().lines().count(), 1, "{}", outcome.stderr);
}
