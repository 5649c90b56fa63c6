//! What clients, the resolver and the views say of builds.

use std::sync::Arc;

use archyard_model::{
    BuildId, BuildState, Failure, FailureClass, JobId, JobState, Lock, Output, Plan, Principal, Reference,
    limits,
};

use crate::core::build::Build;
use crate::core::fact::{Fact, Verdict};
use crate::core::heritage::Heritage;
use crate::core::input::Submission;
use crate::core::refusal::Refusal;
use crate::core::state::State;
use crate::core::times::spoken;

/// A known request is the build it became; a new one is taken while there is room.
pub(super) fn submit(state: &State, submission: Submission) -> Result<Vec<Fact>, Refusal> {
    let Submission { build, request_id, principal, plan, pool, credentials, heritage, lock } = submission;
    if let Some(known) = state.ledger.request(&principal, &request_id) {
        let known = state.ledger.build(known).filter(|build| credentials && !state.has_credentials(build));
        return Ok(known.map(present).unwrap_or_default());
    }
    if state.ledger.active >= limits::ACTIVE_BUILDS {
        return Err(Refusal::Full { what: "active builds", limit: limits::ACTIVE_BUILDS });
    }
    if let Some(tag) = heritage.as_ref().and_then(|heritage| forgotten(state, &plan, heritage)) {
        let build = heritage.map_or(build, |heritage| heritage.origin.build);
        return Err(Refusal::TagsForgotten { build, tag: Box::new(tag) });
    }
    let needed = !plan.credential_hosts.is_empty();
    let mut facts = vec![Fact::BuildAccepted { build, request_id, principal, plan, pool, heritage }];
    if credentials && needed {
        facts.push(Fact::CredentialsPresent { build });
    }
    facts.extend(lock.map(|lock| Fact::BuildLocked { build, lock }));
    Ok(facts)
}

/// A tag that a rerun could move back, for nobody remembers whether a newer build has moved it. A candidate's bears its
/// own name.
fn forgotten(state: &State, plan: &Plan, heritage: &Heritage) -> Option<Reference> {
    let place =
        heritage.tag_sequence.filter(|_| plan.output == Output::Push && heritage.published.is_none())?;
    plan.tags.iter().find(|tag| state.ledger.is_forgotten(tag, place)).cloned()
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

/// A base that cannot be had for a platform on trial ends that job alone. Said again after a crash it is no error.
pub(super) fn trial_refused(
    state: &State,
    id: BuildId,
    index: u16,
    failure: Failure,
) -> Result<Vec<Fact>, Refusal> {
    let build = waits_for_lock(state, id)?;
    let job = build.job(index).filter(|_| build.plan.is_trial(index));
    match job.map(|job| job.state) {
        None => Err(Refusal::Late("the job is not on trial")),
        Some(JobState::Queued) => {
            let job = JobId { build: id, index };
            Ok(vec![Fact::JobEnded { job, verdict: Verdict::Failed, failure: Some(failure) }])
        }
        Some(_) => Ok(Vec::new()),
    }
}

/// A base that cannot be had ends the build at once.
pub(super) fn lock_failed(state: &State, id: BuildId, failure: Failure) -> Result<Vec<Fact>, Refusal> {
    waits_for_lock(state, id)?;
    Ok(vec![Fact::BuildEnding { build: id, state: BuildState::Failed, failure: Some(failure) }])
}

/// Taken until the build publishes; asking again while it is ending is no error. Of a build that has all it was asked
/// for only the trials are stopped.
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
    let end = if build.is_delivered() { build.good_end() } else { BuildState::Canceled };
    Ok(vec![
        Fact::CancelRequested { build: id, principal, reason },
        Fact::BuildEnding { build: id, state: end, failure: Some(failure) },
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

pub(super) fn waits_for_lock(state: &State, id: BuildId) -> Result<&Build, Refusal> {
    let build = known(state, id)?;
    if build.lock.is_some() || build.ending.is_some() || build.state != BuildState::Waiting {
        return Err(Refusal::Late("the build does not wait for a lock"));
    }
    Ok(build)
}

pub(super) fn known(state: &State, id: BuildId) -> Result<&Build, Refusal> {
    state.ledger.build(id).ok_or(Refusal::UnknownBuild(id))
}
