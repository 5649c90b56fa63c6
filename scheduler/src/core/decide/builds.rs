//! What clients, the resolver and the views say of builds.

use std::sync::Arc;

use archyard_model::{BuildId, BuildState, Failure, FailureClass, JobId, Lock, Principal, limits};

use crate::core::build::Build;
use crate::core::fact::{Fact, Verdict};
use crate::core::input::Submission;
use crate::core::refusal::Refusal;
use crate::core::state::State;
use crate::core::times::spoken;

/// A known request is the build it became; a new one is taken while there is room.
pub(super) fn submit(state: &State, submission: Submission) -> Result<Vec<Fact>, Refusal> {
    let Submission { build, request_id, principal, plan, pool, credentials } = submission;
    if let Some(known) = state.ledger.request(&principal, &request_id) {
        let known = state.ledger.build(known).filter(|build| credentials && !state.has_credentials(build));
        return Ok(known.map(present).unwrap_or_default());
    }
    if state.ledger.active >= limits::ACTIVE_BUILDS {
        return Err(Refusal::Full { what: "active builds", limit: limits::ACTIVE_BUILDS });
    }
    let needed = !plan.credential_hosts.is_empty();
    let mut facts = vec![Fact::BuildAccepted { build, request_id, principal, plan, pool }];
    if credentials && needed {
        facts.push(Fact::CredentialsPresent { build });
    }
    Ok(facts)
}

/// Supplying them again, or without need, is no error.
pub(super) fn credentials(state: &State, id: BuildId) -> Result<Vec<Fact>, Refusal> {
    let build = known(state, id)?;
    if build.state.is_terminal() || state.has_credentials(build) {
        return Ok(Vec::new());
    }
    Ok(present(build))
}

/// The first lock counts: all jobs and retries use the same.
pub(super) fn lock_resolved(state: &State, id: BuildId, lock: Arc<Lock>) -> Result<Vec<Fact>, Refusal> {
    waits_for_lock(state, id)?;
    Ok(vec![Fact::BuildLocked { build: id, lock }])
}

/// A base that cannot be had ends the build at once.
pub(super) fn lock_failed(state: &State, id: BuildId, failure: Failure) -> Result<Vec<Fact>, Refusal> {
    waits_for_lock(state, id)?;
    Ok(vec![Fact::BuildEnding { build: id, state: BuildState::Failed, failure: Some(failure) }])
}

/// Taken until the build publishes; asking again while it is ending is no error.
pub(super) fn cancel(
    state: &State,
    id: BuildId,
    principal: Principal,
    reason: String,
) -> Result<Vec<Fact>, Refusal> {
    let build = known(state, id)?;
    if build.state.is_terminal() || build.state == BuildState::Publishing {
        return Err(Refusal::NotCancelable { build: id, state: build.state });
    }
    if build.ending.is_some() {
        return Ok(Vec::new());
    }
    let mut message = format!("canceled by {principal}");
    if !reason.is_empty() {
        message = format!("{message}: {reason}");
    }
    let failure = Failure::new(FailureClass::Canceled, "canceled", message);
    Ok(vec![
        Fact::CancelRequested { build: id, principal, reason },
        Fact::BuildEnding { build: id, state: BuildState::Canceled, failure: Some(failure) },
    ])
}

/// Forgetting an ended build; forgetting it twice is no error.
pub(super) fn archived(state: &State, id: BuildId) -> Result<Vec<Fact>, Refusal> {
    match state.ledger.build(id) {
        None => Ok(Vec::new()),
        Some(build) if build.state.is_terminal() => Ok(vec![Fact::BuildArchived { build: id }]),
        Some(_) => Err(Refusal::Late("only an ended build can be archived")),
    }
}

/// A job's patience is at its end: no worker for its platform came.
pub(in crate::core) fn no_worker(state: &State, job: JobId) -> Vec<Fact> {
    let Some(platform) = state.ledger.job(job).map(|job| &job.platform) else { return Vec::new() };
    let patience = spoken(state.live.times.no_worker);
    let failure = Failure::new(
        FailureClass::Infrastructure,
        "no_worker",
        format!(
            "no native worker for {platform} joined within {patience}; start `archyard worker` on such a \
             machine, or leave the platform out"
        ),
    );
    vec![Fact::JobEnded { job, verdict: Verdict::Failed, failure: Some(failure) }]
}

fn present(build: &Build) -> Vec<Fact> {
    let mut facts = vec![Fact::CredentialsPresent { build: build.id }];
    if build.waiting.is_some() {
        let reason = if build.lock.is_none() { "lock" } else { "" };
        facts.push(Fact::BuildWaiting { build: build.id, reason: reason.to_owned() });
    }
    facts
}

fn waits_for_lock(state: &State, id: BuildId) -> Result<(), Refusal> {
    let build = known(state, id)?;
    if build.lock.is_some() || build.ending.is_some() || build.state != BuildState::Waiting {
        return Err(Refusal::Late("the build does not wait for a lock"));
    }
    Ok(())
}

fn known(state: &State, id: BuildId) -> Result<&Build, Refusal> {
    state.ledger.build(id).ok_or(Refusal::UnknownBuild(id))
}
