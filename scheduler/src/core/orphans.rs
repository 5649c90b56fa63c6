//! Lines that no worker serves: their watchers are told once, and their patience ends some day.
//!
//! A job whose build allows it goes to workers of another platform instead, and back as long as nobody has taken it,
//! should a native one come. A trial that its build does not wait for ends at once. What depends on who is absent waits
//! for the grace after a recovery: until then nobody knows.

use std::cmp::Reverse;
use std::time::Duration;

use archyard_model::{Failure, FailureClass, JobId, Platform};

use super::decide::no_worker;
use super::fact::{Fact, Verdict};
use super::input::Moment;
use super::lines::{Line, LineKey, Queued};
use super::policy;
use super::state::State;

/// What follows for the first line for which anything does.
pub(super) fn next(state: &State, moment: Moment) -> Vec<Fact> {
    let now = moment.since_start;
    let mut facts = state.live.lines.iter().map(|(key, line)| match &key.cross {
        Some(_) => back(state, now, key, line),
        None => orphaned(state, now, key, line),
    });
    facts.find(|facts| !facts.is_empty()).unwrap_or_default()
}

/// When something follows for this line by itself.
pub(super) fn deadline(state: &State, key: &LineKey, line: &Line) -> Option<Duration> {
    let since = line.orphaned()?;
    if key.cross.is_some() {
        return line.arrivals().next().map(|_| state.live.grace);
    }
    let crosses = line.crossable().next().is_some_and(|queued| builder(state, key, queued.job).is_some());
    let graced = crosses || line.unsaid().chain(line.dispensable()).next().is_some();
    let lost = line.arrivals().next().map(|(arrived, _)| patience(state, arrived, since));
    graced.then_some(state.live.grace).into_iter().chain(lost).min()
}

fn orphaned(state: &State, now: Duration, key: &LineKey, line: &Line) -> Vec<Fact> {
    let Some(since) = line.orphaned() else { return Vec::new() };
    let crosses = |queued: Queued| {
        let platform = builder(state, key, queued.job)?;
        Some(Fact::JobCrossed { job: queued.job, platform: Some(platform) })
    };
    let graced = now >= state.live.grace;
    if graced {
        let crossed: Vec<Fact> = line.crossable().take(policy::BURST).filter_map(crosses).collect();
        if !crossed.is_empty() {
            return crossed;
        }
    }
    let over = line.arrivals().take_while(|(arrived, _)| patience(state, *arrived, since) <= now);
    let over: Vec<Fact> =
        over.take(policy::BURST).flat_map(|(_, queued)| no_worker(state, queued.job)).collect();
    if !over.is_empty() || !graced {
        return over;
    }
    let dropped: Vec<Fact> = line
        .dispensable()
        .take(policy::BURST)
        .map(|queued| Fact::JobEnded {
            job: queued.job,
            verdict: Verdict::Failed,
            failure: Some(no_native_worker(&key.platform, queued.job)),
        })
        .collect();
    if !dropped.is_empty() {
        return dropped;
    }
    let said = |queued: Queued| Fact::JobWaiting {
        job: queued.job,
        reason: format!("no native worker for {}", key.platform),
    };
    line.unsaid().take(policy::BURST).map(said).collect()
}

/// Jobs that wait to be built elsewhere go back where they belong once somebody runs that, or nobody builds it any more.
fn back(state: &State, now: Duration, key: &LineKey, line: &Line) -> Vec<Fact> {
    let native = key.cross.as_ref().is_some_and(|platform| {
        state.live.classes.serve(&LineKey { pool: key.pool, platform: platform.clone(), cross: None })
    });
    if !native && (line.orphaned().is_none() || now < state.live.grace) {
        return Vec::new();
    }
    let home = |(_, queued): (_, Queued)| Fact::JobCrossed { job: queued.job, platform: None };
    line.arrivals().take(policy::BURST).map(home).collect()
}

/// The platform of the workers that build a job which nobody runs: on machines that its own build needs anyway if
/// there are such, and by what those machines call themselves, then where most workers are free.
fn builder(state: &State, key: &LineKey, job: JobId) -> Option<Platform> {
    let plan = &state.ledger.build(job.build)?.plan;
    let builders = state.live.classes.builders(key.pool, &key.platform);
    let best = builders.into_iter().max_by_key(|(platform, free)| {
        let host = platform.host();
        let needed = plan.platforms.iter().any(|asked| *asked != key.platform && asked.host() == host);
        (needed, *platform == host, *free, Reverse(platform.clone()))
    });
    best.map(|(platform, _)| platform)
}

fn patience(state: &State, arrived: Duration, since: Duration) -> Duration {
    arrived.max(since).saturating_add(state.live.times.no_worker)
}

fn no_native_worker(platform: &Platform, job: JobId) -> Failure {
    let text = format!(
        "no native worker for {platform} is known and the rest of the build is done; start `archyard worker` on such a \
         machine, then `archyard rerun {} --failed`",
        job.build
    );
    Failure::new(FailureClass::Infrastructure, "no_native_worker", text)
}
