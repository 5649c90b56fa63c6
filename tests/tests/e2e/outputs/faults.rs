//! Full disks, bounds, and clients and schedulers that go away.

use std::process::Command;
use std::time::Duration;

use archyard_tests::farm::{PATIENCE, finish};
use archyard_tests::process::{self, wait_for};
use archyard_tests::project::unique;
use archyard_tests::{Coordinates, Farm, Project};

use super::{kept, large, names, to};
use crate::faults::{SmallDisk, bytes_under};

#[test]
fn a_full_disk_on_worker_or_scheduler_is_said_and_nothing_stays() {
    let platform = Coordinates::from_env().unwrap().native[0].to_string();
    let dir = tempfile::tempdir().unwrap();
    // Large by what the build itself makes: the context is small.
    let project = Project::new(&format!(
        "FROM BASE\nRUN echo {} && dd if=/dev/urandom of=/big bs=1M count=64\n",
        unique("full")
    ));
    let small = Project::new(&format!("FROM BASE\nRUN echo {}\n", unique("small")));
    for on_worker in [true, false] {
        let disk = SmallDisk::new("48m");
        let data_dir = ["--data-dir", disk.path().to_str().unwrap()];
        let farm = match on_worker {
            true => Farm::with(1, &[], &[&["--slots", "1", "--min-free", "0B"], &data_dir[..]].concat()),
            false => Farm::with(1, &data_dir, &["--slots", "1"]),
        };
        for kind in ["oci", "tar"] {
            let out = dir.path().join(format!("{kind}.tar"));
            let args = ["--platform", &platform, "-o", &to(kind, &out)];
            let outcome = farm.build(project.path(), &args).expect(1);
            assert!(outcome.stderr.contains("disk is full"), "{}", outcome.stderr);
            assert!(!out.exists(), "something was written");
            let record = farm.show(&farm.newest_build().unwrap());
            let attempts = record["jobs"][0]["attempts"].as_array().unwrap();
            assert!(attempts.iter().all(|attempt| attempt["failure"]["code"] == "disk_full"), "{record:#}");
            // Nothing stays behind: a small build fits.
            farm.build(small.path(), &args).expect(0);
            std::fs::remove_file(&out).unwrap();
        }
    }
}

#[test]
fn what_does_not_fit_into_the_schedulers_bound_is_refused_in_one_line() {
    let farm = Farm::with(1, &["--artifacts-size", "1MB"], &["--slots", "1"]);
    let project = large(&unique("bound"), 4 << 20);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("image.tar");
    let platform = farm.env.native[0].to_string();
    farm.build(project.path(), &["--platform", &platform, "-o", &to("oci", &out)])
        .expect(1)
        .says(&["--artifacts-size", "1000000"]);
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["failure"]["code"], "artifacts_full", "{record:#}");
    assert!(!out.exists());
}

#[test]
fn a_client_that_goes_away_during_its_download_leaves_nothing_and_may_come_back() {
    let farm = Farm::start(1);
    let project = large(&unique("download"), 256 << 20);
    let platform = farm.env.native[0].to_string();
    for (kind, signal, code) in [
        ("oci", rustix::process::Signal::KILL, None),
        ("oci", rustix::process::Signal::INT, Some(130)),
        ("local", rustix::process::Signal::INT, Some(130)),
    ] {
        let (dir, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let out = dir.path().join("out");
        let args = ["--platform", &platform, "-o", &to(kind, &out)];
        let mut client = farm.start_build(project.path(), &args, logs.path());
        let stderr = || std::fs::read_to_string(logs.path().join("stderr")).unwrap_or_default();
        wait_for("the download is under way", PATIENCE, || stderr().contains("fetching").then_some(()));
        process::signal(client.id(), signal);
        assert_eq!(client.wait().unwrap().code(), code, "{}", stderr());
        assert!(names(dir.path()).is_empty(), "{:?} stayed of {kind}", names(dir.path()));

        let build = farm.newest_build().unwrap();
        assert_eq!(farm.show(&build)["state"], "succeeded");
        farm.run(&["fetch", &build, "-o", &to(kind, &out)]).expect(0);
        match kind {
            "oci" => assert!(out.metadata().unwrap().len() > 256 << 20),
            _ => assert_eq!(out.join("big").metadata().unwrap().len(), 256 << 20),
        }
        farm.run(&["fetch", &build, "-o", &to(kind, &out)]).expect(1).says(&["build again"]);
    }
}

#[test]
fn a_scheduler_that_dies_during_the_handover_costs_no_attempt() {
    let mut farm = Farm::start(1);
    let project = large(&unique("upload"), 256 << 20);
    let (dir, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let out = dir.path().join("image.tar");
    let platform = farm.env.native[0].to_string();
    let args = ["--platform", &platform, "-o", &to("oci", &out)];
    let mut client = farm.start_build(project.path(), &args, logs.path());
    for _ in 0..2 {
        let incoming = kept(&farm).join("blobs/incoming");
        wait_for("the upload is under way", PATIENCE, || (bytes_under(&incoming) > 4 << 20).then_some(()));
        farm.kill_scheduler();
        farm.start_scheduler();
    }
    assert_eq!(
        client.wait().unwrap().code(),
        Some(0),
        "{}",
        std::fs::read_to_string(logs.path().join("stderr")).unwrap()
    );
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["jobs"][0]["attempts"].as_array().unwrap().len(), 1, "{record:#}");
    let source = format!("oci-archive:{}", out.display());
    finish(Command::new("skopeo").args(["inspect", &source])).expect(0);
    wait_for("what was fetched is gone", PATIENCE, || (bytes_under(&kept(&farm)) == 0).then_some(()));
}

#[test]
fn what_nobody_fetches_goes_after_its_time() {
    let mut farm = Farm::with(1, &["--artifacts-kept", "3s"], &["--slots", "1"]);
    let marker = unique("kept");
    let project = Project::new(&format!("FROM BASE\nRUN sleep 3; echo {marker}\n"));
    let logs = tempfile::tempdir().unwrap();
    let platform = farm.env.native[0].to_string();
    let mut client = farm.start_build(
        project.path(),
        &["--platform", &platform, "-o", "type=oci,dest=/dev/null"],
        logs.path(),
    );
    wait_for("the RUN starts", PATIENCE, || process::with_marker(&marker).first().copied());
    client.kill().unwrap();
    client.wait().unwrap();
    let build = farm.newest_build().unwrap();
    wait_for("the build ends", PATIENCE, || (farm.show(&build)["state"] == "succeeded").then_some(()));
    assert!(bytes_under(&kept(&farm)) > 0, "it was not kept");
    // A restart changes nothing of it.
    farm.kill_scheduler();
    farm.start_scheduler();
    wait_for("it goes", Duration::from_secs(20), || (bytes_under(&kept(&farm)) == 0).then_some(()));
    farm.run(&["fetch", &build, "-o", "type=oci,dest=/dev/null"]).expect(1).says(&["build again"]);
}
