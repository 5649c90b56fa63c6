//! What happens to a build, as its watchers see it.

use jiff::Timestamp;

use crate::{
    BuildState, Failure, FencingToken, ImageResult, JobState, Lock, Principal, Sha256, TagRecord, WorkerName,
};

/// One thing that happened to a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildEvent {
    /// From 1, without gaps, per build.
    pub seq: u64,
    /// When, by the scheduler's wall clock: for people.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
}

/// The kinds of event. `job` is the job's position in the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the word of the design it is named for")]
pub enum EventKind {
    Accepted {
        principal: Principal,
    },
    Waiting {
        reason: String,
    },
    /// It reads more of its source than its client sent; the client sends the whole context now.
    ContextMissed {
        reason: String,
    },
    Locked {
        lock: Lock,
    },
    JobWaiting {
        job: u16,
        reason: String,
    },
    JobLeased {
        job: u16,
        token: FencingToken,
        worker: WorkerName,
    },
    JobStarted {
        job: u16,
        token: FencingToken,
        worker: WorkerName,
    },
    AttemptEnded {
        job: u16,
        token: FencingToken,
        worker: WorkerName,
        failure: Option<Failure>,
        will_retry: bool,
    },
    JobEnded {
        job: u16,
        state: JobState,
        result: Option<ImageResult>,
        failure: Option<Failure>,
    },
    CancelRequested {
        principal: Principal,
        reason: String,
    },
    Publishing {
        index: Sha256,
        size: u64,
    },
    TagMoved(TagRecord),
    Ended {
        state: BuildState,
        failure: Option<Failure>,
        index: Option<(Sha256, u64)>,
    },
}
