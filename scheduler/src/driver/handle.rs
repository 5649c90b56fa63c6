//! How everybody else talks to the driver: one cheap clone each.
//!
//! Every answer is given after the facts behind it are durable. No method blocks a thread; all wait their turn in
//! one bounded inbox.

use std::sync::Arc;

use archyard_model::{
    AttemptId, Blake3, BuildEvent, BuildId, BuildRecord, BuildState, ContextRef, Failure, ImageResult, Lock,
    Plan, Pool, Principal, ProjectName, Reference, RequestId, Sha256, WorkerName, WorkerOffer,
};
use tokio::sync::{oneshot, watch};

use super::error::Error;
use super::inbox::Inbox;
use super::mailbox::{Mailbox, Messages};
use super::message::{Message, Query};
use crate::core::{ConnectionId, Heritage, Input, RunningAttempt, Standing};

/// A build as its client hands it in; its id is drawn by the driver.
#[derive(Debug, Clone)]
pub struct NewBuild {
    /// The same id of the same principal is the same build.
    pub request_id: RequestId,
    /// Who asks.
    pub principal: Principal,
    /// What is asked.
    pub plan: Arc<Plan>,
    /// The trust level it runs under.
    pub pool: Pool,
    /// What it takes over from another build; none for one of its own.
    pub heritage: Option<Arc<Heritage>>,
    /// What its bases resolved to, where that is known already.
    pub lock: Option<Arc<Lock>>,
}

/// A submission's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// The build.
    pub build: BuildId,
    /// This request had been accepted before.
    pub existing: bool,
}

/// A part of a build's events.
#[derive(Debug, Clone)]
pub struct Events {
    /// Those after the asked number, in order.
    pub batch: Vec<BuildEvent>,
    /// Nothing follows: the last event is the terminal one and is in this batch or before it.
    pub ended: bool,
    /// Holds the number of the last event; changes with each. Closed when the build is archived: ask again.
    pub changed: watch::Receiver<u64>,
}

/// Which active builds to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// None: all.
    pub project: Option<ProjectName>,
    /// Empty: all. As people are shown them: `queued` and `waiting` are told apart.
    pub states: Vec<BuildState>,
    /// Only builds older than this one: where the last page ended.
    pub before: Option<BuildId>,
    /// At most so many.
    pub limit: usize,
}

/// How a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// Takes leases.
    Ready,
    /// Finishes what it runs.
    Draining,
    /// Silent for longer than its lease.
    Lost,
}

/// One worker as the farm sees it.
#[derive(Debug, Clone)]
pub struct WorkerView {
    /// What it said of itself.
    pub offer: Arc<WorkerOffer>,
    /// How it stands.
    pub state: WorkerState,
    /// Slots that count as taken, stopping attempts included.
    pub used_slots: u32,
    /// What occupies them.
    pub running: Vec<AttemptId>,
    /// Its Engine's trouble.
    pub problem: Option<String>,
    /// When its stream came up, in milliseconds since the epoch.
    pub connected_ms: u64,
}

/// What the ledger knows of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptStatus {
    /// Where it ran.
    pub worker: WorkerName,
    /// It holds its job's largest token.
    pub latest: bool,
    /// It is over.
    pub ended: bool,
    /// Its spool's final length in bytes, once it is over and known.
    pub log_bytes: Option<u64>,
}

/// What a build is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Which.
    pub build: BuildId,
    /// Whose.
    pub project: ProjectName,
    /// Its context.
    pub manifest: Blake3,
    /// Its Dockerfile.
    pub dockerfile: Blake3,
}

/// Counters over the whole farm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FarmCounts {
    /// Jobs that wait for a worker.
    pub queued_jobs: u64,
    /// Jobs offered to or running on workers.
    pub running_jobs: u64,
    /// Builds that have not ended.
    pub active_builds: u64,
}

/// What a worker says on its stream after Hello.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each field is the word of the design it is named for")]
#[allow(clippy::large_enum_variant, reason = "few wait at a time")]
pub enum WorkerInput {
    Heartbeat {
        sequence: u64,
        running: Vec<AttemptId>,
        problem: Option<String>,
    },
    LeaseAccepted {
        attempt: AttemptId,
    },
    LeaseRejected {
        attempt: AttemptId,
        code: String,
        message: String,
    },
    AttemptEnded {
        attempt: AttemptId,
        outcome: Box<Result<ImageResult, Failure>>,
        log_bytes: u64,
        log_warning: Option<String>,
    },
    DrainRequested {
        draining: bool,
    },
}

