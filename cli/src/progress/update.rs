//! What happens to a build, from its client's own work to the bytes a step writes.

use std::time::Duration;

use archyard_model::convert::{origin_from_proto, platform_from_proto, tag_from_proto};
use archyard_model::{BuildEvent, Origin, Platform, TagRecord};
use archyard_proto::v1 as proto;
use archyard_proto::v1::LogFrame;

/// As it arrives.
#[derive(Debug, Clone)]
pub(crate) enum Update {
    /// Worth a line: a warning of the plan, a scheduler that does not answer.
    Note(String),
    /// The context goes to the farm; bytes so far, and in all.
    Uploading { sent_bytes: u64, total_bytes: u64 },
    /// What was built comes from the farm; bytes so far, and in all.
    Fetching { received_bytes: u64, total_bytes: u64 },
    /// The farm has the build.
    Submitted { build: String },
    /// The farm does not answer, or does so again.
    Reachable(bool),
    /// The build's own events.
    Event(Box<BuildEvent>),
    /// What the build's record says beside its events.
    Record(Box<Known>),
    /// Per platform, what it waits for and where it is in its queue; none for one that does not wait.
    Queued(Vec<Option<String>>),
    /// A frame of the log of a job's attempt.
    Frame { job: usize, token: u64, frame: LogFrame },
}

/// What no event says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Known {
    /// The build it starts from.
    pub(crate) origin: Option<Origin>,
    /// Per platform, in the plan's order.
    pub(crate) jobs: Vec<KnownJob>,
    /// What became of each tag.
    pub(crate) tags: Vec<TagRecord>,
}

/// The same of one platform.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KnownJob {
    /// The platform of the worker it is built on, where that is another.
    pub(crate) cross: Option<Platform>,
    /// Not built here: its result is another build's.
    pub(crate) carried: bool,
}

impl From<&proto::BuildRecord> for Known {
    /// What a newer scheduler says and this client has no word for is left out.
    fn from(record: &proto::BuildRecord) -> Self {
        let job = |job: &proto::JobRecord| KnownJob {
            cross: job.cross.as_ref().and_then(|platform| platform_from_proto(platform).ok()),
            carried: job.carried,
        };
        Self {
            origin: record.origin.as_ref().and_then(|origin| origin_from_proto(origin).ok()),
            jobs: record.jobs.iter().map(job).collect(),
            tags: record.tags.iter().filter_map(|tag| tag_from_proto(tag.clone()).ok()).collect(),
        }
    }
}

/// As renderers see it: decoded, one thing at a time.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Worth a line.
    Note(String),
    /// The context goes to the farm.
    Uploading { sent_bytes: u64, total_bytes: u64 },
    /// What was built comes from the farm.
    Fetching { received_bytes: u64, total_bytes: u64 },
    /// The farm has the build.
    Submitted { build: String },
    /// The build's own events.
    Event(Box<BuildEvent>),
    /// What a job waits for, or its place in its queue, is another than was told.
    Queued { lane: usize, place: String },
    /// Something in a job's log. `lane` is the job's position in the plan.
    Log { lane: usize, token: u64, step: Step },
}

/// Something in a log. Numbers are those that people see: steps in the order in which they started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// What the runner does around BuildKit: "context", "build", "export", "push".
    Phase { name: String, detail: String },
    /// A step began.
    Started { number: usize, name: String },
    /// A line that a step wrote, fit for a terminal; without a number it is the runner's own. `at` counts from the
    /// step's start.
    Line { number: Option<usize>, at: Option<Duration>, stream: u32, text: String },
    /// A transfer is done; without a number it is the runner's own.
    Transferred { number: Option<usize>, name: String, bytes: u64 },
    /// BuildKit warns.
    Warning { number: Option<usize>, message: String, line: u32, url: String },
    /// BuildKit cut this step's output here.
    Clipped { number: Option<usize>, message: String },
    /// A step ended.
    Ended { number: usize, name: String, end: StepEnd },
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StepEnd {
    /// It ran.
    Done { took: Duration },
    /// Its result was there already.
    Cached,
    /// It was stopped.
    Canceled,
    /// It failed.
    Failed { error: String },
}
