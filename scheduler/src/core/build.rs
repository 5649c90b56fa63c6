//! One build as the ledger holds it: plan, jobs, attempts, events.
//!
//! Data and the questions that can be answered from it alone. What changes it is `evolve`; what should happen
//! next is `decide`.

use std::collections::BTreeMap;
use std::sync::Arc;

use archyard_model::build::PushedManifest;
use archyard_model::{
    AttemptId, AttemptRecord, BuildEvent, BuildId, BuildRecord, BuildState, EventKind, Failure, FencingToken,
    ImageResult, JobId, JobRecord, JobState, Lock, Origin, Plan, Platform, Pool, Principal, Reference,
    RequestId, Sha256, TagRecord, WorkerName,
};
use jiff::Timestamp;

use super::heritage::Promotion;
use super::lines::LineKey;
use super::tags::Place;

/// How a build will end once nothing of it runs any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// A terminal state.
    pub state: BuildState,
    /// Why, unless somebody asked for it.
    pub failure: Option<Failure>,
}

/// A build, from its acceptance to its archiving.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the word of the design it is named for")]
pub struct Build {
    pub id: BuildId,
    pub request_id: RequestId,
    pub principal: Principal,
    pub plan: Arc<Plan>,
    pub pool: Pool,
    pub accepted_ms: u64,
    /// Its place in the order of acceptance.
    pub sequence: u64,
    /// Its place in the order in which builds may move tags: its own, or that of the build it builds again.
    pub tag_sequence: u64,
    /// What it moves as it publishes: its plan's tags, or a candidate's own.
    pub moves: Arc<[Reference]>,
    pub state: BuildState,
    pub waiting: Option<String>,
    /// It reads more of its source than its client sent, and waits for the rest.
    pub lacks_context: bool,
    pub lock: Option<Arc<Lock>>,
    pub jobs: Vec<Job>,
    pub ending: Option<Ending>,
    /// Whether its tags' turn is its own.
    pub publishing: bool,
    /// The index is there and every tag is settled; only trials may still run.
    pub published: bool,
    /// Publishing attempts that failed.
    pub publish_failures: u32,
    pub index: Option<(Sha256, u64)>,
    pub tags: Vec<TagRecord>,
    pub failure: Option<Failure>,
    pub ended_ms: Option<u64>,
    pub events: Vec<BuildEvent>,
    pub origin: Option<Origin>,
    /// The candidate's index that it publishes.
    pub promotion: Option<Promotion>,
}

/// One platform's share.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the word of the design it is named for")]
pub struct Job {
    pub platform: Platform,
    pub state: JobState,
    /// Its attempt was told to stop.
    pub stopping: bool,
    pub waiting: Option<String>,
    /// In order of their tokens; only the last can be running.
    pub attempts: Vec<Attempt>,
    pub result: Option<ImageResult>,
    pub failure: Option<Failure>,
    /// The platform of the workers it is offered to, where that is another than its own.
    pub cross: Option<Platform>,
    /// Not built here: another build's result was taken over.
    pub carried: bool,
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the word of the design it is named for")]
pub struct Attempt {
    pub token: FencingToken,
    pub worker: WorkerName,
    pub started_ms: u64,
    pub ended_ms: Option<u64>,
    pub failure: Option<Failure>,
    pub log_bytes: u64,
    pub log_warning: Option<String>,
    /// Whether it counts against the limit: a lease that was declined does not.
    pub counted: bool,
}

impl Job {
    /// A job nobody has run.
    pub fn new(platform: Platform) -> Self {
        Self {
            platform,
            state: JobState::Queued,
            stopping: false,
            waiting: None,
            attempts: Vec::new(),
            result: None,
            failure: None,
            cross: None,
            carried: false,
        }
    }

    /// The attempt that holds the current token and has not ended.
    pub fn current(&self) -> Option<&Attempt> {
        self.attempts.last().filter(|attempt| attempt.ended_ms.is_none())
    }

    /// The token of the next lease.
    pub fn next_token(&self) -> FencingToken {
        FencingToken(self.attempts.last().map_or(1, |attempt| attempt.token.0 + 1))
    }

    /// Attempts that count against the limit, and leases that came to nothing.
    pub fn tries(&self) -> (u32, u32) {
        let counted = self.attempts.iter().filter(|attempt| attempt.counted).count();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        (number(counted), number(self.attempts.len() - counted))
    }
}

impl Build {
    /// The job at this position of the plan.
    pub fn job(&self, index: u16) -> Option<&Job> {
        self.jobs.get(usize::from(index))
    }

    /// Positions of its jobs, with them.
    pub fn jobs(&self) -> impl Iterator<Item = (JobId, &Job)> {
        (0u16..).zip(&self.jobs).map(|(index, job)| (JobId { build: self.id, index }, job))
    }

    /// Whether this attempt holds its job's current token and has not ended.
    pub fn is_current(&self, attempt: AttemptId) -> bool {
        self.job(attempt.job.index)
            .and_then(Job::current)
            .is_some_and(|current| current.token == attempt.token)
    }

