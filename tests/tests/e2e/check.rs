//! `--output check`, the default: both platforms are built, on two workers at once, and nothing is published.

use archyard_tests::project::unique;
use archyard_tests::{Farm, Project, client};

/// Runs a future to its end.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The platforms this machine runs, as `--platform` takes them.
pub(crate) fn native(farm: &Farm) -> String {
    farm.env.native.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[test]
fn two_platforms_build_at_once_on_two_workers() {
    let farm = Farm::start(2);
    let project = Project::new(&format!(
        "FROM BASE\nRUN echo {} && uname -m && sleep 3 && echo finished\n",
        unique("overlap")
    ));
    farm.build(project.path(), &["--platform", &native(&farm)]).expect(0);

    let build = farm.newest_build().unwrap();
    let record = farm.show(&build);
    assert_eq!(record["state"], "succeeded");
    let workers: Vec<_> = (0..2).map(|job| record["jobs"][job]["attempts"][0]["worker"].clone()).collect();
    assert_ne!(workers[0], workers[1], "{record:#}");

    let slept: Vec<_> = (0..2)
        .map(|job| {
            let frames = client::frames(&block_on(client::log(&farm, &build, job)));
            assert!(client::output(&frames).contains("finished"));
            client::steps(&frames).into_iter().find(|step| step.name.contains("sleep 3")).unwrap()
        })
        .collect();
    let overlap = slept[0].completed.min(slept[1].completed) - slept[0].started.max(slept[1].started);
    assert!(overlap > 1.0, "the steps overlap by {overlap} s: {slept:?}");
}

#[test]
fn three_builds_of_one_platform_spread_over_both_workers() {
    let farm = Farm::with(2, &[], &["--slots", "2"]);
    let platform = farm.env.native[0].to_string();
    let projects: Vec<_> = (0..3)
        .map(|_| Project::new(&format!("FROM BASE\nRUN echo {} && sleep 3\n", unique("spread"))))
        .collect();
    let out = tempfile::tempdir().unwrap();
    let mut children: Vec<_> = projects
        .iter()
        .enumerate()
        .map(|(at, project)| {
            farm.start_build(project.path(), &["--platform", &platform], &out.path().join(at.to_string()))
        })
        .collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success(), "{}", farm.logs());
    }
    let listed = farm.run(&["ps", "--all", "--json"]).expect(0).stdout;
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for line in listed.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let record = farm.show(row["id"].as_str().unwrap());
        let worker = record["jobs"][0]["attempts"][0]["worker"].as_str().unwrap().to_owned();
        *counts.entry(worker).or_default() += 1;
    }
    let mut spread: Vec<_> = counts.values().copied().collect();
    spread.sort_unstable();
    assert_eq!(spread, [1, 2], "{counts:?}");
}

#[test]
fn a_second_build_of_the_same_tree_is_cached() {
    let farm = Farm::start(1);
    let platform = farm.env.native[0].to_string();
    let project =
        Project::new(&format!("FROM BASE\nCOPY a /a\nRUN echo {}\n", unique("cached"))).file("a", "a");
    farm.build(project.path(), &["--platform", &platform]).expect(0);
    farm.build(project.path(), &["--platform", &platform]).expect(0);
    let build = farm.newest_build().unwrap();
    let frames = client::frames(&block_on(client::log(&farm, &build, 0)));
    let steps = client::steps(&frames);
    let run = steps.iter().find(|step| step.name.contains("RUN")).unwrap();
    assert!(run.cached, "{steps:?}");
}

#[test]
fn build_args_target_and_labels_reach_the_image() {
    let farm = Farm::start(1);
    let platform = farm.env.native[0].to_string();
    let project = Project::new(
        "FROM BASE AS first\nARG WORD=default\nRUN echo word is $WORD\nFROM first AS second\nRUN false\n",
    );
    let outcome = farm
        .build(
            project.path(),
            &["--platform", &platform, "--target", "first", "--build-arg", "WORD=given", "--no-cache"],
        )
        .expect(0);
    assert!(outcome.stderr.contains("word is given"), "{}", outcome.stderr);
    let outcome = farm.build(project.path(), &["--platform", &platform]).expect(1);
    assert!(outcome.stderr.contains("RUN false"), "{}", outcome.stderr);
}
