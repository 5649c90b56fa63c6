//! Facts of jobs and their attempts.

use archyard_model::{AttemptId, EventKind, Failure, ImageResult, JobId, JobState, Platform, WorkerName};

use crate::core::build::{Attempt, Build, Job};
use crate::core::fact::Verdict;
use crate::core::input::Moment;
use crate::core::policy;
use crate::core::state::State;
use crate::core::timers::Timer;

pub(super) fn waiting(state: &mut State, moment: Moment, id: JobId, reason: &str) {
    change(state, moment, id, |build, index| {
        build.jobs[index].waiting = Some(reason.to_owned());
        build.say(moment.wall_ms, EventKind::JobWaiting { job: id.index, reason: reason.to_owned() });
    });
}

/// The job stands in another line from here on.
pub(super) fn crossed(state: &mut State, moment: Moment, id: JobId, builder: Option<&Platform>) {
    state.dequeue(id);
    change(state, moment, id, |build, index| {
        let held = &mut build.jobs[index];
        held.cross = builder.cloned();
        held.waiting = None;
        let Some(builder) = builder else { return };
        let reason = format!(
            "no native worker for {}; goes to one of {builder}, as the build allows, and is not run there",
            held.platform
        );
        build.say(moment.wall_ms, EventKind::JobWaiting { job: id.index, reason });
    });
}

pub(super) fn leased(state: &mut State, moment: Moment, attempt: AttemptId, worker: &WorkerName) {
    let job = attempt.job;
    let AttemptId { token, .. } = attempt;
    change(state, moment, job, |build, index| {
        let held = &mut build.jobs[index];
        held.state = JobState::Leased;
        held.waiting = None;
        held.attempts.push(Attempt {
            token,
            worker: worker.clone(),
            started_ms: moment.wall_ms,
            ended_ms: None,
            failure: None,
            log_bytes: 0,
            log_warning: None,
            counted: true,
        });
        let kind = EventKind::JobLeased { job: job.index, token, worker: worker.clone() };
        build.say(moment.wall_ms, kind);
    });
    occupy(state, moment, attempt, worker);
    warm(state, job, worker);
}

/// A worker has this attempt: the slot, the count and the answer's deadline.
pub(super) fn occupy(state: &mut State, moment: Moment, attempt: AttemptId, worker: &WorkerName) {
    let known = state.live.workers.contains_key(worker);
    state.live.workers.entry(worker.clone()).or_default().occupied.insert(attempt, 0);
    if !known {
        // Known from the ledger only: it has a full lease to say Hello.
        state.set_timer(Timer::Worker(worker.clone()), moment.since_start + state.live.times.lease);
    }
    state.set_timer(Timer::Answer(attempt), moment.since_start + state.live.times.lease_answer);
    state.count(attempt.job, true, moment.since_start);
    state.replace(worker);
}

pub(super) fn started(state: &mut State, moment: Moment, attempt: AttemptId) {
    state.live.timers.clear(&Timer::Answer(attempt));
    change(state, moment, attempt.job, |build, index| {
        let held = &mut build.jobs[index];
        held.state = JobState::Running;
        let Some(current) = held.attempts.last() else { return };
        let (token, worker) = (current.token, current.worker.clone());
        build.say(moment.wall_ms, EventKind::JobStarted { job: attempt.job.index, token, worker });
    });
}

pub(super) fn stopping(state: &mut State, moment: Moment, job: JobId) {
    let mut told = None;
    change(state, moment, job, |build, index| {
        let held = &mut build.jobs[index];
        held.stopping = true;
        told = held.current().map(|current| AttemptId { job, token: current.token });
    });
    if let Some(attempt) = told {
        state.set_timer(Timer::Stop(attempt), moment.since_start + state.live.times.lease);
    }
}

pub(super) fn ended(
    state: &mut State,
    moment: Moment,
    attempt: AttemptId,
    outcome: &Result<ImageResult, Failure>,
    (log_bytes, log_warning): (u64, Option<&String>),
    verdict: Verdict,
) {
    if !state.ledger.is_current(attempt) {
        return;
    }
    state.live.timers.clear(&Timer::Answer(attempt));
    state.live.timers.clear(&Timer::Stop(attempt));
    state.count(attempt.job, false, moment.since_start);
    let failure = outcome.as_ref().err().cloned();
    let mut worker = None;
    change(state, moment, attempt.job, |build, index| {
        let held = &mut build.jobs[index];
        let Some(current) = held.attempts.last_mut() else { return };
        current.ended_ms = Some(moment.wall_ms);
        current.failure.clone_from(&failure);
        current.log_bytes = log_bytes;
        current.log_warning = log_warning.cloned();
        current.counted = verdict != Verdict::Requeue;
        let (token, by) = (current.token, current.worker.clone());
        worker = Some(by.clone());
        held.stopping = false;
        held.state = JobState::Queued;
        let will_retry = matches!(verdict, Verdict::Retry | Verdict::Requeue);
        let job = attempt.job.index;
        let kind = EventKind::AttemptEnded { job, token, worker: by, failure: failure.clone(), will_retry };
        build.say(moment.wall_ms, kind);
        close(build, index, moment, job, verdict, outcome.as_ref().ok().cloned(), failure);
    });
    // A worker that only the ledger knows will list what it has; one that is connected confirms each slot.
    let unseen = |name: &WorkerName| state.live.workers.get(name).is_some_and(|w| w.offer.is_none());
    if let Some(name) = worker.filter(unseen) {
        super::workers::slot_freed(state, &name, attempt);
    }
}

pub(super) fn job_ended(
    state: &mut State,
    moment: Moment,
    id: JobId,
    verdict: Verdict,
    failure: Option<&Failure>,
) {
    change(state, moment, id, |build, index| {
        close(build, index, moment, id.index, verdict, None, failure.cloned());
    });
}

/// A job's terminal state, if the verdict is one.
fn close(
    build: &mut Build,
    index: usize,
    moment: Moment,
    job: u16,
    verdict: Verdict,
    result: Option<ImageResult>,
    failure: Option<Failure>,
) {
    let state = match verdict {
        Verdict::Succeeded => JobState::Succeeded,
        Verdict::Failed => JobState::Failed,
        Verdict::Canceled => JobState::Canceled,
        Verdict::Retry | Verdict::Requeue => return,
    };
    let held: &mut Job = &mut build.jobs[index];
    held.state = state;
    held.waiting = None;
    held.result.clone_from(&result);
    held.failure.clone_from(&failure);
    build.say(moment.wall_ms, EventKind::JobEnded { job, state, result, failure });
}

fn warm(state: &mut State, job: JobId, worker: &WorkerName) {
    let Some(build) = state.ledger.builds.get(&job.build) else { return };
    let Some(platform) = build.job(job.index).map(|held| held.platform.clone()) else { return };
    if state.live.warm.len() >= policy::WARM_HINTS {
        state.live.warm.clear();
    }
    state.live.warm.insert((build.plan.project.clone(), platform), worker.clone());
}

/// Changes a job's build, then brings what follows from it up to date.
fn change(state: &mut State, moment: Moment, job: JobId, change: impl FnOnce(&mut Build, usize)) {
    let index = usize::from(job.index);
    let Some(build) = state.ledger.builds.get_mut(&job.build).filter(|build| index < build.jobs.len()) else {
        return;
    };
    change(build, index);
    state.refresh(job.build, moment.since_start);
}
