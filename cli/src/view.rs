//! What `--json` prints: documented in docs/cli.md, and only ever added to.
//!
//! Names follow the .proto files; enums are lowercase words, instants RFC 3339, digests with their algorithm.
//! Made from the messages themselves: what a newer scheduler says and this client has no word for is left out.

mod image;
mod kept;
mod left;
mod queue;

use std::collections::BTreeMap;

use archyard_model::convert::{
    build_state_from_proto, job_state_from_proto, platform_from_proto, time_from_proto,
};
use archyard_model::{convert, plan::Plan, proxy};
use archyard_proto::v1 as proto;
use jiff::Timestamp;
use serde::{Serialize, Serializer};

pub(crate) use image::Image;
#[cfg(test)]
pub(crate) use image::{ForeignFile, Inspection};
pub(crate) use kept::{Pruned, Usage, kept_class};
pub(crate) use left::Left;
#[cfg(test)]
pub(crate) use queue::Ahead;
pub(crate) use queue::Queue;

/// A line of `ps --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) id: String,
    pub(crate) state: String,
    /// What it waits for.
    pub(crate) waiting_reason: Option<String>,
    /// Where it is in its queue: of its platforms, the one that is next.
    pub(crate) queue: Option<Queue>,
    pub(crate) project: String,
    pub(crate) principal: String,
    pub(crate) platforms: Vec<String>,
    /// Those of them on trial.
    pub(crate) trial: Vec<String>,
    pub(crate) failed_trials: u32,
    pub(crate) origin: Option<Origin>,
    pub(crate) tags: Vec<String>,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) accepted_at: Option<Timestamp>,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) ended_at: Option<Timestamp>,
}

/// The object of `show --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Build {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) waiting_reason: Option<String>,
    pub(crate) principal: String,
    pub(crate) request_id: String,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) accepted_at: Option<Timestamp>,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) origin: Option<Origin>,
    pub(crate) failure: Option<Failure>,
    pub(crate) index: Option<Index>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) jobs: Vec<Job>,
    /// What it left for its client.
    pub(crate) artifacts: Vec<Left>,
    pub(crate) lock: Option<Lock>,
    pub(crate) plan: Option<Plan>,
}

/// The build that another one starts from.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Origin {
    /// `rerun` or `promotion`.
    pub(crate) kind: &'static str,
    pub(crate) build: String,
}

/// One platform of a build.
#[derive(Debug, Serialize)]
pub(crate) struct Job {
    pub(crate) platform: String,
    pub(crate) trial: bool,
    /// The platform of the worker it was built on, where that is another.
    pub(crate) cross: Option<String>,
    /// Whether its result is that of the build this one starts from.
    pub(crate) carried: bool,
    pub(crate) state: String,
    pub(crate) waiting_reason: Option<String>,
    /// Where it is in its queue, while it waits for a free slot.
    pub(crate) queue: Option<Queue>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) result: Option<Image>,
    pub(crate) failure: Option<Failure>,
}

/// One try of a job.
#[derive(Debug, Serialize)]
pub(crate) struct Attempt {
    pub(crate) token: u64,
    pub(crate) worker: String,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) started_at: Option<Timestamp>,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) failure: Option<Failure>,
    pub(crate) log_bytes: u64,
    /// Why its log is not whole.
    pub(crate) log_warning: Option<String>,
}

/// Why something did not succeed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failure {
    pub(crate) class: &'static str,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: String,
    pub(crate) exit_code: Option<i32>,
}

/// The published index.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Index {
    pub(crate) digest: String,
    pub(crate) bytes: u64,
}

/// One tag's fate.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Tag {
    pub(crate) tag: String,
    pub(crate) moved: bool,
    pub(crate) detail: Option<String>,
}

/// What the bases resolved to.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Lock {
    pub(crate) unlocked: bool,
    pub(crate) images: Vec<LockedImage>,
}

/// One base.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LockedImage {
    pub(crate) image: String,
    pub(crate) digest: Option<String>,
    pub(crate) platforms: Vec<String>,
    pub(crate) warning: Option<String>,
}

/// A line of `workers --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) platforms: Vec<String>,
    pub(crate) emulated: Vec<String>,
    pub(crate) slots: u32,
    pub(crate) used_slots: u32,
    pub(crate) pool: String,
    pub(crate) engine: String,
    pub(crate) version: String,
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) connected_at: Option<Timestamp>,
    pub(crate) running: Vec<Running>,
    pub(crate) problem: Option<String>,
}

/// An attempt that a worker runs.
#[derive(Debug, Serialize)]
pub(crate) struct Running {
    pub(crate) build: String,
    pub(crate) job: u32,
    pub(crate) token: u64,
}

impl From<proto::BuildSummary> for Summary {
    fn from(message: proto::BuildSummary) -> Self {
        let trial = message.trial.iter().filter_map(|at| usize::try_from(*at).ok());
        Self {
            state: build_state(message.state()),
            waiting_reason: some(message.waiting_reason),
            queue: message.queue.map(Into::into),
            id: message.build_id,
            project: message.project,
            principal: message.principal,
            trial: trial.filter_map(|at| message.platforms.get(at)).map(platform).collect(),
            failed_trials: message.failed_trials,
            origin: message.origin.map(Into::into),
            platforms: platforms(&message.platforms),
            tags: message.tags,
            accepted_at: time(message.accepted_at),
            ended_at: time(message.ended_at),
        }
    }
}

