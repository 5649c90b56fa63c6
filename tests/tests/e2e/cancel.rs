//! Canceling stops the container, wherever the wish comes from.

use std::time::Duration;

use archyard_tests::farm::PATIENCE;
use archyard_tests::process::{self, wait_for};
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};
use rustix::process::Signal;

#[test]
fn cancel_stops_the_running_container() {
    let farm = Farm::start(1);
    let marker = unique("cancel");
    let project = Project::new(&format!("FROM BASE\nRUN sleep 600; echo {marker}\n"));
    let out = tempfile::tempdir().unwrap();
    let platform = farm.env.native[0].to_string();
    let mut client = farm.start_build(project.path(), &["--platform", &platform], out.path());
    wait_for("the RUN starts", PATIENCE, || process::with_marker(&marker).first().copied());
    let build = farm.newest_build().unwrap();
    farm.run(&["cancel", &build]).expect(0);
    wait_for("the container's process is gone", Duration::from_secs(10), || {
        process::with_marker(&marker).is_empty().then_some(())
    });
    assert_eq!(client.wait().unwrap().code(), Some(130));
    assert_eq!(farm.show(&build)["state"], "canceled");
    wait_for("the slot is free", PATIENCE, || (farm.workers()[0]["used_slots"] == 0).then_some(()));
    farm.run(&["cancel", &build]).expect(1).says(&["canceled"]);
}

#[test]
fn ctrl_c_cancels_and_waits() {
    let farm = Farm::start(1);
    let marker = unique("ctrlc");
    let project = Project::new(&format!("FROM BASE\nRUN sleep 600; echo {marker}\n"));
    let out = tempfile::tempdir().unwrap();
    let platform = farm.env.native[0].to_string();
    let mut client = farm.start_build(project.path(), &["--platform", &platform], out.path());
    wait_for("the RUN starts", PATIENCE, || process::with_marker(&marker).first().copied());
    process::signal(client.id(), Signal::INT);
    assert_eq!(client.wait().unwrap().code(), Some(130));
    assert_eq!(farm.show(&farm.newest_build().unwrap())["state"], "canceled");
    assert!(process::with_marker(&marker).is_empty());
}
