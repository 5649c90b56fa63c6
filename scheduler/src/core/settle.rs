//! What follows from the state alone: one consequence at a time, until there is none.
//!
//! Builds first (their next step), then deadlines that have passed, then what watchers must be told, then leases. Each
//! consequence changes the state so that it does not follow again.

use archyard_model::{BuildId, BuildState, Failure, FailureClass, JobState, TagRecord, WorkerName};

use super::build::Build;
use super::decide::{end_attempt, publish_failed, unanswered, unconfirmed};
use super::due::{self, Step};
use super::fact::{Fact, Verdict};
use super::input::Moment;
use super::orphans;
use super::placement;
use super::policy;
use super::state::{Order, State};
use super::timers::Timer;
use super::times::spoken;

/// The next consequence; empty when all is quiet.
pub fn settle(state: &State, moment: Moment) -> Vec<Fact> {
    // A build found due can have lost its turn to another since: it stays listed until it has it again.
    let due = state.live.due.iter().filter_map(|id| state.ledger.build(*id));
    if let Some((build, step)) = due.filter_map(|build| Some((build, due::step(state, build)?))).next() {
        return take(state, build, step);
    }
    if let Some((_, timer)) = state.live.timers.first().filter(|(at, _)| *at <= moment.since_start) {
        let facts = fall_due(state, moment, timer);
        return if facts.is_empty() { vec![Fact::TimerPassed { timer: timer.clone() }] } else { facts };
    }
    let orphans = orphans::next(state, moment);
    if !orphans.is_empty() {
        return orphans;
    }
    placement::next(state).into_iter().collect()
}

fn take(state: &State, build: &Build, step: Step) -> Vec<Fact> {
    let id = build.id;
    match step {
        Step::Stop => stop(build),
        Step::End => end(build),
        Step::Fail => vec![fail(build)],
        Step::MissCredentials => miss_credentials(build),
        Step::AwaitContext => vec![Fact::ContextAwaited { build: id }],
        Step::AskLock => vec![Fact::LockAsked { build: id, again: false }],
        Step::Succeed => {
            vec![Fact::BuildEnded { build: id, state: build.good_end(), failure: None }]
        }
        Step::BeginPublish => vec![Fact::PublishStarted { build: id }],
        Step::AskPublish => {
            debug_assert!(!state.live.orders.contains_key(&id));
            vec![Fact::PublishAsked { build: id }]
        }
        Step::AskArchive => vec![Fact::ArchiveAsked { build: id }],
    }
}

/// What waits is canceled at once; what runs is told, and its confirmation awaited.
fn stop(build: &Build) -> Vec<Fact> {
    let reason = match &build.ending {
        Some(ending) => ending.failure.as_ref().map(|failure| failure.message.clone()).unwrap_or_default(),
        None => String::new(),
    };
    let mut facts = Vec::new();
    for (id, job) in build.jobs() {
        if job.current().is_some() && !job.stopping {
            facts.push(Fact::JobStopping { job: id, reason: reason.clone() });
        } else if job.state == JobState::Queued {
            facts.push(Fact::JobEnded { job: id, verdict: Verdict::Canceled, failure: None });
        }
    }
    facts
}

/// The terminal state. Tags move in order, so of those that are open only the first can have been touched: whether
/// it was, nobody knows.
fn end(build: &Build) -> Vec<Fact> {
    let Some(ending) = &build.ending else { return Vec::new() };
    let mut facts = Vec::new();
    if build.publishing {
        let why = ending.failure.as_ref().map_or("the build was canceled", |failure| &failure.message);
        for (at, tag) in build.open_tags().enumerate() {
            let mut detail = why.to_owned();
            if at == 0 && build.index.is_some() {
                facts.push(Fact::TagTouched { build: build.id, tag: tag.clone() });
                detail = format!("it may have moved all the same: {why}");
            }
            let tag = TagRecord { tag: tag.clone(), moved: false, detail };
            facts.push(Fact::TagSettled { build: build.id, tag });
        }
    }
    // Who stopped the trials of a build that has all it was asked for did not make it fail.
    let failure = ending.failure.clone().filter(|_| !ending.state.is_success());
    facts.push(Fact::BuildEnded { build: build.id, state: ending.state, failure });
    facts
}