/// A worker's stream, as the driver knows it.
#[derive(Debug)]
pub struct Connection {
    /// To be given with everything the worker says.
    pub id: ConnectionId,
    /// What goes down to it. Dropping it says that the stream broke.
    pub messages: Messages,
}

/// Talks to the driver.
#[derive(Debug, Clone)]
pub struct Handle {
    inbox: Arc<Inbox<Message>>,
}

impl Handle {
    pub(super) fn new(inbox: Arc<Inbox<Message>>) -> Self {
        Self { inbox }
    }

    /// Accepts a build, durably. `credentials`: all of the plan's hosts' came along and are in memory.
    pub async fn submit(&self, build: NewBuild, credentials: bool) -> Result<Submitted, Error> {
        self.ask(|answer| Message::Submit { build, credentials, answer }).await?
    }

    /// Says that a build's credentials are in memory again.
    pub async fn supply_credentials(&self, build: BuildId) -> Result<(), Error> {
        self.decide(Input::CredentialsSupplied { build }).await
    }

    /// Asks for a build's end, and says how it stands then. Asking twice is no error while it is ending.
    pub async fn cancel(
        &self,
        build: BuildId,
        principal: Principal,
        reason: String,
    ) -> Result<BuildState, Error> {
        self.decide(Input::Cancel { build, principal, reason }).await?;
        Ok(self.record(build).await?.map_or(BuildState::Canceled, |record| record.state))
    }

    /// What is known of a build; none once it is archived.
    pub async fn record(&self, build: BuildId) -> Result<Option<BuildRecord>, Error> {
        self.query(|answer| Query::Record { build, answer }).await
    }

    /// The same, and how the build stands at this moment.
    pub async fn standing(&self, build: BuildId) -> Result<Option<(BuildRecord, Standing)>, Error> {
        self.query(|answer| Query::Standing { build, answer }).await
    }

    /// Events of a build after number `after`; none once it is archived.
    pub async fn events(&self, build: BuildId, after: u64) -> Result<Option<Events>, Error> {
        self.query(|answer| Query::Events { build, after, answer }).await
    }

    /// Builds that are not archived, newest first, and how they stand at this moment.
    pub async fn list_active(&self, filter: Filter) -> Result<Vec<(BuildRecord, Standing)>, Error> {
        self.query(|answer| Query::List { filter, answer }).await
    }

    /// All workers that are connected or were lately, by name.
    pub async fn workers(&self) -> Result<Vec<WorkerView>, Error> {
        self.query(|answer| Query::Workers { answer }).await
    }

    /// Counters over the whole farm.
    pub async fn counts(&self) -> Result<FarmCounts, Error> {
        self.query(|answer| Query::Counts { answer }).await
    }

    /// What the ledger knows of an attempt; none once its build is archived, or if it never was.
    pub async fn attempt(&self, attempt: AttemptId) -> Result<Option<AttemptStatus>, Error> {
        self.query(|answer| Query::Attempt { attempt, answer }).await
    }

    /// The sources of builds that are not archived and come behind `after`, in the order of their names; at most `limit`.
    pub async fn sources(&self, after: Option<BuildId>, limit: usize) -> Result<Vec<Source>, Error> {
        self.query(|answer| Query::Sources { after, limit, answer }).await
    }

    /// Marks a worker, durably, and says how it stands then; no view if it is not connected now.
    pub async fn drain(
        &self,
        worker: WorkerName,
        principal: Principal,
        draining: bool,
    ) -> Result<Option<WorkerView>, Error> {
        self.decide(Input::DrainWorker { worker: worker.clone(), principal, draining }).await?;
        Ok(self.workers().await?.into_iter().find(|view| view.offer.name == worker))
    }

    /// A worker said Hello. The first message down is its Welcome.
    pub async fn connect_worker(
        &self,
        offer: WorkerOffer,
        running: Vec<RunningAttempt>,
    ) -> Result<Connection, Error> {
        let mailbox = Arc::new(Mailbox::default());
        let offer = Arc::new(offer);
        let down = Arc::clone(&mailbox);
        let id = self.ask(move |answer| Message::Connect { offer, running, mailbox: down, answer }).await??;
        Ok(Connection { id, messages: Messages::new(id, mailbox, Arc::clone(&self.inbox)) })
    }

