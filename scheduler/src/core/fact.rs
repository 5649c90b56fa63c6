//! What was decided. Folding facts is all that ever changes the state.
//!
//! Durable facts are journaled before anything of them is released; replaying them gives the very ledger that was
//! left. The others speak of connections, clocks and slots, which a restart ends anyway. A fact says what was
//! decided and never what should be decided: replay knows no rules.

use std::sync::Arc;

use archyard_model::{
    AttemptId, BuildId, BuildState, ContextRef, Failure, ImageResult, JobId, Lock, Plan, Platform, Pool,
    Principal, Reference, RequestId, Sha256, TagRecord, WorkerName, WorkerOffer,
};

use super::build::Build;
use super::heritage::Heritage;
use super::input::{ConnectionId, Parting};
use super::ledger::Header;
use super::timers::Timer;

/// What an attempt's end means for its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The job has its image.
    Succeeded,
    /// Back into the queue; the try counts against [`archyard_model::limits::ATTEMPTS`].
    Retry,
    /// Back into the queue; the lease never became a try.
    Requeue,
    /// For good.
    Failed,
    /// Stopped on request, or because its build failed elsewhere.
    Canceled,
}

/// One decided thing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the word of the design it is named for")]
pub enum Fact {
    // --- durable ---
    /// A build exists from here on.
    BuildAccepted {
        build: BuildId,
        request_id: RequestId,
        principal: Principal,
        plan: Arc<Plan>,
        pool: Pool,
        heritage: Option<Arc<Heritage>>,
    },
    /// It cannot go on yet, and this is why.
    BuildWaiting { build: BuildId, reason: String },
    /// It reads more of its source than its client sent: no job begins before the client has sent the rest.
    ContextMissed { build: BuildId, reason: String },
    /// Its client sent the rest: the whole context takes the place of the part.
    ContextCompleted { build: BuildId, context: ContextRef },
    /// Its bases are fixed; its jobs may run.
    BuildLocked { build: BuildId, lock: Arc<Lock> },
    /// No worker can run this job.
    JobWaiting { job: JobId, reason: String },
    /// Offered to a worker under a new token.
    JobLeased { attempt: AttemptId, worker: WorkerName },
    /// The worker took it.
    AttemptStarted { attempt: AttemptId },
    /// It is over. `outcome` is the worker's word, or the core's where the worker is silent.
    AttemptEnded {
        attempt: AttemptId,
        outcome: Result<ImageResult, Failure>,
        log_bytes: u64,
        log_warning: Option<String>,
        verdict: Verdict,
    },
    /// A job without a running attempt ends.
    JobEnded { job: JobId, verdict: Verdict, failure: Option<Failure> },
    /// Nobody runs the job's platform, and workers of this one may build it; none: its own again.
    JobCrossed { job: JobId, platform: Option<Platform> },
    /// A job's attempt is to stop; the job ends when that is confirmed.
    JobStopping { job: JobId, reason: String },
    /// Somebody asked for the end.
    CancelRequested { build: BuildId, principal: Principal, reason: String },
    /// How the build will end, once nothing of it runs any more.
    BuildEnding { build: BuildId, state: BuildState, failure: Option<Failure> },
    /// It is its tags' turn: no other build publishes them now.
    PublishStarted { build: BuildId },
    /// Every manifest was verified and the index's bytes are known. No cancel from here on.
    IndexPrepared { build: BuildId, index: Sha256, size: u64 },
    /// One tag's fate.
    TagSettled { build: BuildId, tag: TagRecord },
    /// The publisher may have moved this tag before it failed: older builds leave it alone as if it had.
    TagTouched { build: BuildId, tag: Reference },
    /// The index is there, every tag is settled, and trials still run.
    BuildPublished { build: BuildId },
    /// Publishing failed and will be tried again.
    PublishTried { build: BuildId, failure: Failure },
    /// The terminal state.
    BuildEnded { build: BuildId, state: BuildState, failure: Option<Failure> },
    /// Its record is safe elsewhere: forget it.
    BuildArchived { build: BuildId },
    /// An operator's word on a worker.
    DrainMarked { worker: WorkerName, principal: Principal, draining: bool },
    /// A snapshot begins: what is neither a build nor a drain mark.
    HeaderRestored(Box<Header>),
    /// A build as a snapshot holds it.
    BuildRestored(Box<Build>),

