//! The durable floor of the state: what replay must give back exactly.
//!
//! Nothing here knows of connections, clocks or free slots.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use archyard_model::{AttemptId, BuildId, JobId, Principal, Reference, RequestId, WorkerName};

use super::build::{Build, Job};
use super::tags::Place;

/// A client's name for its request: two principals may choose alike.
pub type RequestKey = (Principal, RequestId);

/// What the ledger holds beside builds and drain marks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// The publish sequence of the next build.
    pub next_sequence: u64,
    /// The build that moved each tag last, or may have, and its place.
    pub moved: BTreeMap<Reference, (Place, BuildId)>,
    /// The last place in the order of tags of whom such a move was forgotten.
    pub forgotten: u64,
    /// Requests of archived builds, oldest first: a client may repeat itself after its build is gone.
    pub archived: VecDeque<(RequestKey, BuildId)>,
}

/// All that is durable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Builds that are not yet archived.
    pub builds: BTreeMap<BuildId, Build>,
    /// What each request became, archived ones included as long as they are remembered.
    pub requests: BTreeMap<RequestKey, BuildId>,
    /// Workers an operator has marked, and who did.
    pub drained: BTreeMap<WorkerName, Principal>,
    /// Unfinished builds that want each tag, by their places.
    pub claims: BTreeMap<Reference, BTreeSet<(Place, BuildId)>>,
    /// Tags of [`Header::moved`] that nobody claims, the first to be forgotten first.
    pub unclaimed: BTreeSet<(Place, Reference)>,
    /// The rest.
    pub header: Header,
    /// Builds that have not ended.
    pub active: usize,
}

impl Ledger {
    /// The build of this name, unless archived.
    pub fn build(&self, id: BuildId) -> Option<&Build> {
        self.builds.get(&id)
    }

    /// The job of this name, unless its build is archived.
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.build(id.build)?.job(id.index)
    }

    /// Whether this attempt holds its job's current token and has not ended.
    pub fn is_current(&self, attempt: AttemptId) -> bool {
        self.build(attempt.job.build).is_some_and(|build| build.is_current(attempt))
    }

    /// What a repeated submission became.
    pub fn request(&self, principal: &Principal, request: &RequestId) -> Option<BuildId> {
        self.requests.get(&(principal.clone(), request.clone())).copied()
    }
}