impl From<proto::GetBuildResponse> for Build {
    fn from(answer: proto::GetBuildResponse) -> Self {
        let artifacts = Left::all(&answer);
        let message = answer.build.unwrap_or_default();
        let trial = message.plan.as_ref().map(|plan| plan.trial.clone()).unwrap_or_default();
        Self {
            state: build_state(message.state()),
            id: message.build_id,
            origin: message.origin.map(Into::into),
            waiting_reason: some(message.waiting_reason),
            principal: message.principal,
            request_id: message.request_id,
            accepted_at: time(message.accepted_at),
            ended_at: time(message.ended_at),
            failure: message.failure.map(Into::into),
            index: index(message.index_digest, message.index_bytes),
            tags: message.tags.into_iter().map(Into::into).collect(),
            jobs: message.jobs.into_iter().map(|job| Job::new(job, &trial)).collect(),
            artifacts,
            lock: message.lock.map(Into::into),
            // An older scheduler gives proxies with their passwords.
            plan: message
                .plan
                .and_then(|plan| convert::plan_from_proto(plan).ok())
                .map(|plan| Plan { build_args: proxy::masked_arguments(&plan.build_args), ..plan }),
        }
    }
}

impl From<proto::Origin> for Origin {
    fn from(message: proto::Origin) -> Self {
        Self {
            kind: match message.kind() {
                proto::OriginKind::Rerun => "rerun",
                proto::OriginKind::Promotion => "promotion",
                proto::OriginKind::Unspecified => "unknown",
            },
            build: message.build_id,
        }
    }
}

impl Job {
    /// `trial`: positions on trial.
    fn new(message: proto::JobRecord, trial: &[u32]) -> Self {
        Self {
            state: job_state(message.state()),
            trial: trial.contains(&message.index),
            cross: message.cross.as_ref().map(platform),
            carried: message.carried,
            platform: message.platform.as_ref().map(platform).unwrap_or_default(),
            waiting_reason: some(message.waiting_reason),
            queue: message.queue.map(Into::into),
            attempts: message.attempts.into_iter().map(Into::into).collect(),
            result: message.result.map(Into::into),
            failure: message.failure.map(Into::into),
        }
    }
}

impl From<proto::AttemptRecord> for Attempt {
    fn from(message: proto::AttemptRecord) -> Self {
        Self {
            token: message.token,
            worker: message.worker,
            started_at: time(message.started_at),
            ended_at: time(message.ended_at),
            failure: message.failure.map(Into::into),
            log_bytes: message.log_bytes,
            log_warning: some(message.log_warning),
        }
    }
}

impl From<proto::Failure> for Failure {
    fn from(message: proto::Failure) -> Self {
        Self {
            class: match message.failure_class() {
                proto::FailureClass::User => "user",
                proto::FailureClass::Infrastructure => "infrastructure",
                proto::FailureClass::Canceled => "canceled",
                proto::FailureClass::Unspecified => "unknown",
            },
            code: message.code,
            message: message.message,
            detail: message.detail,
            exit_code: (message.exit_code != 0).then_some(message.exit_code),
        }
    }
}

impl From<proto::TagRecord> for Tag {
    fn from(message: proto::TagRecord) -> Self {
        Self { tag: message.tag, moved: message.moved, detail: some(message.detail) }
    }
}

impl From<proto::Lock> for Lock {
    fn from(message: proto::Lock) -> Self {
        let image = |image: proto::LockedImage| LockedImage {
            platforms: platforms(&image.platforms),
            image: image.image,
            digest: some(image.digest),
            warning: some(image.warning),
        };
        Self { unlocked: message.unlocked, images: message.images.into_iter().map(image).collect() }
    }
}

impl From<proto::Worker> for Worker {
    fn from(message: proto::Worker) -> Self {
        let running = |attempt: proto::AttemptRef| {
            let job = attempt.job.unwrap_or_default();
            Running { build: job.build_id, job: job.index, token: attempt.token }
        };
        Self {
            state: match message.state() {
                proto::WorkerState::Ready => "ready",
                proto::WorkerState::Draining => "draining",
                proto::WorkerState::Lost => "lost",
                proto::WorkerState::Unspecified => "unknown",
            },
            platforms: platforms(&message.platforms),
            emulated: platforms(&message.emulated),
            name: message.name,
            slots: message.slots,
            used_slots: message.used_slots,
            pool: message.pool,
            engine: message.engine,
            version: message.version,
            labels: message.labels,
            connected_at: time(message.connected_at),
            running: message.running.into_iter().map(running).collect(),
            problem: some(message.problem),
        }
    }
}

/// A platform as people write it.
pub(crate) fn platform(message: &proto::Platform) -> String {
    platform_from_proto(message)
        .map_or_else(|_| format!("{}/{}", message.os, message.architecture), |platform| platform.to_string())
}

/// The published index, if there is one.
pub(crate) fn index(digest: String, bytes: u64) -> Option<Index> {
    (!digest.is_empty()).then_some(Index { digest, bytes })
}

/// An instant, if one was given and is one.
pub(crate) fn time(message: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    time_from_proto("at", message).ok()
}

/// A state as a word.
pub(crate) fn build_state(state: proto::BuildState) -> String {
    build_state_from_proto(state).map_or_else(|_| "unknown".to_owned(), |state| state.to_string())
}

/// A state as a word.
pub(crate) fn job_state(state: proto::JobState) -> String {
    job_state_from_proto(state).map_or_else(|_| "unknown".to_owned(), |state| state.to_string())
}

/// Text that is there.
pub(crate) fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn rfc3339<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}

fn platforms(messages: &[proto::Platform]) -> Vec<String> {
    messages.iter().map(platform).collect()
}
