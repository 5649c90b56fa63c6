//! What the world must hear of a fact, once that is durable. Asked right after the fact was folded in.

use std::sync::Arc;

use archyard_model::{AttemptId, BuildId, JobId, Reference, WorkerName};

use super::fact::Fact;
use super::input::Parting;
use super::message::{Downstream, Effect, EndedBuild, PublishOrder, job_spec};
use super::state::State;

/// The effects of one fact, in order.
pub fn effects(state: &State, fact: &Fact) -> Vec<Effect> {
    let mut effects = Vec::new();
    match fact {
        Fact::JobLeased { attempt, worker } => effects.extend(lease(state, *attempt, worker)),
        Fact::JobStopping { job, reason } => effects.extend(stop(state, *job, reason)),
        Fact::StrayFound { worker, attempt } => {
            let reason = "this attempt is no longer current".to_owned();
            effects.extend(tell(state, worker, Downstream::Cancel { attempt: *attempt, reason }));
        }
        Fact::ResultNoted { worker, attempt } => {
            effects.extend(tell(state, worker, Downstream::ResultAck { attempt: *attempt }));
        }
        Fact::WorkerHeard { worker, sequence, .. } => {
            effects.extend(tell(state, worker, Downstream::HeartbeatAck { sequence: *sequence }));
        }
        Fact::WorkerJoined { connection, replaces, offer, adopt, stop } => {
            effects.extend(replaces.map(|(connection, parting)| Effect::Disconnect { connection, parting }));
            let draining = state.ledger.drained.contains_key(&offer.name);
            let message = Downstream::Welcome { adopt: adopt.clone(), stop: stop.clone(), draining };
            effects.push(Effect::ToWorker { connection: *connection, message });
            effects.extend(adopt.iter().filter_map(|attempt| still_stopping(state, *attempt)));
        }
        Fact::WorkerLost { connection: Some(connection), .. } => {
            effects.push(Effect::Disconnect { connection: *connection, parting: Parting::Silent });
        }
        Fact::DrainMarked { worker, draining, .. } => {
            effects.extend(tell(state, worker, Downstream::Drain { draining: *draining }));
        }
        Fact::BuildArchived { build } => effects.push(Effect::ForgetBuild { build: *build }),
        Fact::LockAsked { build, .. } => effects.extend(
            state
                .ledger
                .build(*build)
                .map(|build| Effect::ResolveLock { build: build.id, plan: Arc::clone(&build.plan) }),
        ),
        Fact::PublishAsked { build } => effects.extend(publish(state, *build)),
        Fact::ArchiveAsked { build } => effects.extend(state.ledger.build(*build).map(|build| {
            Effect::Archive(Box::new(EndedBuild { record: build.record(), events: build.events.clone() }))
        })),
        _ => {}
    }
    if fact.is_durable() {
        let build = fact.build().and_then(|build| state.ledger.build(build));
        effects.extend(build.map(|build| Effect::NotifyBuild { build: build.id, events: build.last_seq() }));
    }
    effects
}

fn lease(state: &State, attempt: AttemptId, worker: &WorkerName) -> Option<Effect> {
    let build = state.ledger.build(attempt.job.build)?;
    let cross = build.job(attempt.job.index)?.cross.is_some();
    let spec = job_spec(&build.plan, build.lock.as_ref()?, attempt.job.index, build.pool, cross)?;
    tell(state, worker, Downstream::Lease { attempt, spec })
}

fn stop(state: &State, job: JobId, reason: &str) -> Option<Effect> {
    let current = state.ledger.job(job)?.current()?;
    let attempt = AttemptId { job, token: current.token };
    tell(state, &current.worker, Downstream::Cancel { attempt, reason: reason.to_owned() })
}

/// A worker that was away when its attempt was told to stop hears it after its Welcome.
fn still_stopping(state: &State, attempt: AttemptId) -> Option<Effect> {
    let build = state.ledger.build(attempt.job.build)?;
    build.job(attempt.job.index).filter(|job| job.stopping)?;
    let failure = build.ending.as_ref().and_then(|ending| ending.failure.as_ref());
    stop(state, attempt.job, failure.map_or("", |failure| &failure.message))
}

fn publish(state: &State, build: BuildId) -> Option<Effect> {
    let build = state.ledger.build(build)?;
    let newer = |tag: &Reference| state.ledger.newer(tag, build.place()).is_some();
    Some(Effect::Publish(Box::new(PublishOrder {
        build: build.id,
        plan: Arc::clone(&build.plan),
        images: build.images(),
        cross: build.crossed(),
        promotion: build.promotion.clone(),
        tags: build.open_tags().filter(|tag| !newer(tag)).cloned().collect(),
        index: build.index,
        attempt: build.publish_failures + 1,
    })))
}

fn tell(state: &State, worker: &WorkerName, message: Downstream) -> Option<Effect> {
    let connection = state.live.workers.get(worker)?.connection?;
    Some(Effect::ToWorker { connection, message })
}
