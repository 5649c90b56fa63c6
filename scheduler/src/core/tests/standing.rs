//! How builds stand: queued behind busy slots, or waiting, and for what.

use super::*;
use crate::core::standing::{PLACES, QueuePlace, Standing, Standings};

const AMD: &[&str] = &["linux/amd64", "linux/386"];

fn standing(farm: &Farm, build: BuildId) -> Standing {
    Standings::new(&farm.state).of(farm.get(build))
}

fn place(farm: &Farm, build: BuildId, job: usize) -> QueuePlace {
    let standing = standing(farm, build);
    standing.jobs[job].queue.clone().unwrap_or_else(|| panic!("{standing:?}"))
}

#[test]
fn a_build_behind_busy_slots_is_queued_and_knows_its_place() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", AMD, 1);
    let first = farm.build(plan(&["linux/amd64"]));
    let second = farm.build(plan(&["linux/amd64"]));
    let third = farm.build(plan(&["linux/386"]));
    assert_eq!(standing(&farm, first).state, BuildState::Running);
    for (build, position) in [(second, 1), (third, 2)] {
        let standing = standing(&farm, build);
        assert_eq!((standing.state, standing.waiting), (BuildState::Queued, None));
        let place = place(&farm, build, 0);
        assert_eq!((place.position, place.queued, place.running), (Some(position), 2, 1));
        let [ahead] = &place.ahead[..] else { panic!("{place:?}") };
        assert_eq!((ahead.job.build, ahead.worker.as_str()), (first, "amd"));
    }
    farm.end(amd, attempt(first, 0, 1), image());
    farm.heartbeat(amd, &[]);
    assert_eq!(standing(&farm, second).state, BuildState::Running);
    assert_eq!(place(&farm, third, 0).position, Some(1));
}

#[test]
fn places_follow_the_turns_of_projects() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", AMD, 1);
    let mut builds: Vec<(BuildId, &str)> = Vec::new();
    for project in ["greedy", "greedy", "greedy", "greedy", "modest", "modest"] {
        builds.push((farm.build(of_project(project, plan(&["linux/amd64"]))), project));
    }
    let mut running = builds.remove(0).0;
    // Whoever has place 1 is the next to be leased, each time.
    while !builds.is_empty() {
        let mut places: Vec<(u32, BuildId)> =
            builds.iter().map(|(build, _)| (place(&farm, *build, 0).position.unwrap(), *build)).collect();
        places.sort_unstable();
        let numbers: Vec<u32> = places.iter().map(|(position, _)| *position).collect();
        assert_eq!(numbers, (1..=u32::try_from(builds.len()).unwrap()).collect::<Vec<_>>());
        farm.leases();
        farm.end(amd, attempt(running, 0, 1), image());
        farm.heartbeat(amd, &[]);
        running = places[0].1;
        assert_eq!(farm.leases(), [(attempt(running, 0, 1), amd)]);
        builds.retain(|(build, _)| *build != running);
    }
}

#[test]
fn a_job_far_back_has_no_number() {
    let mut farm = Farm::default();
    farm.join("amd", AMD, 1);
    for _ in 0..=PLACES {
        farm.build(plan(&["linux/amd64"]));
    }
    let last = farm.build(plan(&["linux/amd64"]));
    let place = place(&farm, last, 0);
    assert_eq!((place.position, place.queued), (None, PLACES as u64 + 1));
}

#[test]
fn a_build_that_needs_something_else_waits_for_it() {
    let mut farm = Farm::default();
    let said = |farm: &Farm, build| {
        let standing = standing(farm, build);
        assert_eq!(standing.state, BuildState::Waiting, "{standing:?}");
        standing.waiting.unwrap()
    };
    let unlocked = farm.submit(plan(&["linux/amd64"]), true);
    assert_eq!(said(&farm, unlocked), "lock");
    let orphan = farm.build(plan(&["linux/riscv64"]));
    assert_eq!(said(&farm, orphan), "no native worker for linux/riscv64");
    // One job that no worker runs holds the build up, whatever the others queue for.
    let busy = farm.join("amd", AMD, 1);
    let first = farm.build(plan(&["linux/amd64"]));
    let mixed = farm.build(plan(&["linux/amd64", "linux/riscv64"]));
    assert_eq!(said(&farm, mixed), "no native worker for linux/riscv64");
    assert!(standing(&farm, mixed).jobs[0].queue.is_some());
    // A worker that takes no jobs is no queue.
    let queued = farm.build(plan(&["linux/amd64"]));
    assert_eq!(standing(&farm, queued).state, BuildState::Queued);
    farm.give(Input::WorkerWishesDrain { connection: busy, draining: true }).unwrap();
    assert_eq!(said(&farm, queued), "a worker for linux/amd64 that takes jobs: amd is draining");
    assert_eq!(standing(&farm, first).state, BuildState::Running);
}

#[test]
fn a_build_waits_for_credentials_and_for_its_tags_turn() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", AMD, 2);
    let hosts = Plan {
        credential_hosts: vec!["r.example".to_owned()],
        ..push(&["linux/amd64"], &["r.example/app:1"])
    };
    let build = farm.submit(hosts, false);
    let found = standing(&farm, build);
    assert_eq!(
        (found.state, found.waiting.as_deref()),
        (BuildState::Waiting, Some("credentials for r.example"))
    );
    let older = farm.build(push(&["linux/amd64"], &["r.example/other:1"]));
    let newer = farm.build(push(&["linux/amd64"], &["r.example/other:1"]));
    for build in [older, newer] {
        farm.end(amd, attempt(build, 0, 1), image());
        farm.heartbeat(amd, &[]);
    }
    let found = standing(&farm, newer);
    let wanted = format!("build {older}, which moves r.example/other:1 first");
    assert_eq!((found.state, found.waiting), (BuildState::Waiting, Some(wanted)));
}

#[test]
fn a_build_with_a_job_on_a_worker_runs_and_its_other_job_has_a_place() {
    let mut farm = Farm::default();
    farm.join("amd", AMD, 1);
    let running = farm.build(plan(AMD));
    // One job runs, one queues: the build runs, and the job says where it is.
    let found = standing(&farm, running);
    assert_eq!((found.state, found.waiting), (BuildState::Running, None));
    assert_eq!(place(&farm, running, 1).position, Some(1));
}
