//! Builds that read more of their source than their client sent.

use archyard_model::ContextRef;

use super::*;

fn partial() -> Plan {
    let plan = plan(&["linux/amd64", "linux/arm64"]);
    let context = ContextRef { partial: true, ..plan.context.clone() };
    Plan { context, ..plan }
}

fn whole() -> ContextRef {
    ContextRef { files: 7, ..testing::plan().context }
}

fn incomplete() -> Result<ImageResult, Failure> {
    broken(FailureClass::Infrastructure, "context_incomplete")
}

#[test]
fn a_base_that_reads_more_is_locked_again_with_the_whole_context() {
    let mut farm = Farm::default();
    farm.join("amd", &["linux/amd64"], 1);
    let build = farm.submit(partial(), false);
    farm.effects.clear();
    farm.give(Input::ContextIncomplete { build, reason: "ONBUILD COPY".to_owned() }).unwrap();
    let waiting = farm.get(build).waiting.clone();
    assert_eq!(waiting.as_deref(), Some("its whole context from its client: ONBUILD COPY"));
    assert!(farm.kinds(build).iter().any(|kind| matches!(kind, EventKind::ContextMissed { .. })));
    assert!(!farm.effects.iter().any(|effect| matches!(effect, Effect::ResolveLock { .. })));
    farm.give(Input::ContextSupplied { build, context: whole() }).unwrap();
    let plans = farm.effects.iter().filter_map(|effect| match effect {
        Effect::ResolveLock { plan, .. } => Some(plan.context.clone()),
        _ => None,
    });
    assert_eq!(plans.collect::<Vec<_>>(), [whole()]);
    farm.give(Input::LockResolved { build, lock: Arc::new(Lock::default()) }).unwrap();
    assert_eq!(farm.leases().len(), 1);
    assert_eq!(farm.get(build).waiting, None);
}

#[test]
fn a_worker_that_is_asked_for_more_gives_its_job_back_uncounted() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", &["linux/amd64"], 1);
    let arm = farm.join("arm", &["linux/arm64"], 1);
    let build = farm.build(partial());
    assert_eq!(farm.leases().len(), 2);
    farm.end(amd, attempt(build, 0, 1), incomplete());
    assert_eq!(farm.job(build, 0), JobState::Queued);
    assert!(farm.leases().is_empty(), "it was offered again before its context came");
    // The other job is none the wiser until it asks too.
    farm.end(arm, attempt(build, 1, 1), incomplete());
    let missed =
        farm.kinds(build).iter().filter(|kind| matches!(kind, EventKind::ContextMissed { .. })).count();
    assert_eq!(missed, 1);
    farm.give(Input::ContextSupplied { build, context: whole() }).unwrap();
    assert_eq!(farm.leases(), [(attempt(build, 0, 2), amd), (attempt(build, 1, 2), arm)]);
    assert_eq!(farm.get(build).job(0).unwrap().tries(), (1, 1));
    assert_eq!(farm.get(build).plan.context, whole());
}

#[test]
fn a_worker_that_asks_for_more_than_everything_fails_like_any_other() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", &["linux/amd64"], 1);
    let build = farm.build(plan(&["linux/amd64"]));
    for token in 1..=3 {
        farm.end(amd, attempt(build, 0, token), incomplete());
    }
    assert_eq!(farm.get(build).state, BuildState::Failed);
}

#[test]
fn a_client_that_does_not_send_the_rest_fails_its_build() {
    let mut farm = Farm::default();
    let build = farm.submit(partial(), false);
    farm.give(Input::ContextIncomplete { build, reason: "x".to_owned() }).unwrap();
    farm.pass(archyard_model::limits::CREDENTIALS_PATIENCE);
    let failed = farm.get(build);
    assert_eq!(failed.state, BuildState::Failed);
    assert_eq!(failed.failure.as_ref().unwrap().code, "context_missing");
    assert!(matches!(farm.give(Input::ContextSupplied { build, context: whole() }), Err(Refusal::Late(_))));
}

#[test]
fn the_whole_context_is_taken_once_and_only_when_it_is_missed() {
    let mut farm = Farm::default();
    let build = farm.submit(partial(), false);
    assert!(matches!(farm.give(Input::ContextSupplied { build, context: whole() }), Err(Refusal::Late(_))));
    farm.give(Input::ContextIncomplete { build, reason: "x".to_owned() }).unwrap();
    farm.give(Input::ContextSupplied { build, context: whole() }).unwrap();
    assert!(matches!(farm.give(Input::ContextSupplied { build, context: whole() }), Err(Refusal::Late(_))));
    let again = Input::ContextIncomplete { build, reason: "x".to_owned() };
    assert!(matches!(farm.give(again), Err(Refusal::Late(_))));
}
