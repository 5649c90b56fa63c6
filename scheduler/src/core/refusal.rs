//! Why an input changes nothing, for whoever sent it.

use archyard_model::{BuildId, BuildState, Reference, WorkerName};

/// An input that was understood and not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// NOT_FOUND, unless the views know it.
    #[error("build {0} is not active: it never was, or has ended and was archived")]
    UnknownBuild(BuildId),
    /// NOT_FOUND.
    #[error("no worker {0} has ever joined this farm; `archyard workers` lists those that did")]
    UnknownWorker(WorkerName),
    /// FAILED_PRECONDITION.
    #[error("build {build} is {state} and can no longer be canceled")]
    NotCancelable {
        /// Which.
        build: BuildId,
        /// Where it stands.
        state: BuildState,
    },
    /// The publisher works for a build that ended or was canceled: it stops.
    #[error("build {build} is {state} and does not publish: {problem}")]
    NotPublishing {
        /// Which.
        build: BuildId,
        /// Where it stands.
        state: BuildState,
        /// What does not fit.
        problem: &'static str,
    },
    /// FAILED_PRECONDITION.
    #[error(
        "build {build} is too old to be built again under its tags: so many have moved since that nobody knows whether \
         a newer build moved {tag}; `archyard build` starts anew"
    )]
    TagsForgotten {
        /// Which.
        build: BuildId,
        /// One of its tags.
        tag: Box<Reference>,
    },
    /// RESOURCE_EXHAUSTED.
    #[error("the farm already has {limit} {what}; try again when some have ended")]
    Full {
        /// `active builds`, `workers`.
        what: &'static str,
        /// How many it takes.
        limit: usize,
    },
    /// A message on a stream that another has taken over: dropped.
    #[error("this connection was taken over by a newer one of the same worker")]
    StaleConnection,
    /// The input says nothing new, or comes too late to matter.
    #[error("nothing to do: {0}")]
    Late(&'static str),
}
