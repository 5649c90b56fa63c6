//! Who runs what: spread, warmth, turns, and platforms that nobody serves.

use archyard_model::limits;

use super::*;

const AMD: &[&str] = &["linux/amd64", "linux/386"];

#[test]
fn builds_of_one_platform_spread_over_workers() {
    let mut farm = Farm::default();
    let connections = [farm.join("a", AMD, 4), farm.join("b", AMD, 4)];
    for _ in 0..4 {
        farm.build(plan(&["linux/amd64"]));
    }
    let leases = farm.leases();
    for connection in connections {
        assert_eq!(leases.iter().filter(|(_, to)| *to == connection).count(), 2, "{leases:?}");
    }
}

#[test]
fn of_equals_the_warm_worker_is_chosen() {
    let mut farm = Farm::default();
    let (a, b) = (farm.join("a", AMD, 1), farm.join("b", AMD, 1));
    let first = farm.build(plan(&["linux/amd64"]));
    let second = farm.build(of_project("other", plan(&["linux/amd64"])));
    assert_eq!(farm.leases(), [(attempt(first, 0, 1), a), (attempt(second, 0, 1), b)]);
    farm.end(a, attempt(first, 0, 1), image());
    farm.end(b, attempt(second, 0, 1), image());
    let again = farm.build(of_project("other", plan(&["linux/amd64"])));
    assert_eq!(farm.leases(), [(attempt(again, 0, 1), b)]);
}

#[test]
fn a_platform_goes_only_where_it_is_native() {
    let mut farm = Farm::default();
    farm.join("v3", &["linux/amd64/v3"], 1);
    let build = farm.build(plan(&["linux/amd64"]));
    assert!(farm.leases().is_empty());
    assert_eq!(farm.get(build).jobs[0].waiting.as_deref(), Some("no native worker for linux/amd64"));
    let connection = farm.join("amd", AMD, 1);
    assert_eq!(farm.leases(), [(attempt(build, 0, 1), connection)]);
    assert_eq!(farm.get(build).jobs[0].waiting, None);
}

#[test]
fn a_platform_without_a_worker_is_told_once_and_fails_after_a_patience() {
    let mut farm = Farm::default();
    let build = farm.build(plan(&["linux/riscv64"]));
    farm.pass(limits::NO_WORKER_PATIENCE / 2);
    let told = |farm: &Farm| {
        farm.kinds(build).iter().filter(|kind| matches!(kind, EventKind::JobWaiting { .. })).count()
    };
    assert_eq!((told(&farm), farm.get(build).state), (1, BuildState::Running));
    // A worker that came and went in between gives the whole patience again.
    let risc = farm.join("risc", &["linux/riscv64"], 1);
    let lost = attempt(build, 0, 1);
    farm.give(Input::LeaseRejected {
        connection: risc,
        attempt: lost,
        code: "disk_low".to_owned(),
        message: String::new(),
    })
    .unwrap();
    farm.give(Input::WorkerLeft { connection: risc }).unwrap();
    farm.pass(limits::LEASE);
    farm.pass(limits::NO_WORKER_PATIENCE / 2 + Duration::from_secs(1));
    assert_eq!(farm.get(build).state, BuildState::Running);
    farm.pass(limits::NO_WORKER_PATIENCE / 2 + limits::LEASE);
    let failure = farm.get(build).failure.clone().unwrap();
    assert_eq!((failure.code.as_str(), farm.get(build).state), ("no_worker", BuildState::Failed));
    assert!(failure.message.contains("linux/riscv64"), "{failure}");
}

#[test]
fn projects_take_turns_whatever_waits() {
    let mut farm = Farm::default();
    for _ in 0..50 {
        farm.build(of_project("greedy", plan(AMD)));
    }
    let late: Vec<_> = (0..5).map(|_| farm.build(of_project("modest", plan(&["linux/386"])))).collect();
    let connection = farm.join("amd", AMD, 2);
    let mut order = Vec::new();
    for _ in 0..10 {
        let leases = farm.leases();
        order.extend(leases.iter().map(|(attempt, _)| late.contains(&attempt.job.build)));
        let (attempt, _) = *leases.last().unwrap();
        farm.end(connection, attempt, image());
    }
    let modest = order.iter().filter(|modest| **modest).count();
    assert!((4..=5).contains(&modest), "the modest project got {modest} of the first {}", order.len());
}

#[test]
fn a_busy_half_of_the_farm_does_not_starve_a_project_on_the_other() {
    let mut farm = Farm::default();
    farm.join("arm", &["linux/arm64"], 8);
    for _ in 0..8 {
        farm.build(of_project("both", plan(&["linux/arm64"])));
    }
    for _ in 0..4 {
        farm.build(of_project("amd-only", plan(&["linux/amd64"])));
    }
    let waits = farm.build(of_project("both", plan(&["linux/amd64"])));
    farm.leases();
    farm.join("amd", AMD, 2);
    assert!(farm.leases().iter().any(|(attempt, _)| attempt.job.build == waits));
}

#[test]
fn drained_troubled_and_declining_workers_get_nothing() {
    let mut farm = Farm::default();
    let connection = farm.join("amd", AMD, 2);
    let name: archyard_model::WorkerName = "amd".parse().unwrap();
    let drain = |draining| Input::DrainWorker {
        worker: "amd".parse().unwrap(),
        principal: Principal::local(),
        draining,
    };
    farm.give(drain(true)).unwrap();
    let build = farm.build(plan(&["linux/amd64"]));
    assert!(farm.leases().is_empty());
    farm.give(Input::WorkerHeard {
        connection,
        sequence: 1,
        running: Vec::new(),
        problem: Some("Engine does not answer".to_owned()),
    })
    .unwrap();
    farm.give(drain(false)).unwrap();
    assert!(farm.leases().is_empty());
    farm.heartbeat(connection, &[]);
    assert_eq!(farm.leases().len(), 1);
    farm.give(Input::LeaseRejected {
        connection,
        attempt: attempt(build, 0, 1),
        code: "disk_low".to_owned(),
        message: "2 GiB free".to_owned(),
    })
    .unwrap();
    assert!(farm.leases().is_empty() && farm.state.live.workers[&name].skip == 1);
    farm.heartbeat(connection, &[]);
    assert_eq!(farm.leases(), [(attempt(build, 0, 2), connection)]);
    assert_eq!(farm.get(build).jobs[0].tries(), (1, 1));
    let unknown = Input::DrainWorker {
        worker: "nobody".parse().unwrap(),
        principal: Principal::local(),
        draining: true,
    };
    assert!(matches!(farm.give(unknown), Err(Refusal::UnknownWorker(_))));
}
