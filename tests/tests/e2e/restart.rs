//! SIGKILL to the scheduler and to the agent, ten times each, while a `RUN` goes on: the same process, one result,
//! the whole log.

use std::time::{Duration, Instant};

use archyard_tests::farm::PATIENCE;
use archyard_tests::process::{self, wait_for};
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project, client};

use crate::check::block_on;

#[test]
fn a_run_outlives_scheduler_and_agent() {
    let mut farm = Farm::start(1);
    let marker = unique("restart");
    let project = Project::new(&format!(
        "FROM BASE\nRUN for i in $(seq 1 60); do echo tick-$i-; sleep 0.5; done; echo {marker} > /done\n"
    ));
    let out = tempfile::tempdir().unwrap();
    let platform = farm.env.native[0].to_string();
    let mut client = farm.start_build(project.path(), &["--platform", &platform], out.path());
    let pid = wait_for("the RUN starts", PATIENCE, || {
        process::with_marker(&marker).into_iter().find(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"/bin/sh\0-c"))
        })
    });
    let started = Instant::now();
    let build = farm.newest_build().unwrap();

    for round in 1..=10 {
        farm.kill_scheduler();
        std::thread::sleep(Duration::from_millis(150));
        farm.start_scheduler();
        farm.kill_agent(0);
        std::thread::sleep(Duration::from_millis(150));
        farm.start_agent(0);
        farm.wait_for_workers();
        assert!(process::is_alive(pid), "round {round}: the RUN's process {pid} is gone\n{}", farm.logs());
    }
    let survived = started.elapsed();
    assert!(survived < Duration::from_secs(29), "ten rounds took {survived:?}, longer than the RUN");

    // The client noticed, waited, and saw the end.
    let status = client.wait().unwrap();
    let stderr = std::fs::read_to_string(out.path().join("stderr")).unwrap();
    assert_eq!(status.code(), Some(0), "{stderr}\n{}", farm.logs());

    let record = farm.show(&build);
    assert_eq!(record["state"], "succeeded", "{record:#}");
    assert_eq!(record["jobs"][0]["attempts"].as_array().unwrap().len(), 1, "{record:#}");
    let frames = client::frames(&block_on(client::log(&farm, &build, 0)));
    let output = client::output(&frames);
    for tick in 1..=60 {
        assert_eq!(output.matches(&format!("tick-{tick}-")).count(), 1, "tick {tick} in\n{output}");
    }
}