    /// Whether jobs of it may be offered to workers.
    pub fn is_schedulable(&self) -> bool {
        let goes_on = matches!(self.state, BuildState::Running | BuildState::Publishing);
        self.lock.is_some() && !self.lacks_context && self.ending.is_none() && goes_on
    }

    /// The jobs that are not on trial.
    pub fn required(&self) -> impl Iterator<Item = &Job> {
        self.jobs().filter(|(id, _)| !self.plan.is_trial(id.index)).map(|(_, job)| job)
    }

    /// Whether every required job has its image.
    pub fn is_built(&self) -> bool {
        self.required().all(|job| job.state == JobState::Succeeded)
    }

    /// Whether all that was asked for is there, and nothing but trials may still run.
    pub fn is_delivered(&self) -> bool {
        self.published || (!self.plan.output.publishes() && self.is_built())
    }

    /// How it ends once it is delivered. One that left every tag to newer builds is superseded.
    pub fn good_end(&self) -> BuildState {
        let left_all = !self.tags.is_empty() && self.tags.iter().all(|tag| !tag.moved);
        if left_all { BuildState::Superseded } else { BuildState::Succeeded }
    }

    /// Its place in the order in which builds may move tags.
    pub fn place(&self) -> Place {
        Place { tags: self.tag_sequence, accepted: self.sequence }
    }

    /// Whether it still has, or may get, a say in where its tags point.
    pub fn claims_tags(&self) -> bool {
        self.plan.output.publishes() && !self.published && !self.state.is_terminal()
    }

    /// Whether it waits for its tags' turn.
    pub fn wants_turn(&self) -> bool {
        self.claims_tags() && self.ending.is_none() && !self.publishing && self.is_built()
    }

    /// Whether its next step reaches a registry on its client's behalf.
    pub fn needs_registry(&self) -> bool {
        self.lock.is_none()
            || self.publishing
            || self.wants_turn()
            || self.jobs.iter().any(|job| job.state == JobState::Queued)
    }

    /// The line in which a job of it waits.
    pub fn line(&self, job: &Job) -> LineKey {
        LineKey::of(self.pool, &job.platform, job.cross.as_ref())
    }

    /// Tags whose fate is open.
    pub fn open_tags(&self) -> impl Iterator<Item = &Reference> {
        self.moves.iter().filter(|tag| !self.tags.iter().any(|settled| settled.tag == **tag))
    }

    /// What each required job pushed, once all have.
    pub fn images(&self) -> Vec<(Platform, PushedManifest)> {
        let pushed = |job: &Job| Some((job.platform.clone(), job.result.as_ref()?.manifest.clone()?));
        self.required().filter_map(pushed).collect()
    }

    /// Required platforms that were built on workers of another one, with that one.
    pub fn crossed(&self) -> BTreeMap<Platform, Platform> {
        self.required().filter_map(|job| Some((job.platform.clone(), job.cross.clone()?))).collect()
    }

    /// Appends an event under the next number.
    pub fn say(&mut self, wall_ms: u64, kind: EventKind) {
        let seq = self.events.last().map_or(1, |event| event.seq + 1);
        self.events.push(BuildEvent { seq, at: wall(wall_ms), kind });
    }

    /// The number of the last event.
    pub fn last_seq(&self) -> u64 {
        self.events.last().map_or(0, |event| event.seq)
    }

    /// What the world may know of it.
    pub fn record(&self) -> BuildRecord {
        BuildRecord {
            id: self.id,
            request_id: self.request_id.clone(),
            principal: self.principal.clone(),
            plan: Plan::clone(&self.plan),
            lock: self.lock.as_deref().cloned(),
            state: self.state,
            waiting_reason: self.waiting.clone(),
            jobs: self.jobs.iter().map(job_record).collect(),
            accepted_at: wall(self.accepted_ms),
            ended_at: self.ended_ms.map(wall),
            failure: self.failure.clone(),
            index: self.index,
            tags: self.tags.clone(),
            events: self.last_seq(),
            origin: self.origin,
            tag_sequence: Some(self.tag_sequence),
        }
    }
}

fn job_record(job: &Job) -> JobRecord {
    JobRecord {
        platform: job.platform.clone(),
        state: job.state,
        waiting_reason: job.waiting.clone(),
        attempts: job
            .attempts
            .iter()
            .map(|attempt| AttemptRecord {
                token: attempt.token,
                worker: attempt.worker.clone(),
                started_at: wall(attempt.started_ms),
                ended_at: attempt.ended_ms.map(wall),
                failure: attempt.failure.clone(),
                log_bytes: attempt.log_bytes,
                log_warning: attempt.log_warning.clone(),
            })
            .collect(),
        result: job.result.clone(),
        failure: job.failure.clone(),
        cross: job.cross.clone(),
        carried: job.carried,
    }
}

/// Milliseconds since the epoch as people's time.
pub fn wall(ms: u64) -> Timestamp {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}
