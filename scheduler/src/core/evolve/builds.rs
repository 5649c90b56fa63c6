//! Facts of whole builds.

use std::sync::Arc;

use archyard_model::{BuildId, BuildState, EventKind, Failure, Lock, Principal};

use crate::core::build::{Build, Ending};
use crate::core::input::Moment;
use crate::core::policy;
use crate::core::state::State;
use crate::core::timers::Timer;

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

pub(super) fn ended(
    state: &mut State,
    moment: Moment,
    id: BuildId,
    end: BuildState,
    failure: Option<&Failure>,
) {
    forget(state, id);
    let Some(build) = state.ledger.builds.get(&id) else { return };
    if build.claims_tags() {
        state.ledger.release(id);
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
pub(super) fn change(state: &mut State, moment: Moment, id: BuildId, change: impl FnOnce(&mut Build)) {
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
    live.context_awaited.remove(&id);
    for timer in [Timer::Lock(id), Timer::Publish(id), Timer::Credentials(id), Timer::Context(id)] {
        live.timers.clear(&timer);
    }
}
