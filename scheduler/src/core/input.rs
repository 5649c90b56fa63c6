//! What reaches the core: things asked for, things that happened, and time.
//!
//! An input is a claim, not yet a decision. `decide` turns it into facts or refuses it; it is never journaled.

use std::sync::Arc;
use std::time::Duration;

use archyard_model::{
    AttemptId, BuildId, ContextRef, Failure, ImageResult, Lock, Plan, Pool, Principal, Reference, RequestId,
    Sha256, WorkerName, WorkerOffer,
};

use super::heritage::Heritage;

/// Both clocks, read once per input by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// Monotonic, since the scheduler started: all deadlines rest on it.
    pub since_start: Duration,
    /// Milliseconds since the epoch: for people, never for decisions.
    pub wall_ms: u64,
}

/// One control stream of a worker; a later stream has a larger number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Why the scheduler ends a worker's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// The same agent has dialed again.
    Reconnected,
    /// The agent was restarted: another process on the same data folder.
    Restarted,
    /// An agent with another data folder has the same name.
    Namesake,
    /// Nothing was heard on it for a whole lease.
    Silent,
}

/// A build as its client hands it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Drawn by the driver; used only if the request is new.
    pub build: BuildId,
    /// The same id of the same principal is the same build.
    pub request_id: RequestId,
    /// Who asks.
    pub principal: Principal,
    /// What is asked.
    pub plan: Arc<Plan>,
    /// The trust level it runs under.
    pub pool: Pool,
    /// Whether all credentials of [`Plan::credential_hosts`] came along.
    pub credentials: bool,
    /// What it takes over from another build; none for one of its own.
    pub heritage: Option<Arc<Heritage>>,
    /// What its bases resolved to, where that was known in time; else it is asked for.
    pub lock: Option<Arc<Lock>>,
}

/// An attempt that a worker says it still has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningAttempt {
    /// Which.
    pub attempt: AttemptId,
    /// Its runner is done, and its result follows.
    pub finished: bool,
}

/// Everything that can reach the core.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the word of the design it is named for")]
pub enum Input {
    /// A client hands in a build.
    Submit(Submission),
    /// All credentials a build waits for are in memory now.
    CredentialsSupplied { build: BuildId },
    /// A base reads more of the source than the client sent.
    ContextIncomplete { build: BuildId, reason: String },
    /// The client sent the whole context; its files are here.
    ContextSupplied { build: BuildId, context: ContextRef },
    /// The plan's bases are resolved.
    LockResolved { build: BuildId, lock: Arc<Lock> },
    /// A base cannot be had for a platform on trial; before the others' lock.
    TrialRefused { build: BuildId, job: u16, failure: Failure },
    /// A base cannot be had; the build cannot succeed.
    LockFailed { build: BuildId, failure: Failure },
    /// A worker said Hello on a new stream.
    WorkerJoined { connection: ConnectionId, offer: Arc<WorkerOffer>, running: Vec<RunningAttempt> },
    /// A worker's heartbeat. `problem`: its Engine does not answer.
    WorkerHeard { connection: ConnectionId, sequence: u64, running: Vec<AttemptId>, problem: Option<String> },
    /// A worker's stream broke. Its attempts go on: the lease decides, not the stream.
    WorkerLeft { connection: ConnectionId },
    /// The machine's own wish, as on SIGTERM.
    WorkerWishesDrain { connection: ConnectionId, draining: bool },
    /// A worker takes an offered lease.
    LeaseAccepted { connection: ConnectionId, attempt: AttemptId },
    /// A worker declines an offered lease.
    LeaseRejected { connection: ConnectionId, attempt: AttemptId, code: String, message: String },
    /// A runner is done.
    AttemptEnded {
        connection: ConnectionId,
        attempt: AttemptId,
        outcome: Result<ImageResult, Failure>,
        log_bytes: u64,
        log_warning: Option<String>,
    },
    /// Somebody wants a build stopped.
    Cancel { build: BuildId, principal: Principal, reason: String },
    /// An operator wants a worker to take nothing new, or to take leases again.
    DrainWorker { worker: WorkerName, principal: Principal, draining: bool },
    /// The publisher verified every manifest and knows the index's bytes; it pushes them once this is durable.
    IndexPrepared { build: BuildId, index: Sha256, size: u64 },
    /// The publisher moved one tag.
    TagMoved { build: BuildId, tag: Reference },
    /// The publisher could not go on.
    PublishFailed { build: BuildId, failure: Failure, retryable: bool },
    /// The index is there and all tags are settled.
    PublishDone { build: BuildId },
    /// The record of an ended build is safe in the views.
    Archived { build: BuildId },
    /// Time passed.
    Tick,
}
