//! Folding facts into the state. No rule lives here: a fact says what was decided, and this makes it so.
//!
//! A fact of a build that is not there changes nothing, so that no journal, however old, can stop a scheduler.

mod accepted;
mod attempts;
mod builds;
mod context;
mod publish;
mod workers;

use super::fact::Fact;
use super::input::Moment;
use super::state::State;

/// Makes a fact so.
pub fn evolve(state: &mut State, moment: Moment, fact: &Fact) {
    match fact {
        Fact::BuildAccepted { build, request_id, principal, plan, pool, heritage } => {
            let request = (principal.clone(), request_id.clone());
            accepted::accepted(state, moment, *build, request, plan, *pool, heritage.as_deref());
        }
        Fact::BuildWaiting { build, reason } => builds::waiting(state, moment, *build, reason),
        Fact::ContextMissed { build, reason } => context::missed(state, moment, *build, reason),
        Fact::ContextCompleted { build, context } => context::completed(state, moment, *build, context),
        Fact::ContextAwaited { build } => context::awaited(state, moment, *build),
        Fact::BuildLocked { build, lock } => builds::locked(state, moment, *build, lock),
        Fact::CancelRequested { build, principal, reason } => {
            builds::cancel_requested(state, moment, *build, principal, reason);
        }
        Fact::BuildEnding { build, state: end, failure } => {
            builds::ending(state, moment, *build, *end, failure.as_ref());
        }
        Fact::PublishStarted { build } => publish::started(state, moment, *build),
        Fact::IndexPrepared { build, index, size } => {
            publish::index_prepared(state, moment, *build, *index, *size);
        }
        Fact::TagSettled { build, tag } => publish::tag_settled(state, moment, *build, tag),
        Fact::TagTouched { build, tag } => state.ledger.touch(*build, tag),
        Fact::BuildPublished { build } => publish::published(state, moment, *build),
        Fact::PublishTried { build, .. } => publish::tried(state, moment, *build),
        Fact::BuildEnded { build, state: end, failure } => {
            builds::ended(state, moment, *build, *end, failure.as_ref());
        }
        Fact::BuildArchived { build } => builds::archived(state, *build),
        Fact::HeaderRestored(header) => accepted::header_restored(state, header),
        Fact::BuildRestored(build) => accepted::restored(state, moment, build),
        Fact::CredentialsPresent { build } => builds::credentials_present(state, moment, *build),
        Fact::CredentialsMissed { build } => builds::credentials_missed(state, moment, *build),
        Fact::LockAsked { build, .. } => builds::lock_asked(state, moment, *build),
        Fact::PublishAsked { build } => publish::asked(state, moment, *build),
        Fact::ArchiveAsked { build } => builds::archive_asked(state, moment, *build),

        Fact::JobWaiting { job, reason } => attempts::waiting(state, moment, *job, reason),
        Fact::JobLeased { attempt, worker } => attempts::leased(state, moment, *attempt, worker),
        Fact::AttemptStarted { attempt } => attempts::started(state, moment, *attempt),
        Fact::AttemptEnded { attempt, outcome, log_bytes, log_warning, verdict } => {
            attempts::ended(state, moment, *attempt, outcome, (*log_bytes, log_warning.as_ref()), *verdict);
        }
        Fact::JobEnded { job, verdict, failure } => {
            attempts::job_ended(state, moment, *job, *verdict, failure.as_ref());
        }
        Fact::JobCrossed { job, platform } => attempts::crossed(state, moment, *job, platform.as_ref()),
        Fact::JobStopping { job, .. } => attempts::stopping(state, moment, *job),

        Fact::DrainMarked { worker, principal, draining } => {
            workers::drain_marked(state, worker, principal, *draining);
        }
        Fact::WorkerJoined { connection, replaces, offer, adopt, stop } => {
            let replaced = replaces.map(|(connection, _)| connection);
            workers::joined(state, moment, *connection, replaced, offer, adopt, stop);
        }
        Fact::WorkerHeard { worker, problem, missing, .. } => {
            workers::heard(state, moment, worker, problem.as_ref(), missing);
        }
        Fact::WorkerLeft { worker, connection } => workers::left(state, worker, *connection),
        Fact::WorkerLost { worker, connection } => workers::lost(state, moment, worker, *connection),
        Fact::WorkerForgotten { worker } => workers::forgotten(state, worker),
        Fact::WorkerWish { worker, draining } => workers::wish(state, worker, *draining),
        Fact::WorkerWilling { worker } => workers::willing(state, worker),
        Fact::WorkerDeclined { worker } => workers::declined(state, worker),
        Fact::WorkerAlive { worker } => workers::alive(state, worker),
        Fact::SlotFreed { worker, attempt } => workers::slot_freed(state, worker, *attempt),
        Fact::StrayFound { worker, attempt } => workers::stray_found(state, worker, *attempt),
        Fact::TimerPassed { timer } => builds::timer_passed(state, moment, timer),
        Fact::ResultNoted { .. } => {}
    }
}