    /// A worker said something on its stream. Not awaited to be durable: the worker repeats what matters.
    pub async fn worker_said(&self, connection: ConnectionId, input: WorkerInput) -> Result<(), Error> {
        let input = match input {
            WorkerInput::Heartbeat { sequence, running, problem } => {
                Input::WorkerHeard { connection, sequence, running, problem }
            }
            WorkerInput::LeaseAccepted { attempt } => Input::LeaseAccepted { connection, attempt },
            WorkerInput::LeaseRejected { attempt, code, message } => {
                Input::LeaseRejected { connection, attempt, code, message }
            }
            WorkerInput::AttemptEnded { attempt, outcome, log_bytes, log_warning } => {
                Input::AttemptEnded { connection, attempt, outcome: *outcome, log_bytes, log_warning }
            }
            WorkerInput::DrainRequested { draining } => Input::WorkerWishesDrain { connection, draining },
        };
        self.inbox.push(Message::Input { input, answer: None }).await.map_err(|_| Error::Stopped)
    }

    /// A base reads more of the source than the client sent: the client is to send the rest.
    pub async fn context_incomplete(&self, build: BuildId, reason: String) -> Result<(), Error> {
        self.decide(Input::ContextIncomplete { build, reason }).await
    }

    /// The client sent the whole context, and all its files are here.
    pub async fn supply_context(&self, build: BuildId, context: ContextRef) -> Result<(), Error> {
        self.decide(Input::ContextSupplied { build, context }).await
    }

    /// The plan's bases are resolved.
    pub async fn lock_resolved(&self, build: BuildId, lock: Lock) -> Result<(), Error> {
        self.decide(Input::LockResolved { build, lock: Arc::new(lock) }).await
    }

    /// A base cannot be had for this job, which is on trial: it fails alone. To be said before the lock.
    pub async fn trial_refused(&self, build: BuildId, job: u16, failure: Failure) -> Result<(), Error> {
        self.decide(Input::TrialRefused { build, job, failure }).await
    }

    /// A base cannot be had: the build fails.
    pub async fn lock_failed(&self, build: BuildId, failure: Failure) -> Result<(), Error> {
        self.decide(Input::LockFailed { build, failure }).await
    }

    /// Every manifest is verified; push the index once this has returned.
    pub async fn index_prepared(&self, build: BuildId, index: Sha256, size: u64) -> Result<(), Error> {
        self.decide(Input::IndexPrepared { build, index, size }).await
    }

    /// One tag now names the index.
    pub async fn tag_moved(&self, build: BuildId, tag: Reference) -> Result<(), Error> {
        self.decide(Input::TagMoved { build, tag }).await
    }

    /// The publisher could not go on. `retryable`: it is sent again, a bounded number of times.
    pub async fn publish_failed(
        &self,
        build: BuildId,
        failure: Failure,
        retryable: bool,
    ) -> Result<(), Error> {
        self.decide(Input::PublishFailed { build, failure, retryable }).await
    }

    /// The index is there and every tag of the order was moved.
    pub async fn publish_done(&self, build: BuildId) -> Result<(), Error> {
        self.decide(Input::PublishDone { build }).await
    }

    /// An ended build's record is safe in the views: the driver forgets it.
    pub async fn archived(&self, build: BuildId) -> Result<(), Error> {
        self.decide(Input::Archived { build }).await
    }

    /// Takes nothing new; what was taken is finished, then [`Running::ended`](super::Running::ended) returns.
    pub fn stop(&self) {
        self.inbox.close();
    }

    /// Whether the driver has stopped, on purpose or because its journal failed.
    pub fn is_stopped(&self) -> bool {
        self.inbox.is_closed()
    }

    async fn decide(&self, input: Input) -> Result<(), Error> {
        self.ask(|answer| Message::Input { input, answer: Some(answer) }).await?
    }

    async fn query<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, Error> {
        self.ask(|answer| Message::Query(query(answer))).await
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.inbox.push(message(answer)).await.map_err(|_| Error::Stopped)?;
        answered.await.map_err(|_| Error::Stopped)
    }
}
