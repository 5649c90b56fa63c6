//! Which job goes to which worker next.
//!
//! Spread first: the worker with the largest share of free slots, then the fewest attempts, then the one that ran
//! this project's platform last and has its cache warm, then the name. A job that is tried again goes back to its
//! warm worker, unless that worker was the reason.

use archyard_model::{AttemptId, FailureClass, ProjectName, WorkerName};

use super::build::Job;
use super::classes::Free;
use super::fact::Fact;
use super::lines::LineKey;
use super::state::State;

/// Failures that another attempt on the same worker would likely meet again.
const WORKERS_OWN: &[&str] = &["worker_lost", "lease_declined", "lease_unanswered", "lease_undelivered"];

/// The next lease, if a free worker fits a waiting job.
pub(super) fn next(state: &State) -> Option<Fact> {
    let (class, project) = state.live.classes.next()?;
    let lines = state.live.lines.iter().filter(|(line, _)| class.serves(line));
    let (queued, line) = lines
        .filter_map(|(line, waiting)| Some((waiting.first(project)?, line)))
        .min_by_key(|(queued, _)| *queued)?;
    let job = state.ledger.job(queued.job)?;
    let worker = choose(state, line, job, project)?;
    let attempt = AttemptId { job: queued.job, token: job.next_token() };
    Some(Fact::JobLeased { attempt, worker })
}

fn choose(state: &State, line: &LineKey, job: &Job, project: &ProjectName) -> Option<WorkerName> {
    let (keep, avoid) = history(job);
    if let Some(worker) = keep.filter(|worker| free(state, line, worker).is_some()) {
        return Some(worker.clone());
    }
    let fitting = |avoid: Option<&WorkerName>| -> Option<&Free> {
        state
            .live
            .classes
            .serving(line)
            .filter_map(|class| class.free().find(|free| Some(&free.worker) != avoid))
            .min()
    };
    let best = fitting(avoid).or_else(|| fitting(None))?;
    let warm = state.live.warm.get(&(project.clone(), job.platform.clone())).filter(|warm| {
        Some(*warm) != avoid
            && free(state, line, warm)
                .is_some_and(|free| free.share == best.share && free.running == best.running)
    });
    Some(warm.unwrap_or(&best.worker).clone())
}

/// The worker's place among the free ones, if it may get a job of this line.
fn free<'a>(state: &'a State, line: &LineKey, worker: &WorkerName) -> Option<&'a Free> {
    let worker = state.live.workers.get(worker)?;
    worker.class.as_ref().filter(|class| class.serves(line))?;
    worker.free.as_ref()
}

/// Where an earlier attempt's cache is warm, and which worker is better left alone.
fn history(job: &Job) -> (Option<&WorkerName>, Option<&WorkerName>) {
    let Some(last) = job.attempts.last() else { return (None, None) };
    let Some(failure) = last.failure.as_ref().filter(|f| f.class == FailureClass::Infrastructure) else {
        return (None, None);
    };
    let code = failure.code.as_str();
    if WORKERS_OWN.contains(&code) || code.starts_with("engine_") || code.starts_with("disk_") {
        (None, Some(&last.worker))
    } else {
        (Some(&last.worker), None)
    }
}
