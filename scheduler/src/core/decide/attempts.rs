//! What workers say of leases and attempts, and what silence about them means.

use archyard_model::{
    AttemptId, Failure, FailureClass, ImageResult, JobState, Output, SmokeOutcome, WorkerName, limits,
};

use super::context;
use super::workers::connected;
use crate::core::build::{Build, Job};
use crate::core::fact::{Fact, Verdict};
use crate::core::input::ConnectionId;
use crate::core::policy;
use crate::core::refusal::Refusal;
use crate::core::state::State;
use crate::core::times::spoken;

/// What a worker said of an attempt's log: its length in bytes, and why it is not whole.
pub(in crate::core) type Log = (u64, Option<String>);

/// The worker took its lease. If it is no longer its to take, it is told to stop.
pub(super) fn accepted(
    state: &State,
    connection: ConnectionId,
    attempt: AttemptId,
) -> Result<Vec<Fact>, Refusal> {
    let worker = connected(state, connection)?;
    let Some(job) = held(state, worker, attempt) else {
        return Ok(vec![Fact::StrayFound { worker: worker.clone(), attempt }]);
    };
    if job.state != JobState::Leased {
        return Err(Refusal::Late("the lease was accepted before"));
    }
    Ok(vec![Fact::AttemptStarted { attempt }, Fact::WorkerWilling { worker: worker.clone() }])
}

/// The worker declined: the job goes back, and the worker is left alone for a while.
pub(super) fn rejected(
    state: &State,
    connection: ConnectionId,
    attempt: AttemptId,
    code: &str,
    message: &str,
) -> Result<Vec<Fact>, Refusal> {
    let worker = connected(state, connection)?;
    let mut facts = vec![
        Fact::WorkerDeclined { worker: worker.clone() },
        Fact::SlotFreed { worker: worker.clone(), attempt },
    ];
    if held(state, worker, attempt).is_some_and(|job| job.state == JobState::Leased) {
        let text = if message.is_empty() { code } else { message };
        let failure = idle(format!("worker {worker} declined the lease: {text}"), "lease_declined");
        facts.extend(end_attempt(state, attempt, Err(failure), Log::default(), true));
    }
    Ok(facts)
}

/// A runner is done. Only the current token's word counts; the worker may forget it either way.
pub(super) fn ended(
    state: &State,
    connection: ConnectionId,
    attempt: AttemptId,
    outcome: Result<ImageResult, Failure>,
    log: Log,
) -> Result<Vec<Fact>, Refusal> {
    let worker = connected(state, connection)?.clone();
    let mut facts = Vec::new();
    if let Some(job) = held(state, &worker, attempt) {
        if job.state == JobState::Leased {
            facts.push(Fact::AttemptStarted { attempt });
        }
        facts.extend(end_attempt(state, attempt, outcome, log, false));
    }
    facts.push(Fact::SlotFreed { worker: worker.clone(), attempt });
    facts.push(Fact::ResultNoted { worker, attempt });
    Ok(facts)
}

/// A lease without an answer is taken back; the worker, should it begin after all, is told to stop.
pub(in crate::core) fn unanswered(state: &State, attempt: AttemptId) -> Vec<Fact> {
    let Some(worker) = holder(state, attempt) else { return Vec::new() };
    let patience = spoken(state.live.times.lease_answer);
    let failure =
        idle(format!("worker {worker} did not answer the lease within {patience}"), "lease_unanswered");
    let mut facts = end_attempt(state, attempt, Err(failure), Log::default(), true);
    facts.push(Fact::StrayFound { worker: worker.clone(), attempt });
    facts
}

/// A told attempt has not stopped: its job ends without the worker's word, its slot stays taken.
pub(in crate::core) fn unconfirmed(state: &State, attempt: AttemptId) -> Vec<Fact> {
    let Some(worker) = holder(state, attempt) else { return Vec::new() };
    let patience = spoken(state.live.times.lease);
    let failure = Failure::new(
        FailureClass::Canceled,
        "stop_unconfirmed",
        format!("worker {worker} did not confirm the stop within {patience}"),
    );
    end_attempt(state, attempt, Err(failure), Log::default(), false)
}

