//! From an input to facts, by the rules of today.
//!
//! Each file decides one kind of input. None changes anything: what follows from the new state is `settle`'s to find.

mod attempts;
mod builds;
mod context;
mod publish;
mod workers;

pub(super) use attempts::{end_attempt, unanswered, unconfirmed};
pub(super) use builds::no_worker;
pub(super) use publish::publish_failed;

use super::fact::Fact;
use super::input::{Input, Moment};
use super::refusal::Refusal;
use super::state::State;

/// The facts an input leads to; none if it says nothing new.
pub fn decide(state: &State, moment: Moment, input: Input) -> Result<Vec<Fact>, Refusal> {
    match input {
        Input::Submit(submission) => builds::submit(state, submission),
        Input::CredentialsSupplied { build } => builds::credentials(state, build),
        Input::ContextIncomplete { build, reason } => context::incomplete(state, build, reason),
        Input::ContextSupplied { build, context } => context::supplied(state, build, context),
        Input::LockResolved { build, lock } => builds::lock_resolved(state, build, lock),
        Input::TrialRefused { build, job, failure } => builds::trial_refused(state, build, job, failure),
        Input::LockFailed { build, failure } => builds::lock_failed(state, build, failure),
        Input::Cancel { build, principal, reason } => builds::cancel(state, build, principal, reason),
        Input::Archived { build } => builds::archived(state, build),
        Input::WorkerJoined { connection, offer, running } => {
            workers::joined(state, connection, offer, &running)
        }
        Input::WorkerHeard { connection, sequence, running, problem } => {
            workers::heard(state, moment, connection, sequence, &running, problem)
        }
        Input::WorkerLeft { connection } => workers::left(state, connection),
        Input::WorkerWishesDrain { connection, draining } => workers::wish(state, connection, draining),
        Input::DrainWorker { worker, principal, draining } => {
            workers::drain(state, worker, principal, draining)
        }
        Input::LeaseAccepted { connection, attempt } => attempts::accepted(state, connection, attempt),
        Input::LeaseRejected { connection, attempt, code, message } => {
            attempts::rejected(state, connection, attempt, &code, &message)
        }
        Input::AttemptEnded { connection, attempt, outcome, log_bytes, log_warning } => {
            attempts::ended(state, connection, attempt, outcome, (log_bytes, log_warning))
        }
        Input::IndexPrepared { build, index, size } => publish::index_prepared(state, build, index, size),
        Input::TagMoved { build, tag } => publish::tag_moved(state, build, tag),
        Input::PublishFailed { build, failure, retryable } => {
            publish::failed(state, build, failure, retryable)
        }
        Input::PublishDone { build } => publish::done(state, build),
        Input::Tick => Ok(Vec::new()),
    }
}
