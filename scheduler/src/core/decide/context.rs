//! Builds that were submitted with a part of their context and turn out to read more.

use archyard_model::{BuildId, ContextRef, Failure};

use crate::core::build::Build;
use crate::core::fact::Fact;
use crate::core::refusal::Refusal;
use crate::core::state::State;

/// The code of an attempt that asked for what the context was not scanned for.
const INCOMPLETE: &str = "context_incomplete";

/// A base image reads more than the Dockerfile says; found as the lock is made.
pub(super) fn incomplete(state: &State, id: BuildId, reason: String) -> Result<Vec<Fact>, Refusal> {
    let build = super::builds::waits_for_lock(state, id)?;
    if build.lacks_context || !build.plan.context.partial {
        return Err(Refusal::Late("the build's context is whole, or asked for"));
    }
    Ok(vec![Fact::ContextMissed { build: id, reason }])
}

/// The client's answer: the whole context, whose files are here.
pub(super) fn supplied(state: &State, id: BuildId, context: ContextRef) -> Result<Vec<Fact>, Refusal> {
    let build = super::builds::known(state, id)?;
    if !build.lacks_context || build.ending.is_some() || build.state.is_terminal() {
        return Err(Refusal::Late("the build does not wait for its whole context"));
    }
    Ok(vec![Fact::ContextCompleted { build: id, context }])
}

/// Whether an attempt failed only because its context is a part. Asked once for the rest, no build is asked again.
pub(super) fn is_missed(build: &Build, failure: &Failure) -> bool {
    failure.code == INCOMPLETE && build.plan.context.partial
}

/// What follows from such an attempt, unless the client was asked already.
pub(super) fn missed(build: &Build, failure: &Failure) -> Option<Fact> {
    let untold = is_missed(build, failure) && !build.lacks_context && build.ending.is_none();
    untold.then(|| Fact::ContextMissed { build: build.id, reason: failure.message.clone() })
}
