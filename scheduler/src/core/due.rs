//! What follows for one build from the state alone, one step at a time.
//!
//! A crash between two steps loses nothing: after the replay the same step is due again.

use archyard_model::{BuildState, JobState};

use super::build::Build;
use super::state::State;

/// The next thing to decide about a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Its end is decided: stop or cancel what has not ended.
    Stop,
    /// Nothing of it runs any more.
    End,
    /// A required job failed for good.
    Fail,
    /// It cannot go on without its client's credentials.
    MissCredentials,
    /// It cannot go on without the rest of its context.
    AwaitContext,
    /// Its bases are to be resolved.
    AskLock,
    /// All that was asked for is there, and no trial runs any more.
    Succeed,
    /// It is its tags' turn.
    BeginPublish,
    /// The publisher is to be sent.
    AskPublish,
    /// Its record is to be kept.
    AskArchive,
}

/// The build's next step, if there is one.
pub(super) fn step(state: &State, build: &Build) -> Option<Step> {
    if build.state.is_terminal() {
        return (!state.live.archiving.contains(&build.id)).then_some(Step::AskArchive);
    }
    if build.ending.is_some() {
        if build.jobs.iter().all(|job| job.state.is_terminal()) {
            return Some(Step::End);
        }
        let untold = |job: &super::build::Job| !job.state.is_terminal() && !job.stopping;
        return build.jobs.iter().any(untold).then_some(Step::Stop);
    }
    if build.required().any(|job| job.state == JobState::Failed) {
        return Some(Step::Fail);
    }
    if build.is_delivered() && build.jobs.iter().all(|job| job.state.is_terminal()) {
        return Some(Step::Succeed);
    }
    if !state.has_credentials(build) {
        let missed = state.live.credentials_missed.contains(&build.id);
        return (build.needs_registry() && !missed).then_some(Step::MissCredentials);
    }
    if build.lacks_context && !state.live.context_awaited.contains(&build.id) {
        return Some(Step::AwaitContext);
    }
    match build.state {
        BuildState::Waiting if build.lacks_context => None,
        BuildState::Waiting => (!state.live.lock_asked.contains_key(&build.id)).then_some(Step::AskLock),
        BuildState::Running | BuildState::Publishing if build.publishing => {
            (!state.live.orders.contains_key(&build.id)).then_some(Step::AskPublish)
        }
        BuildState::Running if build.wants_turn() => {
            state.live.turns.may_begin(&build.moves, build.place(), build.id).then_some(Step::BeginPublish)
        }
        BuildState::Queued
        | BuildState::Running
        | BuildState::Publishing
        | BuildState::Succeeded
        | BuildState::Failed
        | BuildState::Canceled
        | BuildState::Superseded => None,
    }
}