    // --- live ---
    /// A worker's stream is up. `adopt` go on; `stop` are stale and take slots until they have stopped.
    WorkerJoined {
        connection: ConnectionId,
        replaces: Option<(ConnectionId, Parting)>,
        offer: Arc<WorkerOffer>,
        adopt: Vec<AttemptId>,
        stop: Vec<AttemptId>,
    },
    /// It lives. `missing` occupy slots in our books and were not named.
    WorkerHeard { worker: WorkerName, sequence: u64, problem: Option<String>, missing: Vec<AttemptId> },
    /// Its stream is down.
    WorkerLeft { worker: WorkerName, connection: ConnectionId },
    /// It was silent for a whole lease; a stream it may still have is closed.
    WorkerLost { worker: WorkerName, connection: Option<ConnectionId> },
    /// It was gone for so long that listings leave it out.
    WorkerForgotten { worker: WorkerName },
    /// Its own wish.
    WorkerWish { worker: WorkerName, draining: bool },
    /// It takes leases again.
    WorkerWilling { worker: WorkerName },
    /// It declined a lease: no offer before its next heartbeat, or later if it did before.
    WorkerDeclined { worker: WorkerName },
    /// An attempt's slot is free: the worker confirmed, or never began.
    SlotFreed { worker: WorkerName, attempt: AttemptId },
    /// A worker runs what is not its to run: it is told to stop, and the slot counts until it has.
    StrayFound { worker: WorkerName, attempt: AttemptId },
    /// A result that changed nothing is acknowledged all the same, so that the worker lets go of it.
    ResultNoted { worker: WorkerName, attempt: AttemptId },
    /// A build's credentials are in memory.
    CredentialsPresent { build: BuildId },
    /// A build cannot go on without them; its patience begins.
    CredentialsMissed { build: BuildId },
    /// A build cannot go on without its whole context; its client's time to send it begins.
    ContextAwaited { build: BuildId },
    /// A build's bases are being resolved; `again` after silence.
    LockAsked { build: BuildId, again: bool },
    /// The publisher is sent again, after a pause or silence.
    PublishAsked { build: BuildId },
    /// An ended build's record is on its way to the views.
    ArchiveAsked { build: BuildId },
    /// A worker's deadline passed, but it was heard meanwhile.
    WorkerAlive { worker: WorkerName },
    /// A deadline passed and nothing else is to be said of it; a publisher's pause is over.
    TimerPassed { timer: Timer },
}

impl Fact {
    /// Whether it goes into the journal.
    pub fn is_durable(&self) -> bool {
        match self {
            Self::BuildAccepted { .. }
            | Self::BuildWaiting { .. }
            | Self::ContextMissed { .. }
            | Self::ContextCompleted { .. }
            | Self::BuildLocked { .. }
            | Self::JobWaiting { .. }
            | Self::JobLeased { .. }
            | Self::AttemptStarted { .. }
            | Self::AttemptEnded { .. }
            | Self::JobEnded { .. }
            | Self::JobCrossed { .. }
            | Self::JobStopping { .. }
            | Self::CancelRequested { .. }
            | Self::BuildEnding { .. }
            | Self::PublishStarted { .. }
            | Self::IndexPrepared { .. }
            | Self::TagSettled { .. }
            | Self::TagTouched { .. }
            | Self::BuildPublished { .. }
            | Self::PublishTried { .. }
            | Self::BuildEnded { .. }
            | Self::BuildArchived { .. }
            | Self::DrainMarked { .. }
            | Self::HeaderRestored(_)
            | Self::BuildRestored(_) => true,
            Self::WorkerJoined { .. }
            | Self::WorkerHeard { .. }
            | Self::WorkerLeft { .. }
            | Self::WorkerLost { .. }
            | Self::WorkerForgotten { .. }
            | Self::WorkerWish { .. }
            | Self::WorkerWilling { .. }
            | Self::WorkerDeclined { .. }
            | Self::SlotFreed { .. }
            | Self::StrayFound { .. }
            | Self::ResultNoted { .. }
            | Self::CredentialsPresent { .. }
            | Self::CredentialsMissed { .. }
            | Self::ContextAwaited { .. }
            | Self::LockAsked { .. }
            | Self::PublishAsked { .. }
            | Self::ArchiveAsked { .. }
            | Self::WorkerAlive { .. }
            | Self::TimerPassed { .. } => false,
        }
    }

    /// The build it speaks of, if it speaks of one.
    pub fn build(&self) -> Option<BuildId> {
        match self {
            Self::BuildAccepted { build, .. }
            | Self::BuildWaiting { build, .. }
            | Self::ContextMissed { build, .. }
            | Self::ContextCompleted { build, .. }
            | Self::ContextAwaited { build }
            | Self::BuildLocked { build, .. }
            | Self::CancelRequested { build, .. }
            | Self::BuildEnding { build, .. }
            | Self::PublishStarted { build }
            | Self::IndexPrepared { build, .. }
            | Self::TagSettled { build, .. }
            | Self::TagTouched { build, .. }
            | Self::BuildPublished { build }
            | Self::PublishTried { build, .. }
            | Self::BuildEnded { build, .. }
            | Self::BuildArchived { build }
            | Self::CredentialsPresent { build }
            | Self::CredentialsMissed { build }
            | Self::ArchiveAsked { build }
            | Self::LockAsked { build, .. }
            | Self::PublishAsked { build } => Some(*build),
            Self::JobWaiting { job, .. }
            | Self::JobEnded { job, .. }
            | Self::JobCrossed { job, .. }
            | Self::JobStopping { job, .. } => Some(job.build),
            Self::JobLeased { attempt, .. }
            | Self::AttemptStarted { attempt }
            | Self::AttemptEnded { attempt, .. } => Some(attempt.job.build),
            Self::BuildRestored(build) => Some(build.id),
            Self::DrainMarked { .. }
            | Self::HeaderRestored(_)
            | Self::WorkerJoined { .. }
            | Self::WorkerHeard { .. }
            | Self::WorkerLeft { .. }
            | Self::WorkerLost { .. }
            | Self::WorkerForgotten { .. }
            | Self::WorkerWish { .. }
            | Self::WorkerWilling { .. }
            | Self::WorkerDeclined { .. }
            | Self::SlotFreed { .. }
            | Self::StrayFound { .. }
            | Self::ResultNoted { .. }
            | Self::WorkerAlive { .. }
            | Self::TimerPassed { .. } => None,
        }
    }
}
