//! `promote`: a candidate's very bytes, all of them, or nothing.

use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};
use xtask::oci;

/// A candidate of both native platforms, and where it waits.
fn candidate(farm: &Farm, marker: &str) -> (String, String) {
    let staging = format!("staging-{marker}");
    let project = Project::new(&format!("FROM BASE\nRUN echo {marker} > /marker\n"));
    let platforms = format!("{},{}", farm.env.native[0], farm.env.native[1]);
    let (at, name) =
        (format!("{}/{staging}", farm.env.registry), format!("{}/{marker}:1", farm.env.registry));
    farm.build(project.path(), &["--platform", &platforms, "--candidate", &at, "-t", &name]).expect(0);
    (farm.newest_build().unwrap(), staging)
}

#[test]
fn the_candidates_digests_get_the_tag_and_it_stays_where_it_waited() {
    let farm = Farm::start(1);
    let (registry, marker) = (farm.env.registry.clone(), unique("promote"));
    let (build, staging) = candidate(&farm, &marker);
    let kept = format!("candidate-{}", build.to_lowercase());
    let waiting = oci::get_manifest(&registry, &staging, &kept).unwrap();
    assert!(oci::tags(&registry, &marker).map_or(true, |tags| tags.is_empty()));
    farm.run(&["promote", &build]).expect(0);
    let promoted = oci::get_manifest(&registry, &marker, "1").unwrap();
    assert_eq!(promoted.bytes, waiting.bytes);
    for entry in promoted.json["manifests"].as_array().unwrap() {
        let manifest = oci::get_manifest(&registry, &marker, entry["digest"].as_str().unwrap()).unwrap();
        for layer in manifest.json["layers"].as_array().unwrap() {
            assert!(
                !oci::get_blob(&registry, &marker, layer["digest"].as_str().unwrap()).unwrap().is_empty()
            );
        }
    }
    assert_eq!(oci::tags(&registry, &staging).unwrap(), [kept]);
    let record = farm.show(&farm.newest_build().unwrap());
    assert!(record["jobs"].as_array().unwrap().iter().all(|job| job["carried"] == true), "{record:#}");
}

#[test]
fn a_candidate_whose_manifest_was_collected_is_refused_and_nothing_moves() {
    let farm = Farm::start(1);
    let (registry, marker) = (farm.env.registry.clone(), unique("promote-gone"));
    let (build, staging) = candidate(&farm, &marker);
    let index =
        oci::get_manifest(&registry, &staging, &format!("candidate-{}", build.to_lowercase())).unwrap();
    let gone = index.json["manifests"][1]["digest"].as_str().unwrap();
    oci::delete_manifest(&registry, &staging, gone).unwrap();
    farm.run(&["promote", &build]).expect(1).says(&[
        gone,
        &farm.env.native[1].to_string(),
        "Build the candidate anew",
    ]);
    assert!(oci::tags(&registry, &marker).map_or(true, |tags| tags.is_empty()), "a tag moved");
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["failure"]["code"], "candidate_incomplete", "{record:#}");
}

#[test]
fn what_is_no_whole_candidate_is_refused_in_one_line() {
    let farm = Farm::start(1);
    let marker = unique("promote-not");
    let (own, name) = (farm.env.native[0].to_string(), format!("{}/{marker}:1", farm.env.registry));
    let staging = format!("{}/staging-{marker}", farm.env.registry);
    let broken = Project::new("FROM BASE\nRUN exit 3\n");
    farm.build(broken.path(), &["--platform", &own, "--candidate", &staging, "-t", &name]).expect(1);
    let failed = farm.newest_build().unwrap();
    let good = Project::new("FROM BASE\n");
    farm.build(good.path(), &["--platform", &own]).expect(0);
    let checked = farm.newest_build().unwrap();
    for (build, problem) in [(&failed, "is failed; only one that succeeded"), (&checked, "is no candidate")] {
        let outcome = farm.run(&["promote", "-t", &name, build]).expect(1).says(&[build, problem]);
        assert_eq!(outcome.stderr.trim().lines().count(), 1, "{}", outcome.stderr);
    }
    assert!(oci::tags(&farm.env.registry, &marker).map_or(true, |tags| tags.is_empty()));
}