/// The end of a current attempt, with what it means for the job. `idle`: the lease never became a try.
pub(in crate::core) fn end_attempt(
    state: &State,
    attempt: AttemptId,
    outcome: Result<ImageResult, Failure>,
    (log_bytes, log_warning): Log,
    idle: bool,
) -> Vec<Fact> {
    let Some(build) = state.ledger.build(attempt.job.build) else { return Vec::new() };
    let Some(job) = build.job(attempt.job.index).filter(|_| build.is_current(attempt)) else {
        return Vec::new();
    };
    let outcome = outcome.and_then(|image| complete(build, image));
    let verdict = match &outcome {
        Ok(_) => Verdict::Succeeded,
        // The attempt is not counted: it could not have gone better.
        Err(failure) if context::is_missed(build, failure) && !job.stopping => Verdict::Requeue,
        Err(failure) => verdict(job, failure, idle),
    };
    let missed = outcome.as_ref().err().and_then(|failure| context::missed(build, failure));
    let mut facts = vec![Fact::AttemptEnded { attempt, outcome, log_bytes, log_warning, verdict }];
    facts.extend(missed);
    facts
}

fn verdict(job: &Job, failure: &Failure, idle: bool) -> Verdict {
    let (counted, idled) = job.tries();
    match failure.class {
        FailureClass::User => Verdict::Failed,
        FailureClass::Infrastructure | FailureClass::Canceled if job.stopping => Verdict::Canceled,
        FailureClass::Infrastructure if idle && idled + 1 < policy::IDLE_LEASES => Verdict::Requeue,
        // A running attempt is counted already; what its worker stopped unasked is tried again like any other.
        FailureClass::Infrastructure | FailureClass::Canceled if !idle && counted < limits::ATTEMPTS => {
            Verdict::Retry
        }
        FailureClass::Infrastructure | FailureClass::Canceled => Verdict::Failed,
    }
}

/// A success must hold what the plan asked for: a push without a manifest is the worker's fault.
fn complete(build: &Build, image: ImageResult) -> Result<ImageResult, Failure> {
    if build.plan.output.publishes() && image.manifest.is_none() {
        return Err(Failure::new(
            FailureClass::Infrastructure,
            "result_incomplete",
            "the worker reported success and named no pushed manifest; upgrade it",
        ));
    }
    // One that says nothing of them was not asked by a worker that knows them.
    if !build.plan.checks.smoke_tests.is_empty() && image.smoke == SmokeOutcome::NotAsked {
        return Err(Failure::new(
            FailureClass::Infrastructure,
            "result_incomplete",
            "the worker reported success and said nothing of the smoke tests; upgrade it",
        ));
    }
    if build.plan.output.returns() && !is_whole(build.plan.output, &image) {
        return Err(Failure::new(
            FailureClass::Infrastructure,
            "result_incomplete",
            "the worker reported success and did not leave what the client is to fetch; upgrade it",
        ));
    }
    Ok(image)
}

/// An image is its config, its layers and the manifest that was named; files are one tar.
fn is_whole(output: Output, image: &ImageResult) -> bool {
    if output.is_files() {
        return image.artifacts.len() == 1;
    }
    let last = image.artifacts.last().filter(|_| image.artifacts.len() > 1);
    last.zip(image.manifest.as_ref()).is_some_and(|(last, manifest)| last.digest == manifest.digest)
}

fn idle(message: String, code: &str) -> Failure {
    Failure::new(FailureClass::Infrastructure, code, message)
}

/// The job, if this worker holds its current token with this attempt.
fn held<'a>(state: &'a State, worker: &WorkerName, attempt: AttemptId) -> Option<&'a Job> {
    let build = state.ledger.build(attempt.job.build).filter(|build| build.is_current(attempt))?;
    build.job(attempt.job.index).filter(|job| job.current().is_some_and(|current| current.worker == *worker))
}

/// Who holds this attempt, if it is current.
fn holder(state: &State, attempt: AttemptId) -> Option<&WorkerName> {
    let job = state.ledger.job(attempt.job)?;
    job.current().filter(|current| current.token == attempt.token).map(|current| &current.worker)
}
