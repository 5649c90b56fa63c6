//! Facts of whole builds.

use std::sync::Arc;

use archyard_model::{
    AttemptId, BuildId, BuildState, EventKind, Failure, JobState, Lock, Plan, Pool, Principal, Reference,
    Sha256, TagRecord,
};

use crate::core::build::{Build, Ending, Job};
use crate::core::input::Moment;
use crate::core::ledger::{Header, RequestKey};
use crate::core::policy;
use crate::core::state::{Order, State};
use crate::core::timers::Timer;

pub(super) fn accepted(
    state: &mut State,
    moment: Moment,
    id: BuildId,
    request: RequestKey,
    plan: &Arc<Plan>,
    pool: Pool,
) {
    let sequence = state.ledger.header.next_sequence;
    state.ledger.header.next_sequence += 1;
    let mut build = Build {
        id,
        request_id: request.1,
        principal: request.0,
        plan: Arc::clone(plan),
        pool,
        accepted_ms: moment.wall_ms,
        sequence,
        state: BuildState::Waiting,
        waiting: Some("lock".to_owned()),
        lock: None,
        jobs: plan.platforms.iter().cloned().map(Job::new).collect(),
        ending: None,
        publishing: false,
        publish_failures: 0,
        index: None,
        tags: Vec::new(),
        failure: None,
        ended_ms: None,
        events: Vec::new(),
        origin: None,
    };
    let principal = build.principal.clone();
    build.say(moment.wall_ms, EventKind::Accepted { principal });
    insert(state, moment, build);
}

pub(super) fn restored(state: &mut State, moment: Moment, build: &Build) {
    insert(state, moment, build.clone());
    for (job, held) in build.jobs() {
        let Some(current) = held.current() else { continue };
        let attempt = AttemptId { job, token: current.token };
        super::attempts::occupy(state, moment, attempt, &current.worker);
        if held.stopping {
            state.set_timer(Timer::Stop(attempt), moment.since_start + state.live.times.lease);
        }
        if held.state == JobState::Running {
            state.live.timers.clear(&Timer::Answer(attempt));
        }
    }
}

fn insert(state: &mut State, moment: Moment, build: Build) {
    let id = build.id;
    let ledger = &mut state.ledger;
    ledger.requests.insert((build.principal.clone(), build.request_id.clone()), id);
    if !build.state.is_terminal() {
        ledger.active += 1;
    }
    if build.claims_tags() {
        for tag in &build.plan.tags {
            ledger.claims.entry(tag.clone()).or_default().insert((build.sequence, id));
        }
        if build.publishing {
            state.live.turns.begin(&build.plan.tags, build.sequence, id);
        }
    }
    ledger.builds.insert(id, build);
    state.refresh(id, moment.since_start);
}

pub(super) fn header_restored(state: &mut State, header: &Header) {
    state.ledger.header = header.clone();
    for (request, build) in &header.archived {
        state.ledger.requests.insert(request.clone(), *build);
    }
}

pub(super) fn waiting(state: &mut State, moment: Moment, id: BuildId, reason: &str) {
    change(state, moment, id, |build| {
        build.waiting = (!reason.is_empty()).then(|| reason.to_owned());
        if !reason.is_empty() {
            build.say(moment.wall_ms, EventKind::Waiting { reason: reason.to_owned() });
        }
    });
}

pub(super) fn locked(state: &mut State, moment: Moment, id: BuildId, lock: &Arc<Lock>) {
    state.live.lock_asked.remove(&id);
    state.live.timers.clear(&Timer::Lock(id));
    change(state, moment, id, |build| {
        build.lock = Some(Arc::clone(lock));
        build.state = BuildState::Running;
        build.waiting = None;
        build.say(moment.wall_ms, EventKind::Locked { lock: Lock::clone(lock) });
    });
}

pub(super) fn cancel_requested(
    state: &mut State,
    moment: Moment,
    id: BuildId,
    principal: &Principal,
    reason: &str,
) {
    let kind = EventKind::CancelRequested { principal: principal.clone(), reason: reason.to_owned() };
    change(state, moment, id, |build| build.say(moment.wall_ms, kind));
}

pub(super) fn ending(
    state: &mut State,
    moment: Moment,
    id: BuildId,
    end: BuildState,
    failure: Option<&Failure>,
) {
    forget(state, id);
    change(state, moment, id, |build| {
        build.ending = Some(Ending { state: end, failure: failure.cloned() });
    });
}

pub(super) fn publish_started(state: &mut State, moment: Moment, id: BuildId) {
    if let Some(build) = state.ledger.builds.get(&id) {
        state.live.turns.begin(&build.plan.tags, build.sequence, id);
    }
    change(state, moment, id, |build| build.publishing = true);
}

pub(super) fn index_prepared(state: &mut State, moment: Moment, id: BuildId, index: Sha256, size: u64) {
    change(state, moment, id, |build| {
        build.index = Some((index, size));
        build.state = BuildState::Publishing;
        build.say(moment.wall_ms, EventKind::Publishing { index, size });
    });
}

