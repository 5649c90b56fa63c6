//! Platforms on trial: reported in their own right, in nobody's way.

use super::*;

const BOTH: &[&str] = &["linux/amd64", "linux/arm64"];
const TAG: &str = "registry.example/app:1";

/// The second platform is on trial.
fn trial(plan: Plan) -> Plan {
    Plan { trial: [1].into(), ..plan }
}

fn user(farm: &mut Farm, connection: ConnectionId, attempt: AttemptId) {
    farm.end(connection, attempt, broken(FailureClass::User, "run_failed"));
}

/// The required platform is built and published; the trial is at `arm`.
fn published(farm: &mut Farm) -> (BuildId, ConnectionId) {
    let (amd, arm) = (farm.join("amd", &["linux/amd64"], 1), farm.join("arm", &["linux/arm64"], 1));
    let build = farm.build(trial(push(BOTH, &[TAG])));
    farm.end(amd, attempt(build, 0, 1), image());
    publish(farm, build);
    (build, arm)
}

fn publish(farm: &mut Farm, build: BuildId) {
    let orders = std::mem::take(&mut farm.effects);
    let order = orders.iter().find_map(|effect| match effect {
        Effect::Publish(order) => Some(order.clone()),
        _ => None,
    });
    assert_eq!(order.unwrap().images.len(), 1, "the trial is no part of the index");
    farm.give(Input::IndexPrepared { build, index: Sha256::from_bytes([1; 32]), size: 1 }).unwrap();
    farm.give(Input::TagMoved { build, tag: TAG.parse().unwrap() }).unwrap();
    farm.give(Input::PublishDone { build }).unwrap();
}

fn cancel(build: BuildId) -> Input {
    Input::Cancel { build, principal: Principal::local(), reason: String::new() }
}

#[test]
fn a_build_publishes_without_its_trial_and_ends_with_it() {
    let mut farm = Farm::default();
    let (build, arm) = published(&mut farm);
    let record = farm.get(build).record();
    assert_eq!((record.state, record.index.is_some()), (BuildState::Running, true));
    assert!(record.tags[0].moved && farm.state.ledger.claims.is_empty());
    user(&mut farm, arm, attempt(build, 1, 1));
    let record = farm.get(build).record();
    assert_eq!((record.state, record.failure), (BuildState::Succeeded, None));
    assert_eq!((record.jobs[1].state, farm.get(build).jobs[1].attempts.len()), (JobState::Failed, 1));
    let told = farm.kinds(build).iter().any(|kind| {
        matches!(kind, EventKind::JobEnded { job: 1, state: JobState::Failed, failure: Some(_), .. })
    });
    assert!(told, "the trial's failure is not told");
}

#[test]
fn a_trial_that_fails_stops_nobody() {
    let mut farm = Farm::default();
    let (amd, arm) = (farm.join("amd", &["linux/amd64"], 1), farm.join("arm", &["linux/arm64"], 1));
    let build = farm.build(trial(plan(BOTH)));
    user(&mut farm, arm, attempt(build, 1, 1));
    assert_eq!((farm.get(build).state, farm.job(build, 0)), (BuildState::Running, JobState::Leased));
    farm.end(amd, attempt(build, 0, 1), image());
    assert_eq!(farm.get(build).state, BuildState::Succeeded);
}

#[test]
fn a_required_failure_stops_the_trial_too() {
    let mut farm = Farm::default();
    let (amd, arm) = (farm.join("amd", &["linux/amd64"], 1), farm.join("arm", &["linux/arm64"], 1));
    let build = farm.build(trial(plan(BOTH)));
    farm.give(Input::LeaseAccepted { connection: arm, attempt: attempt(build, 1, 1) }).unwrap();
    user(&mut farm, amd, attempt(build, 0, 1));
    assert!(farm.get(build).jobs[1].stopping);
    farm.end(arm, attempt(build, 1, 1), broken(FailureClass::Canceled, "stopped"));
    assert_eq!((farm.get(build).state, farm.job(build, 1)), (BuildState::Failed, JobState::Canceled));
}

#[test]
fn a_cancel_after_publishing_stops_the_trial_alone() {
    let mut farm = Farm::default();
    let (build, arm) = published(&mut farm);
    farm.give(Input::LeaseAccepted { connection: arm, attempt: attempt(build, 1, 1) }).unwrap();
    farm.give(cancel(build)).unwrap();
    assert_eq!(farm.get(build).state, BuildState::Running);
    farm.end(arm, attempt(build, 1, 1), broken(FailureClass::Canceled, "stopped"));
    let record = farm.get(build).record();
    assert_eq!((record.state, record.failure), (BuildState::Succeeded, None));
    assert_eq!(record.jobs[1].state, JobState::Canceled);
}

