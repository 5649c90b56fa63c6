//! Facts of the publisher, and of who may send it.

use archyard_model::{BuildId, BuildState, EventKind, Sha256, TagRecord};

use super::builds::change;
use crate::core::input::Moment;
use crate::core::policy;
use crate::core::state::{Order, State};
use crate::core::timers::Timer;

pub(super) fn started(state: &mut State, moment: Moment, id: BuildId) {
    if let Some(build) = state.ledger.builds.get(&id) {
        state.live.turns.begin(&build.moves, build.place(), id);
    }
    change(state, moment, id, |build| build.publishing = true);
}

pub(super) fn asked(state: &mut State, moment: Moment, id: BuildId) {
    state.live.orders.insert(id, Order::Out);
    let is_promotion = state.ledger.build(id).is_some_and(|build| build.promotion.is_some());
    let silence = policy::publish_silence(is_promotion);
    state.live.timers.set(Timer::Publish(id), moment.since_start + silence);
    state.refresh(id, moment.since_start);
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
        state.ledger.touch(id, &tag.tag);
    }
    change(state, moment, id, |build| {
        build.tags.push(tag.clone());
        build.say(moment.wall_ms, EventKind::TagMoved(tag.clone()));
    });
}

/// The tags are free for others; what still runs is on trial.
pub(super) fn published(state: &mut State, moment: Moment, id: BuildId) {
    state.live.orders.remove(&id);
    state.live.timers.clear(&Timer::Publish(id));
    state.ledger.release(id);
    change(state, moment, id, |build| {
        build.published = true;
        build.publishing = false;
        build.state = BuildState::Running;
    });
    state.leave_turns(id, moment.since_start);
}

pub(super) fn tried(state: &mut State, moment: Moment, id: BuildId) {
    let mut failures = 0;
    state.live.orders.insert(id, Order::Paused);
    change(state, moment, id, |build| {
        build.publish_failures += 1;
        failures = build.publish_failures;
    });
    state.live.timers.set(Timer::Publish(id), moment.since_start + policy::publish_pause(failures));
}
