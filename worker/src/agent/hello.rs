//! What a worker says of itself first on every connection.

use std::sync::Arc;

use archyard_model::{WorkerOffer, convert};
use archyard_proto::v1 as proto;

use super::Shared;
use super::attempt::Attempt;
use super::health::State;
use crate::machine;

/// The whole message: every runner that lives, and every result that was not acknowledged.
pub(super) fn hello(shared: &Shared, engine: &State, dial: u64) -> proto::Hello {
    let config = &shared.config;
    let offer = WorkerOffer {
        name: config.name.clone(),
        boot_id: machine::boot_id().to_owned(),
        session_id: shared.session_id.clone(),
        instance_id: shared.instance_id.clone(),
        platforms: shared.measured.native.clone(),
        emulated: shared.measured.emulated.clone(),
        slots: config.slots(),
        labels: config.labels.clone(),
        pool: config.pool,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        engine: if engine.description.is_empty() {
            "Docker Engine (does not answer)".to_owned()
        } else {
            engine.description.clone()
        },
        draining: shared.drain.is_cancelled(),
        dial,
    };
    let mut hello = convert::offer_to_proto(&offer);
    hello.running =
        shared.attempts.all().iter().filter(|attempt| attempt.is_unacked()).map(running).collect();
    hello
}

fn running(attempt: &Arc<Attempt>) -> proto::RunningAttempt {
    proto::RunningAttempt { attempt: Some(attempt.reference()), finished: attempt.result().is_some() }
}