/// One required job's failure is its build's, said with its platform.
fn fail(build: &Build) -> Fact {
    let failed = build.required().find(|job| job.state == JobState::Failed);
    let failure = failed.and_then(|job| {
        let failure = job.failure.as_ref()?;
        let tries = job.attempts.iter().filter(|attempt| attempt.counted).count();
        let mut message = format!("{}: {}", job.platform, failure.message);
        if failure.class == FailureClass::Infrastructure && tries > 1 {
            message = format!("{message} (tried {tries} times)");
        }
        let named = Failure::new(failure.class, failure.code.clone(), message);
        Some(Failure { exit_code: failure.exit_code, ..named.with_detail(failure.detail.clone()) })
    });
    Fact::BuildEnding { build: build.id, state: BuildState::Failed, failure }
}

fn miss_credentials(build: &Build) -> Vec<Fact> {
    let reason = format!("credentials for {}", build.plan.credential_hosts.join(", "));
    let mut facts = vec![Fact::CredentialsMissed { build: build.id }];
    if build.waiting.as_ref() != Some(&reason) {
        facts.push(Fact::BuildWaiting { build: build.id, reason });
    }
    facts
}

fn fall_due(state: &State, moment: Moment, timer: &Timer) -> Vec<Fact> {
    match timer {
        Timer::Worker(name) => silent(state, moment, name),
        Timer::Answer(attempt) => unanswered(state, *attempt),
        Timer::Stop(attempt) => unconfirmed(state, *attempt),
        Timer::Credentials(build) => {
            let patience = spoken(state.live.times.credentials);
            let text = format!(
                "its client did not supply its registry credentials within {patience}; keep the client \
                 running, or let it attach again"
            );
            give_up(state, *build, Failure::new(FailureClass::Infrastructure, "credentials_missing", text))
        }
        Timer::Context(build) => {
            let patience = spoken(state.live.times.credentials);
            let text = format!(
                "it reads more of its source than its client sent, and the client did not send the rest within \
                 {patience}; keep the client running, or build again"
            );
            give_up(state, *build, Failure::new(FailureClass::Infrastructure, "context_missing", text))
        }
        Timer::Lock(build) => {
            let asked = state.live.lock_asked.get(build).copied().unwrap_or_default();
            if asked < policy::LOCK_TRIES {
                return vec![Fact::LockAsked { build: *build, again: true }];
            }
            let text = "resolving the base images gave no answer; look at the scheduler's log";
            give_up(state, *build, Failure::new(FailureClass::Infrastructure, "lock_unanswered", text))
        }
        Timer::Publish(id) => match (state.live.orders.get(id), state.ledger.build(*id)) {
            (Some(Order::Out), Some(build)) => {
                let text = "the publisher gave no answer; look at the scheduler's log";
                let failure = Failure::new(FailureClass::Infrastructure, "publish_unanswered", text);
                publish_failed(build, failure, true)
            }
            // The pause is over: the order is due again, if the build has all that it needs.
            _ => Vec::new(),
        },
    }
}

/// The build cannot go on. One that only waits for trials has all that it was asked for all the same.
fn give_up(state: &State, id: BuildId, failure: Failure) -> Vec<Fact> {
    let Some(build) = state.ledger.build(id) else { return Vec::new() };
    if !build.is_delivered() {
        return vec![Fact::BuildEnding { build: id, state: BuildState::Failed, failure: Some(failure) }];
    }
    let queued = build.jobs().filter(|(_, job)| job.state == JobState::Queued);
    let mut facts: Vec<Fact> = queued
        .map(|(job, _)| Fact::JobEnded { job, verdict: Verdict::Failed, failure: Some(failure.clone()) })
        .collect();
    facts.push(Fact::BuildEnding { build: id, state: build.good_end(), failure: Some(failure) });
    facts
}

/// A worker's deadline: heard meanwhile, or lost with all it ran, or lost so long ago that it is left out.
fn silent(state: &State, moment: Moment, name: &WorkerName) -> Vec<Fact> {
    let Some(worker) = state.live.workers.get(name) else { return Vec::new() };
    if worker.lost {
        return vec![Fact::WorkerForgotten { worker: name.clone() }];
    }
    if worker.heard + state.live.times.lease > moment.since_start {
        return vec![Fact::WorkerAlive { worker: name.clone() }];
    }
    let failure = Failure::new(
        FailureClass::Infrastructure,
        "worker_lost",
        format!("worker {name} was silent for {}", spoken(state.live.times.lease)),
    );
    let mut facts = vec![Fact::WorkerLost { worker: name.clone(), connection: worker.connection }];
    for attempt in worker.occupied.keys() {
        facts.extend(end_attempt(state, *attempt, Err(failure.clone()), Default::default(), false));
    }
    facts
}