pub(super) fn tag_settled(state: &mut State, moment: Moment, id: BuildId, tag: &TagRecord) {
    if tag.moved {
        tag_touched(state, id, &tag.tag);
    }
    change(state, moment, id, |build| {
        build.tags.push(tag.clone());
        build.say(moment.wall_ms, EventKind::TagMoved(tag.clone()));
    });
}

pub(super) fn tag_touched(state: &mut State, id: BuildId, tag: &Reference) {
    let Some(build) = state.ledger.builds.get(&id) else { return };
    let moved = state.ledger.header.moved.entry(tag.clone()).or_insert((build.sequence, id));
    *moved = (*moved).max((build.sequence, id));
}

pub(super) fn publish_tried(state: &mut State, moment: Moment, id: BuildId) {
    let mut failures = 0;
    state.live.orders.insert(id, Order::Paused);
    change(state, moment, id, |build| {
        build.publish_failures += 1;
        failures = build.publish_failures;
    });
    state.live.timers.set(Timer::Publish(id), moment.since_start + policy::publish_pause(failures));
}

pub(super) fn ended(
    state: &mut State,
    moment: Moment,
    id: BuildId,
    end: BuildState,
    failure: Option<&Failure>,
) {
    forget(state, id);
    let Some(build) = state.ledger.builds.get_mut(&id) else { return };
    if build.plan.output.publishes() {
        for tag in &build.plan.tags {
            let Some(claims) = state.ledger.claims.get_mut(tag) else { continue };
            claims.remove(&(build.sequence, id));
            // Builds to come have larger sequences: nobody is left whom the tag must be kept from.
            if claims.is_empty() {
                state.ledger.claims.remove(tag);
                state.ledger.header.moved.remove(tag);
            }
        }
    }
    state.ledger.active -= 1;
    state.live.credentials.remove(&id);
    change(state, moment, id, |build| {
        build.state = end;
        build.ending = None;
        build.publishing = false;
        build.waiting = None;
        build.failure = failure.cloned();
        build.ended_ms = Some(moment.wall_ms);
        let index = build.index;
        build.say(moment.wall_ms, EventKind::Ended { state: end, failure: failure.cloned(), index });
    });
    state.leave_turns(id, moment.since_start);
}

pub(super) fn archived(state: &mut State, id: BuildId) {
    state.live.archiving.remove(&id);
    state.live.due.remove(&id);
    let Some(build) = state.ledger.builds.remove(&id) else { return };
    let archived = &mut state.ledger.header.archived;
    archived.push_back(((build.principal, build.request_id), id));
    while archived.len() > policy::ARCHIVED_REQUESTS {
        if let Some((request, _)) = archived.pop_front() {
            state.ledger.requests.remove(&request);
        }
    }
}

pub(super) fn credentials_present(state: &mut State, moment: Moment, id: BuildId) {
    state.live.credentials.insert(id);
    state.live.credentials_missed.remove(&id);
    state.live.timers.clear(&Timer::Credentials(id));
    state.refresh(id, moment.since_start);
}

pub(super) fn credentials_missed(state: &mut State, moment: Moment, id: BuildId) {
    state.live.credentials_missed.insert(id);
    let at = moment.since_start + state.live.times.credentials;
    state.live.timers.set(Timer::Credentials(id), at);
    state.refresh(id, moment.since_start);
}

pub(super) fn lock_asked(state: &mut State, moment: Moment, id: BuildId) {
    *state.live.lock_asked.entry(id).or_default() += 1;
    state.live.timers.set(Timer::Lock(id), moment.since_start + policy::LOCK_SILENCE);
    state.refresh(id, moment.since_start);
}

pub(super) fn publish_asked(state: &mut State, moment: Moment, id: BuildId) {
    state.live.orders.insert(id, Order::Out);
    state.live.timers.set(Timer::Publish(id), moment.since_start + policy::PUBLISH_SILENCE);
    state.refresh(id, moment.since_start);
}

pub(super) fn archive_asked(state: &mut State, moment: Moment, id: BuildId) {
    state.live.archiving.insert(id);
    state.refresh(id, moment.since_start);
}

pub(super) fn timer_passed(state: &mut State, moment: Moment, timer: &Timer) {
    state.live.timers.clear(timer);
    if let Timer::Publish(id) = timer {
        state.live.orders.remove(id);
        state.refresh(*id, moment.since_start);
    }
}

/// Changes a build, then brings what follows from it up to date.
fn change(state: &mut State, moment: Moment, id: BuildId, change: impl FnOnce(&mut Build)) {
    let Some(build) = state.ledger.builds.get_mut(&id) else { return };
    change(build);
    state.refresh(id, moment.since_start);
}

/// Deadlines and questions that an ending build no longer has.
fn forget(state: &mut State, id: BuildId) {
    let live = &mut state.live;
    live.lock_asked.remove(&id);
    live.orders.remove(&id);
    live.credentials_missed.remove(&id);
    for timer in [Timer::Lock(id), Timer::Publish(id), Timer::Credentials(id)] {
        live.timers.clear(&timer);
    }
}
