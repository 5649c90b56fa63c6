//! What fails, who is to blame, and what is tried again.

use archyard_model::limits;

use super::super::Parting;
use super::super::policy;
use super::*;

const AMD: &[&str] = &["linux/amd64"];

#[test]
fn a_users_failure_ends_the_build_and_stops_its_siblings() {
    let mut farm = Farm::default();
    let connection = farm.join("amd", &["linux/amd64", "linux/386", "linux/amd64/v2"], 2);
    let build = farm.build(plan(&["linux/amd64", "linux/386", "linux/amd64/v2"]));
    let running = attempt(build, 1, 1);
    farm.give(Input::LeaseAccepted { connection, attempt: running }).unwrap();
    farm.end(connection, attempt(build, 0, 1), broken(FailureClass::User, "run_failed"));
    let states: Vec<_> = (0..3).map(|index| farm.job(build, index)).collect();
    assert_eq!(states, [JobState::Failed, JobState::Running, JobState::Canceled]);
    let told = farm.effects.iter().any(|effect| {
        matches!(effect, Effect::ToWorker { message: Downstream::Cancel { attempt, .. }, .. } if *attempt == running)
    });
    assert!(told && farm.get(build).state == BuildState::Running);
    farm.end(connection, running, broken(FailureClass::Canceled, "stopped"));
    assert_eq!((farm.job(build, 1), farm.get(build).state), (JobState::Canceled, BuildState::Failed));
    let failure = farm.get(build).failure.clone().unwrap();
    assert_eq!(failure.message, "linux/amd64: it broke");
    assert_eq!(farm.get(build).jobs[0].attempts.len(), 1);
}

#[test]
fn infrastructure_is_tried_again_on_the_warm_worker_a_bounded_number_of_times() {
    let mut farm = Farm::default();
    let warm = farm.join("b", AMD, 1);
    let build = farm.build(plan(AMD));
    farm.join("a", AMD, 1);
    for token in 1..=u64::from(limits::ATTEMPTS) {
        assert_eq!(farm.leases(), [(attempt(build, 0, token), warm)]);
        farm.end(warm, attempt(build, 0, token), broken(FailureClass::Infrastructure, "runner_died"));
    }
    let build = farm.get(build);
    assert_eq!(build.state, BuildState::Failed);
    assert!(build.jobs[0].attempts.iter().all(|attempt| attempt.failure.is_some()));
    assert_eq!(build.failure.as_ref().unwrap().message, "linux/amd64: it broke (tried 3 times)");
}

#[test]
fn a_worker_that_is_to_blame_is_avoided() {
    let mut farm = Farm::default();
    let first = farm.join("a", AMD, 1);
    let build = farm.build(plan(AMD));
    let other = farm.join("b", AMD, 4);
    farm.leases();
    farm.end(first, attempt(build, 0, 1), broken(FailureClass::Infrastructure, "engine_unreachable"));
    assert_eq!(farm.leases(), [(attempt(build, 0, 2), other)]);
}

#[test]
fn a_silent_worker_loses_its_attempts_and_a_broken_stream_does_not() {
    let mut farm = Farm::default();
    let connection = farm.join("a", AMD, 1);
    let build = farm.build(plan(AMD));
    let first = attempt(build, 0, 1);
    farm.give(Input::LeaseAccepted { connection, attempt: first }).unwrap();
    farm.give(Input::WorkerLeft { connection }).unwrap();
    farm.pass(limits::LEASE / 2);
    assert_eq!(farm.job(build, 0), JobState::Running);
    let again = farm.rejoin("a", AMD, 1, &[first]);
    assert_eq!(farm.job(build, 0), JobState::Running);
    farm.pass(limits::LEASE);
    assert_eq!(farm.job(build, 0), JobState::Queued);
    assert_eq!(farm.get(build).jobs[0].attempts[0].failure.as_ref().unwrap().code, "worker_lost");
    assert!(farm.effects.contains(&Effect::Disconnect { connection: again, parting: Parting::Silent }));
    // It comes back with the attempt that was given up: that one is stopped, and counts until it has.
    farm.effects.clear();
    let back = farm.rejoin("a", AMD, 1, &[first]);
    let welcome = Downstream::Welcome { adopt: Vec::new(), stop: vec![first], draining: false };
    assert!(farm.effects.contains(&Effect::ToWorker { connection: back, message: welcome }));
    assert!(farm.leases().is_empty());
    farm.end(back, first, image());
    assert_eq!(farm.job(build, 0), JobState::Leased, "a stale result counted");
    assert_eq!(farm.leases(), [(attempt(build, 0, 2), back)]);
}

#[test]
fn what_a_hello_does_not_list_is_over() {
    let mut farm = Farm::default();
    let connection = farm.join("a", AMD, 2);
    let (started, offered) = (farm.build(plan(AMD)), farm.build(plan(AMD)));
    farm.give(Input::LeaseAccepted { connection, attempt: attempt(started, 0, 1) }).unwrap();
    farm.leases();
    let again = farm.rejoin("a", AMD, 2, &[]);
    let code = |build| farm.get(build).jobs[0].attempts[0].failure.as_ref().unwrap().code.clone();
    assert_eq!((code(started).as_str(), code(offered).as_str()), ("attempt_vanished", "lease_undelivered"));
    let tries = |build| farm.get(build).jobs[0].tries();
    assert_eq!((tries(started), tries(offered)), ((2, 0), (1, 1)));
    assert!(farm.leases().iter().all(|(attempt, to)| attempt.token.0 == 2 && *to == again));
    assert_eq!(
        farm.give(Input::WorkerLeft { connection }),
        Err(Refusal::StaleConnection),
        "the older stream still speaks"
    );
}

