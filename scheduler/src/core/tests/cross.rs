//! Jobs that workers of another platform build, because nobody runs theirs and their build allows it.

use super::*;

const BOTH: &[&str] = &["linux/amd64", "linux/riscv64"];

/// The second platform may be built cross.
fn cross(plan: Plan) -> Plan {
    Plan { cross: [1].into(), ..plan }
}

fn builder(farm: &Farm, build: BuildId) -> Option<String> {
    farm.get(build).jobs[1].cross.as_ref().map(ToString::to_string)
}

/// Whether the lease that went out for this attempt is marked.
fn marked(farm: &Farm, wanted: AttemptId) -> Option<bool> {
    farm.effects.iter().find_map(|effect| match effect {
        Effect::ToWorker { message: Downstream::Lease { attempt, spec }, .. } if *attempt == wanted => {
            Some(spec.cross)
        }
        _ => None,
    })
}

#[test]
fn a_platform_that_nobody_runs_goes_to_a_worker_of_another_and_says_so() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", &["linux/386", "linux/amd64"], 2);
    let build = farm.build(cross(push(BOTH, &["registry.example/app:1"])));
    assert_eq!(builder(&farm, build).as_deref(), Some("linux/amd64"), "one of the build's own platforms");
    assert_eq!(
        (marked(&farm, attempt(build, 0, 1)), marked(&farm, attempt(build, 1, 1))),
        (Some(false), Some(true))
    );
    let said = farm.kinds(build).iter().any(|kind| {
        matches!(kind, EventKind::JobWaiting { job: 1, reason } if reason.contains("no native worker for linux/riscv64"))
    });
    assert!(said);
    farm.leases();
    for index in [0, 1] {
        farm.end(amd, attempt(build, index, 1), image());
    }
    let order = farm.effects.iter().find_map(|effect| match effect {
        Effect::Publish(order) => Some(order.cross.clone()),
        _ => None,
    });
    let (riscv, amd64) = ("linux/riscv64".parse().unwrap(), "linux/amd64".parse().unwrap());
    assert_eq!(order.unwrap(), BTreeMap::from([(riscv, amd64)]));
    assert_eq!(farm.get(build).record().jobs[1].cross.as_ref().unwrap().to_string(), "linux/amd64");
}

#[test]
fn the_builder_is_named_by_its_machine_not_by_a_sibling_that_the_build_asks_for() {
    let mut farm = Farm::default();
    farm.join("amd", &["linux/386", "linux/amd64"], 2);
    farm.join("arm", &["linux/arm64"], 9);
    let build = farm.build(cross(plan(&["linux/386", "linux/riscv64"])));
    assert_eq!(builder(&farm, build).as_deref(), Some("linux/amd64"), "as $BUILDPLATFORM has it there");
}

#[test]
fn without_leave_it_waits() {
    let mut farm = Farm::default();
    farm.join("amd", &["linux/amd64"], 2);
    let build = farm.build(plan(BOTH));
    assert_eq!((builder(&farm, build), farm.job(build, 1)), (None, JobState::Queued));
}

#[test]
fn a_native_worker_that_is_known_is_waited_for() {
    let mut farm = Farm::default();
    let risc = farm.join("risc", &["linux/riscv64"], 1);
    farm.build(plan(&["linux/riscv64"]));
    farm.join("amd", &["linux/amd64"], 2);
    let build = farm.build(cross(plan(BOTH)));
    assert_eq!((builder(&farm, build), farm.job(build, 1)), (None, JobState::Queued));
    farm.give(Input::WorkerLeft { connection: risc }).unwrap();
    assert_eq!(builder(&farm, build), None, "its stream broke, and nothing more is known");
}

#[test]
fn a_native_worker_that_comes_before_anybody_took_it_gets_it() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", &["linux/amd64"], 1);
    farm.build(plan(&["linux/amd64"]));
    let build = farm.build(cross(plan(BOTH)));
    assert_eq!((builder(&farm, build).is_some(), farm.job(build, 1)), (true, JobState::Queued));
    farm.leases();
    let risc = farm.join("risc", &["linux/riscv64"], 1);
    assert_eq!(marked(&farm, attempt(build, 1, 1)), Some(false));
    assert_eq!(farm.leases(), [(attempt(build, 1, 1), risc)]);
    assert_eq!(builder(&farm, build), None);
    farm.heartbeat(amd, &[]);
}

#[test]
fn a_builder_that_is_lost_is_replaced_by_another() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", &["linux/amd64"], 1);
    farm.build(plan(&["linux/amd64"]));
    let build = farm.build(cross(plan(BOTH)));
    farm.give(Input::WorkerLeft { connection: amd }).unwrap();
    farm.pass(archyard_model::limits::LEASE);
    assert_eq!(builder(&farm, build), None);
    let arm = farm.join("arm", &["linux/arm64"], 1);
    farm.leases();
    assert_eq!(builder(&farm, build).as_deref(), Some("linux/arm64"));
    farm.heartbeat(arm, &[attempt(build, 1, 1)]);
}

#[test]
fn no_machine_that_would_emulate_it_gets_it() {
    let mut farm = Farm::default();
    farm.connections += 1;
    let emulated = vec!["linux/riscv64".parse().unwrap()];
    let offer = Arc::new(WorkerOffer { emulated, ..offer("amd", &["linux/amd64"], 4) });
    let connection = ConnectionId(farm.connections);
    farm.give(Input::WorkerJoined { connection, offer, running: Vec::new() }).unwrap();
    let build = farm.build(cross(plan(BOTH)));
    assert_eq!((builder(&farm, build), farm.job(build, 1)), (None, JobState::Queued));
    assert_eq!(farm.job(build, 0), JobState::Leased);
}

#[test]
fn a_trial_may_be_built_cross_rather_than_dropped() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", &["linux/amd64"], 1);
    let build = farm.build(Plan { trial: [1].into(), ..cross(plan(BOTH)) });
    farm.end(amd, attempt(build, 0, 1), image());
    assert_eq!(farm.job(build, 1), JobState::Leased);
    farm.end(amd, attempt(build, 1, 1), image());
    assert_eq!((farm.get(build).state, farm.job(build, 1)), (BuildState::Succeeded, JobState::Succeeded));
}

#[test]
fn after_a_recovery_native_workers_have_the_grace_to_come_back() {
    let mut farm = Farm::default();
    farm.join("amd", &["linux/amd64"], 2);
    farm.state.live.grace = Duration::from_secs(20);
    let build = farm.build(cross(plan(BOTH)));
    assert_eq!(builder(&farm, build), None);
    farm.pass(Duration::from_secs(20));
    assert!(builder(&farm, build).is_some());
}
