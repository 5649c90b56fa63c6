//! What is told of builds that do not run yet.

use archyard_tests::farm::PATIENCE;
use archyard_tests::process::{self, wait_for};
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};
use serde_json::Value;

fn listed(farm: &Farm, args: &[&str]) -> Vec<Value> {
    let outcome = farm.run(&[&["ps", "--json"], args].concat()).expect(0);
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(builds: &[Value]) -> Vec<&str> {
    builds.iter().map(|build| build["id"].as_str().unwrap()).collect()
}

#[test]
fn a_build_behind_busy_slots_says_its_place_and_what_runs_ahead() {
    let farm = Farm::start(1);
    let marker = unique("ahead");
    let platform = farm.env.native[0].to_string();
    let out = tempfile::tempdir().unwrap();
    let start = |project: &Project, platform: &str, name: &str| {
        let before = farm.newest_build();
        let client = farm.start_build(project.path(), &["--platform", platform], &out.path().join(name));
        (
            client,
            wait_for("the build is accepted", PATIENCE, || {
                farm.newest_build().filter(|id| Some(id) != before.as_ref())
            }),
        )
    };
    let long = Project::new(&format!("FROM BASE\nRUN sleep 600; echo {marker}\n"));
    let (mut first_client, first) = start(&long, &platform, "first");
    wait_for("the RUN starts", PATIENCE, || process::with_marker(&marker).first().copied());
    let small = Project::new(&format!("FROM BASE\nRUN echo {}\n", unique("behind")));
    let (mut second_client, second) = start(&small, &platform, "second");
    let (mut third_client, third) = start(&small, &platform, "third");
    // No worker runs this one, however many slots come free.
    let foreign = farm.env.foreign[0].to_string();
    let no_worker = format!("no native worker for {foreign}");
    let (mut orphan_client, orphan) = start(&small, &foreign, "orphan");

    let builds = wait_for("all are locked", PATIENCE, || {
        let builds = listed(&farm, &["--state", "queued"]);
        (builds.len() == 2).then_some(builds)
    });
    assert_eq!(ids(&builds), [&third, &second]);
    for (build, position) in builds.iter().zip([2, 1]) {
        let queue = &build["queue"];
        assert_eq!(
            (&queue["position"], &queue["queued"], &queue["running"]),
            (&position.into(), &2.into(), &1.into())
        );
        assert_eq!(queue["ahead"][0]["build"], Value::from(first.as_str()));
    }
    let waiting = wait_for("the orphan is locked", PATIENCE, || {
        let builds = listed(&farm, &["--state", "waiting"]);
        let told = builds.iter().any(|build| build["waiting_reason"] == no_worker.as_str());
        told.then_some(builds)
    });
    assert_eq!(ids(&waiting), [&orphan]);
    assert_eq!(ids(&listed(&farm, &["--state", "running"])), [&first]);
    let end = &first[first.len() - 8..];
    farm.run(&["ps"])
        .expect(0)
        .says_out(&[&format!("queued: 2 of 2, behind {end} on "), &format!("waiting: {no_worker}")]);
    farm.run(&["show", &third])
        .expect(0)
        .says_out(&[&format!("{platform} queued: 2 of 2, behind {first} on ")]);
    let said = format!("queued: 2 of 2, behind {first} on ");
    wait_for("the client says so", PATIENCE, || {
        std::fs::read_to_string(out.path().join("third/stderr")).unwrap().contains(&said).then_some(())
    });

    farm.run(&["cancel", &first]).expect(0);
    farm.run(&["cancel", &orphan]).expect(0);
    for (client, code) in
        [(&mut first_client, 130), (&mut orphan_client, 130), (&mut second_client, 0), (&mut third_client, 0)]
    {
        assert_eq!(client.wait().unwrap().code(), Some(code));
    }
    // In the order of acceptance.
    assert_eq!(ids(&listed(&farm, &["--all"])), [&orphan, &third, &second, &first]);
}