#[test]
fn an_unanswered_lease_is_taken_back_and_a_late_answer_stopped() {
    let mut farm = Farm::default();
    let connection = farm.join("a", AMD, 1);
    let build = farm.build(plan(AMD));
    let first = attempt(build, 0, 1);
    farm.leases();
    farm.pass(limits::LEASE_ANSWER);
    assert_eq!(farm.job(build, 0), JobState::Queued);
    assert!(farm.leases().is_empty(), "the slot may be taken");
    for _ in 0..policy::MISSED_HEARTBEATS {
        farm.heartbeat(connection, &[]);
    }
    assert_eq!(farm.leases(), [(attempt(build, 0, 2), connection)]);
    farm.give(Input::LeaseAccepted { connection, attempt: first }).unwrap();
    assert!(farm.effects.iter().any(|effect| {
        matches!(effect, Effect::ToWorker { message: Downstream::Cancel { attempt, .. }, .. } if *attempt == first)
    }));
    assert_eq!(farm.job(build, 0), JobState::Leased);
}

#[test]
fn a_cancel_waits_for_its_confirmation_but_not_for_ever() {
    let mut farm = Farm::default();
    let connection = farm.join("a", AMD, 1);
    let build = farm.build(plan(AMD));
    let running = attempt(build, 0, 1);
    farm.give(Input::LeaseAccepted { connection, attempt: running }).unwrap();
    let cancel = Input::Cancel { build, principal: Principal::local(), reason: "enough".to_owned() };
    farm.give(cancel.clone()).unwrap();
    farm.give(cancel).unwrap();
    assert_eq!((farm.get(build).state, farm.job(build, 0)), (BuildState::Running, JobState::Running));
    farm.pass(limits::LEASE / 2);
    farm.heartbeat(connection, &[running]);
    farm.pass(limits::LEASE / 2);
    assert_eq!(farm.get(build).state, BuildState::Canceled);
    assert_eq!(farm.get(build).failure.as_ref().unwrap().message, "canceled by local: enough");
    farm.leases();
    let next = farm.build(plan(AMD));
    assert!(farm.leases().is_empty(), "the slot is free before the stop is confirmed");
    farm.end(connection, running, broken(FailureClass::Canceled, "stopped"));
    assert_eq!(farm.leases(), [(attempt(next, 0, 1), connection)]);
}

#[test]
fn an_attached_build_waits_for_its_credentials() {
    let mut farm = Farm::default();
    let hosts = vec!["registry.example".to_owned()];
    let attached = || Plan { credential_hosts: hosts.clone(), ..plan(AMD) };
    let (served, forgotten) = (farm.submit(attached(), false), farm.submit(attached(), false));
    assert_eq!(farm.get(served).waiting.as_deref(), Some("credentials for registry.example"));
    assert!(!farm.effects.iter().any(|effect| matches!(effect, Effect::ResolveLock { .. })));
    farm.give(Input::CredentialsSupplied { build: served }).unwrap();
    assert_eq!(farm.get(served).waiting.as_deref(), Some("lock"));
    assert!(farm.effects.iter().any(|effect| matches!(effect, Effect::ResolveLock { .. })));
    farm.give(Input::LockResolved { build: served, lock: Arc::new(Lock::default()) }).unwrap();
    farm.pass(limits::CREDENTIALS_PATIENCE);
    let failure = farm.get(forgotten).failure.as_ref().unwrap();
    assert_eq!((failure.code.as_str(), farm.get(served).state), ("credentials_missing", BuildState::Running));
}

#[test]
fn a_hello_that_an_older_connection_left_under_way_takes_nothing_over() {
    let mut farm = Farm::default();
    let dialed = |dial: u64| Arc::new(WorkerOffer { dial, ..offer("a", AMD, 1) });
    let hello = |connection: u64, dial: u64, running: Vec<RunningAttempt>| Input::WorkerJoined {
        connection: ConnectionId(connection),
        offer: dialed(dial),
        running,
    };
    farm.give(hello(1, 1, Vec::new())).unwrap();
    let build = farm.build(plan(AMD));
    let running = vec![RunningAttempt { attempt: attempt(build, 0, 1), finished: false }];
    farm.give(hello(3, 3, running)).unwrap();
    assert_eq!(farm.give(hello(2, 2, Vec::new())), Err(Refusal::StaleConnection));
    assert_eq!(farm.job(build, 0), JobState::Running);
    // A new agent counts from the start again.
    let restarted = Arc::new(WorkerOffer { session_id: "next".to_owned(), dial: 1, ..offer("a", AMD, 1) });
    farm.give(Input::WorkerJoined { connection: ConnectionId(4), offer: restarted, running: Vec::new() })
        .unwrap();
}

#[test]
fn a_success_without_what_the_client_is_to_fetch_is_the_workers_fault() {
    for output in [Output::Oci, Output::Load, Output::Local, Output::Tar] {
        let mut farm = Farm::default();
        let connection = farm.join("a", AMD, 1);
        let build = farm.build(Plan { output, ..plan(AMD) });
        farm.leases();
        farm.end(connection, attempt(build, 0, 1), image());
        let first = farm.get(build).jobs[0].attempts[0].failure.clone().unwrap();
        assert_eq!(first.code, "result_incomplete", "{output:?}");
        assert_eq!(farm.job(build, 0), JobState::Leased, "it is tried again");
    }
}
