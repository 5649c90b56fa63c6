//! Facts of workers. All but the drain mark live only as long as this process.

use std::sync::Arc;

use archyard_model::{AttemptId, Principal, WorkerName, WorkerOffer};

use crate::core::classes::ClassKey;
use crate::core::input::{ConnectionId, Moment};
use crate::core::policy;
use crate::core::state::State;
use crate::core::timers::Timer;
use crate::core::worker::Worker;

pub(super) fn drain_marked(state: &mut State, worker: &WorkerName, principal: &Principal, draining: bool) {
    if draining {
        state.ledger.drained.insert(worker.clone(), principal.clone());
    } else {
        state.ledger.drained.remove(worker);
    }
    state.replace(worker);
}

pub(super) fn joined(
    state: &mut State,
    moment: Moment,
    connection: ConnectionId,
    replaces: Option<ConnectionId>,
    offer: &Arc<WorkerOffer>,
    adopt: &[AttemptId],
    stop: &[AttemptId],
) {
    let name = &offer.name;
    leave_class(state, name, moment);
    if let Some(old) = replaces {
        state.live.connections.remove(&old);
    }
    state.live.connections.insert(connection, name.clone());
    let worker = Worker {
        offer: Some(Arc::clone(offer)),
        connection: Some(connection),
        connected_ms: moment.wall_ms,
        heard: moment.since_start,
        wish: offer.draining,
        occupied: adopt.iter().chain(stop).map(|attempt| (*attempt, 0)).collect(),
        ..Worker::default()
    };
    state.live.workers.insert(name.clone(), worker);
    state.set_timer(Timer::Worker(name.clone()), moment.since_start + state.live.times.lease);
    join_class(state, name, offer, moment);
    state.replace(name);
}

pub(super) fn heard(
    state: &mut State,
    moment: Moment,
    name: &WorkerName,
    problem: Option<&String>,
    missing: &[AttemptId],
) {
    let Some(worker) = state.live.workers.get_mut(name) else { return };
    worker.heard = moment.since_start;
    worker.problem = problem.cloned();
    worker.skip = worker.skip.saturating_sub(1);
    for (attempt, missed) in &mut worker.occupied {
        *missed = if missing.contains(attempt) { missed.saturating_add(1) } else { 0 };
    }
    state.replace(name);
}

pub(super) fn left(state: &mut State, name: &WorkerName, connection: ConnectionId) {
    state.live.connections.remove(&connection);
    if let Some(worker) = state.live.workers.get_mut(name) {
        worker.connection = None;
    }
    state.replace(name);
}

pub(super) fn lost(state: &mut State, moment: Moment, name: &WorkerName, connection: Option<ConnectionId>) {
    leave_class(state, name, moment);
    if let Some(connection) = connection {
        state.live.connections.remove(&connection);
    }
    if let Some(worker) = state.live.workers.get_mut(name) {
        worker.lost = true;
        worker.connection = None;
        worker.occupied.clear();
    }
    state.live.timers.set(Timer::Worker(name.clone()), moment.since_start + policy::LOST_KEPT);
}

pub(super) fn forgotten(state: &mut State, name: &WorkerName) {
    state.live.timers.clear(&Timer::Worker(name.clone()));
    state.live.workers.remove(name);
}

pub(super) fn wish(state: &mut State, name: &WorkerName, draining: bool) {
    if let Some(worker) = state.live.workers.get_mut(name) {
        worker.wish = draining;
    }
    state.replace(name);
}

pub(super) fn willing(state: &mut State, name: &WorkerName) {
    if let Some(worker) = state.live.workers.get_mut(name) {
        worker.declined = 0;
    }
}

pub(super) fn declined(state: &mut State, name: &WorkerName) {
    if let Some(worker) = state.live.workers.get_mut(name) {
        worker.skip = (1 << worker.declined.min(16)).min(policy::DECLINED_SKIP_MAX);
        worker.declined += 1;
    }
    state.replace(name);
}

pub(super) fn alive(state: &mut State, name: &WorkerName) {
    if let Some(worker) = state.live.workers.get(name) {
        let at = worker.heard + state.live.times.lease;
        state.set_timer(Timer::Worker(name.clone()), at);
    }
}

pub(super) fn slot_freed(state: &mut State, name: &WorkerName, attempt: AttemptId) {
    if let Some(worker) = state.live.workers.get_mut(name) {
        worker.occupied.remove(&attempt);
    }
    state.replace(name);
}

pub(super) fn stray_found(state: &mut State, name: &WorkerName, attempt: AttemptId) {
    if let Some(worker) = state.live.workers.get_mut(name) {
        worker.occupied.entry(attempt).or_default();
    }
    state.replace(name);
}

fn join_class(state: &mut State, name: &WorkerName, offer: &WorkerOffer, moment: Moment) {
    let class = ClassKey::new(offer);
    state.live.classes.join(&class, &state.live.lines);
    state.live.lines.serve(&class, moment.since_start, |_| true);
    if let Some(worker) = state.live.workers.get_mut(name) {
        worker.class = Some(class);
    }
}

fn leave_class(state: &mut State, name: &WorkerName, moment: Moment) {
    let Some(worker) = state.live.workers.get_mut(name) else { return };
    let Some(class) = worker.class.take() else { return };
    let free = worker.free.take();
    state.live.classes.place(&class, free.as_ref(), None);
    state.live.classes.leave(&class);
    let classes = &state.live.classes;
    state.live.lines.serve(&class, moment.since_start, |line| classes.serve(line));
}
