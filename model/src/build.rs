//! What is known of a build: states, attempts, results, failures.

use std::fmt;

use jiff::Timestamp;

use crate::{
    Artifact, BuildId, FencingToken, Inspection, Lock, Plan, Platform, Principal, Reference, RequestId,
    Sha256, SmokeOutcome, WorkerName, limits,
};

/// Where a build stands. The last four are terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BuildState {
    /// Accepted; needs its client's credentials, or its lock.
    Waiting,
    /// Sharded: every job that has not ended waits for a free slot. Said of a running build when somebody asks; no
    /// fact and no event has it.
    Queued,
    /// Sharded: jobs are queued or running.
    Running,
    /// Every platform succeeded; no cancel from here on.
    Publishing,
    /// Everything asked for is there.
    Succeeded,
    /// At least one platform, or the publishing, failed.
    Failed,
    /// Somebody said so.
    Canceled,
    /// Everything asked for is there, and newer builds have taken every tag.
    Superseded,
}

impl BuildState {
    /// Whether nothing more happens.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled | Self::Superseded)
    }

    /// Whether everything that was asked for is there, whoever has the tags.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Succeeded | Self::Superseded)
    }
}

impl fmt::Display for BuildState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Publishing => "publishing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Superseded => "superseded",
        })
    }
}

/// Where a job stands. The last three are terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Waits for a worker.
    Queued,
    /// Offered to a worker.
    Leased,
    /// Its worker accepted.
    Running,
    /// Built, and pushed where that was asked for.
    Succeeded,
    /// Failed for good.
    Failed,
    /// Its build was canceled, or failed elsewhere.
    Canceled,
}

impl JobState {
    /// Whether nothing more happens.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        })
    }
}

/// Who is to blame decides whether a job is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The Dockerfile's own failure: never tried again.
    User,
    /// Worker, Engine, disk or registry: tried again, a bounded number of times.
    Infrastructure,
    /// Stopped on request.
    Canceled,
}

/// Why something failed: words for a person, a code for a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Who is to blame.
    pub class: FailureClass,
    /// Stable and short: `run_failed`, `base_lacks_platform`.
    pub code: String,
    /// One line: what, which value, what to do.
    pub message: String,
    /// Further lines: the Dockerfile's excerpt.
    pub detail: String,
    /// Of the failed `RUN`, when known.
    pub exit_code: Option<i32>,
}

impl Failure {
    /// A failure with its one line, cut to the limit.
    pub fn new(class: FailureClass, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            class,
            code: code.into(),
            message: cut(message.into(), limits::FAILURE_MESSAGE_BYTES),
            detail: String::new(),
            exit_code: None,
        }
    }

    /// With further lines, cut to the limit.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = cut(detail.into(), limits::FAILURE_DETAIL_BYTES);
        self
    }

    /// With the exit code of the step that failed.
    #[must_use]
    pub fn with_exit_code(mut self, code: i32) -> Self {
        self.exit_code = Some(code);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Cuts text to at most `max` bytes at a character boundary.
fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let mut at = max - '…'.len_utf8();
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.truncate(at);
        text.push('…');
    }
    text
}

/// What a job left in the registry, with the scheduler, or on its worker for `check`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageResult {
    /// The OCI manifest, when it was pushed, or is one of the artifacts.
    pub manifest: Option<PushedManifest>,
    /// The image ID.
    pub config_digest: Option<Sha256>,
    /// What was found in it.
    pub inspection: Option<Inspection>,
    /// What became of its smoke tests.
    pub smoke: SmokeOutcome,
    /// For the client to fetch: an image's config, layers from the lowest, and manifest; or one tar.
    pub artifacts: Vec<Artifact>,
}

/// An OCI manifest in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedManifest {
    /// Of its bytes.
    pub digest: Sha256,
    /// Its length in bytes.
    pub size: u64,
    /// `application/vnd.oci.image.manifest.v1+json`.
    pub media_type: String,
}

/// One try, as the record keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Its fencing token.
    pub token: FencingToken,
    /// Where it ran.
    pub worker: WorkerName,
    /// When it was leased.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it did not succeed.
    pub failure: Option<Failure>,
    /// Its spool's length in bytes, once known.
    pub log_bytes: u64,
    /// Why its log is not whole.
    pub log_warning: Option<String>,
}

/// One job, as the record keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// What it builds for.
    pub platform: Platform,
    /// Where it stands.
    pub state: JobState,
    /// Why nothing runs it: `no native worker for linux/arm64`.
    pub waiting_reason: Option<String>,
    /// In order of their tokens.
    pub attempts: Vec<AttemptRecord>,
    /// On success.
    pub result: Option<ImageResult>,
    /// Otherwise.
    pub failure: Option<Failure>,
    /// The platform of the worker it was built on, where that is another than its own.
    pub cross: Option<Platform>,
    /// Not built here: another build's result was taken over.
    pub carried: bool,
}

/// What a build has of the build it starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OriginKind {
    /// It builds again what failed there, under the same lock.
    Rerun,
    /// It gives that one's very digests other tags.
    Promotion,
}

/// The build that another one starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// What it has of it.
    pub kind: OriginKind,
    /// Which.
    pub build: BuildId,
}

/// One tag's fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRecord {
    /// In full.
    pub tag: Reference,
    /// Whether it now names this build's index.
    pub moved: bool,
    /// Why it was left alone.
    pub detail: String,
}

/// All that is known of a build, running or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRecord {
    /// Its name.
    pub id: BuildId,
    /// What its client called the submission.
    pub request_id: RequestId,
    /// Who asked.
    pub principal: Principal,
    /// What was asked.
    pub plan: Plan,
    /// What the bases resolved to.
    pub lock: Option<Lock>,
    /// Where it stands.
    pub state: BuildState,
    /// Why it waits.
    pub waiting_reason: Option<String>,
    /// One per platform, in the plan's order.
    pub jobs: Vec<JobRecord>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// The published index and its length in bytes.
    pub index: Option<(Sha256, u64)>,
    /// What became of each tag.
    pub tags: Vec<TagRecord>,
    /// The last event's number.
    pub events: u64,
    /// The build it starts from; none for one of its own.
    pub origin: Option<Origin>,
    /// Its place in the order in which builds may move tags; a rerun has that of its origin. None in records of before
    /// there were reruns.
    pub tag_sequence: Option<u64>,
}
