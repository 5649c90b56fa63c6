//! `archyard show` lists what a build left for its client, and until when it is there.

use archyard_tests::farm::PATIENCE;
use archyard_tests::process::{self, wait_for};
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};
use serde_json::Value;

use super::{names, native, speaking, to};

/// A build that has succeeded, and whose client was killed before it could fetch anything.
fn left_behind(farm: &Farm, output: &str) -> String {
    let marker = unique("listed");
    let project = Project::new(&format!("FROM BASE\nRUN sleep 3; echo {marker}\n"));
    let logs = tempfile::tempdir().unwrap();
    let platforms = native(farm);
    let args = ["--platform", &platforms, "-o", output];
    let mut client = farm.start_build(project.path(), &args, logs.path());
    wait_for("the RUN starts", PATIENCE, || process::with_marker(&marker).first().copied());
    client.kill().unwrap();
    client.wait().unwrap();
    let build = farm.newest_build().unwrap();
    wait_for("the build ends", PATIENCE, || (farm.show(&build)["state"] == "succeeded").then_some(()));
    build
}

fn artifacts(record: &Value) -> &[Value] {
    record["artifacts"].as_array().unwrap()
}

/// What `archyard show` prints has all of this.
fn shows(farm: &Farm, build: &str, parts: &[&str]) {
    let shown = farm.run(&["show", build]).expect(0).stdout;
    for part in parts {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
}

#[test]
fn what_waits_for_its_client_is_listed_until_it_was_fetched() {
    let farm = Farm::start(1);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("image.tar");
    let build = left_behind(&farm, &to("oci", &out));
    let record = farm.show(&build);
    for (job, platform) in farm.env.native.iter().enumerate() {
        let of: Vec<_> =
            artifacts(&record).iter().filter(|left| left["platform"] == *platform.to_string()).collect();
        let blobs = record["jobs"][job]["result"]["artifacts"].as_array().unwrap();
        assert_eq!(of.len(), blobs.len(), "{record:#}");
        for (left, blob) in of.iter().zip(blobs) {
            for field in ["digest", "bytes", "media_type"] {
                assert_eq!(left[field], blob[field]);
            }
            assert_eq!(left["kept"], true);
            // Instants of one form, hours apart.
            assert!(left["kept_until"].as_str() > record["ended_at"].as_str(), "{record:#}");
        }
        let manifest = record["jobs"][job]["result"]["manifest_digest"].as_str().unwrap();
        assert!(of.iter().any(|left| left["digest"] == manifest), "{record:#}");
    }
    let brings = format!("archyard fetch {build} -o OUTPUT brings them");
    let config = record["jobs"][0]["result"]["config_digest"].as_str().unwrap();
    let line = format!("  artifact {config} ");
    shows(&farm, &build, &["artifacts  kept until ", &brings, &line]);

    farm.run(&["fetch", &build, "-o", &to("oci", &out)]).expect(0);
    assert_eq!(names(folder.path()), ["image.tar"]);
    let fetched = wait_for("it is gone", PATIENCE, || {
        let record = farm.show(&build);
        artifacts(&record).iter().all(|left| left["kept"] == false).then_some(record)
    });
    assert_eq!(artifacts(&fetched).len(), artifacts(&record).len(), "what it was is still known");
    assert!(artifacts(&fetched).iter().all(|left| left["kept_until"].is_null()), "{fetched:#}");
    shows(&farm, &build, &["artifacts  gone: they were fetched"]);
}

#[test]
fn files_are_listed_and_a_build_that_left_none_lists_none() {
    let farm = Farm::start(1);
    for (kind, name) in [("tar", "files.tar"), ("local", "files")] {
        let folder = tempfile::tempdir().unwrap();
        let build = left_behind(&farm, &to(kind, &folder.path().join(name)));
        let record = farm.show(&build);
        assert_eq!(artifacts(&record).len(), farm.env.native.len(), "one tar a platform: {record:#}");
        assert!(artifacts(&record).iter().all(|left| left["bytes"].as_u64().unwrap() > 1024));
    }
    farm.build(speaking(&unique("none")).path(), &["--platform", &farm.env.native[0].to_string()]).expect(0);
    let build = farm.newest_build().unwrap();
    assert!(artifacts(&farm.show(&build)).is_empty());
    assert!(!farm.run(&["show", &build]).expect(0).stdout.contains("artifact"));
}
