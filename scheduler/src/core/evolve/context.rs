//! Facts of contexts that are supplied in two parts.

use std::sync::Arc;

use archyard_model::{BuildId, ContextRef, EventKind, Plan};

use super::builds::change;
use crate::core::input::Moment;
use crate::core::state::State;
use crate::core::timers::Timer;

pub(super) fn missed(state: &mut State, moment: Moment, id: BuildId, reason: &str) {
    // Its lock is asked for again, with the whole context.
    state.live.lock_asked.remove(&id);
    state.live.timers.clear(&Timer::Lock(id));
    change(state, moment, id, |build| {
        build.lacks_context = true;
        build.waiting = Some(format!("its whole context from its client: {reason}"));
        build.say(moment.wall_ms, EventKind::ContextMissed { reason: reason.to_owned() });
    });
}

pub(super) fn awaited(state: &mut State, moment: Moment, id: BuildId) {
    state.live.context_awaited.insert(id);
    state.set_timer(Timer::Context(id), moment.since_start + state.live.times.credentials);
    state.refresh(id, moment.since_start);
}

pub(super) fn completed(state: &mut State, moment: Moment, id: BuildId, context: &ContextRef) {
    state.live.context_awaited.remove(&id);
    state.live.timers.clear(&Timer::Context(id));
    change(state, moment, id, |build| {
        build.lacks_context = false;
        build.waiting = None;
        build.plan = Arc::new(Plan { context: context.clone(), ..Plan::clone(&build.plan) });
    });
}
