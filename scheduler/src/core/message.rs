//! What goes down to a worker, and what goes out into the world, once the facts behind it are durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use archyard_model::build::PushedManifest;
use archyard_model::convert::JobSpec;
use archyard_model::{AttemptId, BuildEvent, BuildId, BuildRecord, Lock, Plan, Platform, Reference, Sha256};

use super::heritage::Promotion;
use super::input::{ConnectionId, Parting};

/// One message to a worker. The session's secrets are no part of it: whoever writes the stream adds them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the word of the design it is named for")]
pub enum Downstream {
    /// Always first on a stream.
    Welcome { adopt: Vec<AttemptId>, stop: Vec<AttemptId>, draining: bool },
    /// An offer.
    Lease { attempt: AttemptId, spec: Arc<JobSpec> },
    /// Stop this one and say when it has stopped.
    Cancel { attempt: AttemptId, reason: String },
    /// Take nothing new, or take leases again.
    Drain { draining: bool },
    /// The result is durable; forget it.
    ResultAck { attempt: AttemptId },
    /// The heartbeat was heard.
    HeartbeatAck { sequence: u64 },
}

/// Work for the publisher. Doing it twice gives the same index and the same tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishOrder {
    /// For this build.
    pub build: BuildId,
    /// Its plan: repositories, insecure registries.
    pub plan: Arc<Plan>,
    /// In the plan's order, what each job pushed.
    pub images: Vec<(Platform, PushedManifest)>,
    /// Of images that were built on a worker of another platform, that platform.
    pub cross: BTreeMap<Platform, Platform>,
    /// The candidate's index that must come out, and where it waits; for a promotion.
    pub promotion: Option<Promotion>,
    /// Tags still to be moved, in this order, the first failure being the end. May be empty: the index is pushed by digest all the same.
    pub tags: Vec<Reference>,
    /// The index of an earlier try, which this one must give again.
    pub index: Option<(Sha256, u64)>,
    /// From 1.
    pub attempt: u32,
}

/// An ended build, for the views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedBuild {
    /// All that is known.
    pub record: BuildRecord,
    /// All that happened.
    pub events: Vec<BuildEvent>,
}

/// What the outside must do because of a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the word of the design it is named for")]
pub enum Effect {
    /// Resolve the plan's bases; answer with `LockResolved` or `LockFailed`.
    ResolveLock { build: BuildId, plan: Arc<Plan> },
    /// Send down a worker's stream.
    ToWorker { connection: ConnectionId, message: Downstream },
    /// Close a worker's stream.
    Disconnect { connection: ConnectionId, parting: Parting },
    /// Verify, push the index, move the tags.
    Publish(Box<PublishOrder>),
    /// Keep an ended build's record; answer with `Archived`.
    Archive(Box<EndedBuild>),
    /// Something happened to a build that is being watched; `events` so far.
    NotifyBuild { build: BuildId, events: u64 },
    /// A build was archived: whoever watches it asks the views from here on.
    ForgetBuild { build: BuildId },
}

/// The share of a locked plan that one job is.
pub fn job_spec(
    plan: &Plan,
    lock: &Lock,
    index: u16,
    pool: archyard_model::Pool,
    cross: bool,
) -> Option<Arc<JobSpec>> {
    JobSpec::of(plan, lock, index, pool, cross).map(Arc::new)
}
