//! What workers say of themselves, and operators of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use archyard_model::{
    AttemptId, Failure, FailureClass, JobState, Principal, WorkerName, WorkerOffer, limits,
};

use super::attempts::{Log, end_attempt};
use crate::core::fact::Fact;
use crate::core::input::{ConnectionId, Moment, Parting, RunningAttempt};
use crate::core::policy;
use crate::core::refusal::Refusal;
use crate::core::state::State;

/// The worker that speaks on this stream, if the stream is its newest.
pub(super) fn connected(state: &State, connection: ConnectionId) -> Result<&WorkerName, Refusal> {
    state.live.connections.get(&connection).ok_or(Refusal::StaleConnection)
}

/// A worker says Hello: what it has and may keep goes on, what it should have and does not is over.
pub(super) fn joined(
    state: &State,
    connection: ConnectionId,
    offer: Arc<WorkerOffer>,
    running: &[RunningAttempt],
) -> Result<Vec<Fact>, Refusal> {
    let name = &offer.name;
    let known = state.live.workers.get(name);
    if known.is_none() && state.live.workers.len() >= limits::WORKERS {
        return Err(Refusal::Full { what: "workers", limit: limits::WORKERS });
    }
    let newest = known.and_then(|worker| worker.offer.as_ref());
    if newest.is_some_and(|newest| newest.session_id == offer.session_id && offer.dial < newest.dial) {
        return Err(Refusal::StaleConnection);
    }
    let (mut adopt, mut stop, mut begun) = (Vec::new(), Vec::new(), Vec::new());
    for RunningAttempt { attempt, finished } in running {
        let current = state.ledger.job(attempt.job).and_then(|job| Some((job, job.current()?)));
        match current.filter(|(_, held)| held.token == attempt.token && held.worker == *name) {
            Some((job, _)) => {
                adopt.push(*attempt);
                if job.state == JobState::Leased {
                    begun.push(Fact::AttemptStarted { attempt: *attempt });
                }
            }
            // A result that counted already is only waiting for its acknowledgement.
            None if *finished => {}
            None => stop.push(*attempt),
        }
    }
    let listed: BTreeSet<AttemptId> = adopt.iter().copied().collect();
    let gone = known.into_iter().flat_map(|worker| worker.occupied.keys()).filter(|a| !listed.contains(a));
    let ended: Vec<Fact> = gone.flat_map(|attempt| vanished(state, name, *attempt)).collect();
    let replaces =
        known.and_then(|worker| Some((worker.connection?, parting(worker.offer.as_deref(), &offer))));
    let mut facts = vec![Fact::WorkerJoined { connection, replaces, offer, adopt, stop }];
    facts.extend(begun);
    facts.extend(ended);
    Ok(facts)
}

/// Why the newest stream ends the one before it.
fn parting(before: Option<&WorkerOffer>, now: &WorkerOffer) -> Parting {
    match before {
        Some(before) if before.session_id == now.session_id => Parting::Reconnected,
        // Agents of an earlier version do not say which data folder they have.
        Some(before) if !now.instance_id.is_empty() && before.instance_id == now.instance_id => {
            Parting::Restarted
        }
        _ => Parting::Namesake,
    }
}

/// A heartbeat. What it fails to name several times over is not there any more.
pub(super) fn heard(
    state: &State,
    _moment: Moment,
    connection: ConnectionId,
    sequence: u64,
    running: &[AttemptId],
    problem: Option<String>,
) -> Result<Vec<Fact>, Refusal> {
    let name = connected(state, connection)?;
    let Some(worker) = state.live.workers.get(name) else { return Err(Refusal::StaleConnection) };
    let unnamed = worker.occupied.iter().filter(|(attempt, _)| !running.contains(attempt));
    let (mut missing, mut facts) = (Vec::new(), Vec::new());
    for (attempt, missed) in unnamed {
        missing.push(*attempt);
        if missed + 1 < policy::MISSED_HEARTBEATS {
            continue;
        }
        let leased = state.ledger.is_current(*attempt)
            && state.ledger.job(attempt.job).is_some_and(|job| job.state == JobState::Leased);
        if !leased {
            facts.extend(vanished(state, name, *attempt));
            facts.push(Fact::SlotFreed { worker: name.clone(), attempt: *attempt });
        }
    }
    facts.insert(0, Fact::WorkerHeard { worker: name.clone(), sequence, problem, missing });
    Ok(facts)
}

/// A stream broke. Only the lease ends attempts.
pub(super) fn left(state: &State, connection: ConnectionId) -> Result<Vec<Fact>, Refusal> {
    let worker = connected(state, connection)?.clone();
    Ok(vec![Fact::WorkerLeft { worker, connection }])
}

/// The machine itself wants no new lease, or wants leases again.
pub(super) fn wish(state: &State, connection: ConnectionId, draining: bool) -> Result<Vec<Fact>, Refusal> {
    let worker = connected(state, connection)?.clone();
    Ok(vec![Fact::WorkerWish { worker, draining }])
}

/// An operator's mark; setting it again is no error.
pub(super) fn drain(
    state: &State,
    worker: WorkerName,
    principal: Principal,
    draining: bool,
) -> Result<Vec<Fact>, Refusal> {
    let marked = state.ledger.drained.contains_key(&worker);
    if !marked && !state.live.workers.contains_key(&worker) {
        return Err(Refusal::UnknownWorker(worker));
    }
    if marked == draining {
        return Ok(Vec::new());
    }
    Ok(vec![Fact::DrainMarked { worker, principal, draining }])
}

/// An attempt that the ledger thinks is there and the worker does not have.
fn vanished(state: &State, worker: &WorkerName, attempt: AttemptId) -> Vec<Fact> {
    let leased = state.ledger.job(attempt.job).is_some_and(|job| job.state == JobState::Leased);
    let (code, text) = if leased {
        ("lease_undelivered", "never got the lease: its connection broke")
    } else {
        ("attempt_vanished", "no longer has the attempt: its runner or its machine ended")
    };
    let failure = Failure::new(FailureClass::Infrastructure, code, format!("worker {worker} {text}"));
    end_attempt(state, attempt, Err(failure), Log::default(), leased)
}