#[test]
fn no_cancel_while_it_publishes_even_if_a_trial_runs() {
    let mut farm = Farm::default();
    let (amd, _) = (farm.join("amd", &["linux/amd64"], 1), farm.join("arm", &["linux/arm64"], 1));
    let build = farm.build(trial(push(BOTH, &[TAG])));
    farm.end(amd, attempt(build, 0, 1), image());
    farm.give(Input::IndexPrepared { build, index: Sha256::from_bytes([1; 32]), size: 1 }).unwrap();
    assert!(matches!(farm.give(cancel(build)), Err(Refusal::NotCancelable { .. })));
}

#[test]
fn a_trial_that_nobody_runs_is_not_waited_for() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", &["linux/amd64"], 1);
    let build = farm.build(trial(plan(BOTH)));
    assert_eq!(farm.get(build).jobs[1].waiting.as_deref(), Some("no native worker for linux/arm64"));
    farm.end(amd, attempt(build, 0, 1), image());
    let record = farm.get(build).record();
    let failure = record.jobs[1].failure.as_ref().unwrap();
    assert_eq!((record.state, failure.code.as_str()), (BuildState::Succeeded, "no_native_worker"));
    assert!(failure.message.contains("archyard rerun"), "{failure}");
}

#[test]
fn a_trial_whose_worker_is_busy_is_waited_for_until_that_is_lost() {
    let mut farm = Farm::default();
    let (amd, arm) = (farm.join("amd", &["linux/amd64"], 1), farm.join("arm", &["linux/arm64"], 1));
    let other = farm.build(plan(&["linux/arm64"]));
    let build = farm.build(trial(plan(BOTH)));
    farm.end(amd, attempt(build, 0, 1), image());
    assert_eq!((farm.get(build).state, farm.job(build, 1)), (BuildState::Running, JobState::Queued));
    farm.give(Input::WorkerLeft { connection: arm }).unwrap();
    farm.heartbeat(amd, &[]);
    farm.pass(archyard_model::limits::LEASE);
    assert_eq!(farm.get(build).state, BuildState::Succeeded);
    assert_eq!(farm.job(other, 0), JobState::Queued);
}

#[test]
fn after_a_recovery_nobody_is_given_up_before_the_grace_is_over() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", &["linux/amd64"], 1);
    farm.state.live.grace = Duration::from_secs(20);
    let build = farm.build(trial(plan(BOTH)));
    farm.end(amd, attempt(build, 0, 1), image());
    assert_eq!(farm.get(build).state, BuildState::Running);
    assert_eq!(farm.state.next_deadline().unwrap(), Duration::from_secs(20));
    farm.pass(Duration::from_secs(20));
    assert_eq!(farm.get(build).state, BuildState::Succeeded);
}

#[test]
fn a_base_that_a_trial_lacks_ends_that_trial_alone() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", &["linux/amd64"], 1);
    let build = farm.submit(trial(plan(BOTH)), false);
    let refused = |job| Input::TrialRefused {
        build,
        job,
        failure: Failure::new(FailureClass::User, "base_lacks_platform", "debian:12 has no linux/arm64"),
    };
    assert!(farm.give(refused(0)).is_err(), "a required job is not on trial");
    farm.give(refused(1)).unwrap();
    farm.give(refused(1)).unwrap();
    farm.give(Input::LockResolved { build, lock: Arc::new(Lock::default()) }).unwrap();
    assert_eq!((farm.job(build, 0), farm.job(build, 1)), (JobState::Leased, JobState::Failed));
    farm.end(amd, attempt(build, 0, 1), image());
    assert_eq!(farm.get(build).state, BuildState::Succeeded);
}

#[test]
fn required_jobs_of_a_project_go_before_its_trials() {
    let mut farm = Farm::default();
    let older = farm.build(trial(plan(BOTH)));
    let newer = farm.build(plan(&["linux/arm64"]));
    let arm = farm.join("arm", &["linux/arm64"], 1);
    assert_eq!(farm.leases(), [(attempt(newer, 0, 1), arm)]);
    farm.end(arm, attempt(newer, 0, 1), image());
    assert_eq!(farm.leases(), [(attempt(older, 1, 1), arm)]);
}

#[test]
fn a_trial_that_waits_for_credentials_does_not_fail_its_build() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", &["linux/amd64"], 1);
    let arm = farm.join("arm", &["linux/arm64"], 1);
    let hosts = vec!["registry.example".to_owned()];
    let build = farm.build(trial(Plan { credential_hosts: hosts, ..plan(BOTH) }));
    farm.end(amd, attempt(build, 0, 1), image());
    // As after a restart of the scheduler.
    farm.state.live.credentials.clear();
    farm.end(arm, attempt(build, 1, 1), broken(FailureClass::Infrastructure, "runner_died"));
    farm.pass(archyard_model::limits::CREDENTIALS_PATIENCE);
    let record = farm.get(build).record();
    assert_eq!((record.state, record.failure), (BuildState::Succeeded, None));
    assert_eq!(record.jobs[1].failure.as_ref().unwrap().code, "credentials_missing");
}
