//! What is known of a build at this moment: what every renderer draws from.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use archyard_model::build::BuildState;
use archyard_model::{
    BuildEvent, EventKind, Failure, ImageResult, JobState, Origin, Platform, Sha256, TagRecord,
};
use archyard_proto::v1::LogFrame;
use archyard_proto::v1::log_frame::Frame;
use jiff::Timestamp;

use super::steps::{Steps, one_line};
use super::update::{Change, Step, Update};
use crate::text::between;

/// A line without an end is shown after this long without another byte.
const PARTIAL_LINE: Duration = Duration::from_secs(1);

/// A build.
#[derive(Debug)]
pub(crate) struct Board {
    /// Its id, once the farm has it.
    pub(crate) build: Option<String>,
    /// The build it starts from.
    pub(crate) origin: Option<Origin>,
    /// One per platform, in the plan's order.
    pub(crate) lanes: Vec<Lane>,
    /// When this client began.
    pub(crate) began: Instant,
    /// Why the build as a whole waits.
    pub(crate) waiting: Option<String>,
    /// Bytes of the context that were sent, and are to be sent.
    pub(crate) uploading: Option<(u64, u64)>,
    /// Bytes of what was built that arrived, and are to arrive.
    pub(crate) fetching: Option<(u64, u64)>,
    /// Whether the farm answers.
    pub(crate) reachable: bool,
    /// Whether somebody wants it canceled.
    pub(crate) canceling: bool,
    /// The index that is being published.
    pub(crate) publishing: Option<Sha256>,
    /// What became of its tags.
    pub(crate) tags: Vec<TagRecord>,
    /// How it ended.
    pub(crate) ended: Option<Ended>,
    accepted_at: Option<Timestamp>,
    last_output: Instant,
    partial: bool,
}

/// How a build ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) state: BuildState,
    pub(crate) failure: Option<Failure>,
    /// The index and its length in bytes.
    pub(crate) index: Option<(Sha256, u64)>,
    /// By the scheduler's clock.
    pub(crate) took: Duration,
}

/// One platform of it.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) platform: Platform,
    /// Whether it neither holds the build up nor enters the index.
    pub(crate) trial: bool,
    /// The platform of the worker it is built on, where that is another.
    pub(crate) cross: Option<Platform>,
    /// Whether its result is that of the build this one starts from.
    pub(crate) carried: bool,
    pub(crate) state: JobState,
    pub(crate) worker: Option<String>,
    /// The attempt under way, or the last.
    pub(crate) token: u64,
    /// Why nothing runs it.
    pub(crate) waiting: Option<String>,
    /// What no event says of why it does not run: its place in its queue, mostly.
    pub(crate) queue: Option<String>,
    /// What its runner does around BuildKit.
    pub(crate) phase: Option<String>,
    /// The steps of the attempt whose log is being read.
    pub(crate) steps: Steps,
    /// When this client heard that it started.
    pub(crate) heard: Option<Instant>,
    pub(crate) took: Option<Duration>,
    pub(crate) result: Option<ImageResult>,
    pub(crate) failure: Option<Failure>,
    log_token: u64,
    started_at: Option<Timestamp>,
}

impl Lane {
    fn new(platform: Platform, trial: bool) -> Self {
        Self {
            platform,
            trial,
            cross: None,
            carried: false,
            state: JobState::Queued,
            worker: None,
            token: 0,
            waiting: None,
            queue: None,
            phase: None,
            steps: Steps::default(),
            heard: None,
            took: None,
            result: None,
            failure: None,
            log_token: 0,
            started_at: None,
        }
    }
}

impl Board {
    /// A build of these platforms, some of them on trial, of which nothing is known yet.
    pub(crate) fn new(platforms: &[Platform], trial: &BTreeSet<u16>) -> Self {
        let lanes = (0..).zip(platforms);
        Self {
            build: None,
            origin: None,
            lanes: lanes.map(|(at, platform)| Lane::new(platform.clone(), trial.contains(&at))).collect(),
            began: Instant::now(),
            waiting: None,
            uploading: None,
            fetching: None,
            reachable: true,
            canceling: false,
            publishing: None,
            tags: Vec::new(),
            ended: None,
            accepted_at: None,
            last_output: Instant::now(),
            partial: false,
        }
    }

    /// Takes note, and says what changed.
    pub(crate) fn apply(&mut self, update: Update, mut tell: impl FnMut(&Self, Change)) {
        match update {
            Update::Note(text) => tell(self, Change::Note(text)),
            Update::Uploading { sent_bytes, total_bytes } => {
                self.uploading = (sent_bytes < total_bytes).then_some((sent_bytes, total_bytes));
                tell(self, Change::Uploading { sent_bytes, total_bytes });
            }
            Update::Fetching { received_bytes, total_bytes } => {
                self.fetching = (received_bytes < total_bytes).then_some((received_bytes, total_bytes));
                tell(self, Change::Fetching { received_bytes, total_bytes });
            }
            Update::Submitted { build } => {
                self.build = Some(build.clone());
                self.uploading = None;
                tell(self, Change::Submitted { build });
            }
            Update::Reachable(reachable) => {
                if self.reachable != reachable {
                    self.reachable = reachable;
                    let text = if reachable {
                        "the scheduler answers again"
                    } else {
                        "scheduler unreachable, retrying; the build goes on"
                    };
                    tell(self, Change::Note(text.to_owned()));
                }
            }
            Update::Event(event) => {
                self.event(&event);
                tell(self, Change::Event(event));
            }
            Update::Record(known) => {
                self.origin = known.origin;
                known.tags.into_iter().for_each(|tag| self.tag(tag));
                for (lane, job) in self.lanes.iter_mut().zip(known.jobs) {
                    (lane.cross, lane.carried) = (job.cross, job.carried);
                }
            }
            Update::Queued(places) => {
                for (at, place) in places.into_iter().enumerate() {
                    let Some(lane) = self.lanes.get_mut(at) else { break };
                    // An event that came meanwhile knows better.
                    let told = lane.waiting.as_ref().map(|reason| format!("waiting: {reason}"));
                    let place =
                        place.filter(|place| lane.state == JobState::Queued && told.as_ref() != Some(place));
                    if place != lane.queue {
                        lane.queue.clone_from(&place);
                        if let Some(place) = place {
                            tell(self, Change::Queued { lane: at, place });
                        }
                    }
                }
            }
            Update::Frame { job, token, frame } => {
                for step in self.frame(job, token, frame) {
                    tell(self, Change::Log { lane: job, token, step });
                }
            }
        }
    }

    /// Time passed: tells lines without an end that have waited long enough.
    pub(crate) fn tick(&mut self, tell: impl FnMut(&Self, Change)) {
        if self.last_output.elapsed() >= PARTIAL_LINE {
            self.flush(tell);
        }
    }

    /// Tells lines without an end, for nothing more will come soon, or at all.
    pub(crate) fn flush(&mut self, mut tell: impl FnMut(&Self, Change)) {
        if !std::mem::take(&mut self.partial) {
            return;
        }
        let mut changes = Vec::new();
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            let token = lane.log_token;
            lane.steps.flush(|step| changes.push(Change::Log { lane: at, token, step }));
        }
        for change in changes {
            tell(self, change);
        }
    }

    /// Tags of a build with all that was asked for that newer builds have.
    pub(crate) fn left_to_others(&self) -> impl Iterator<Item = &TagRecord> {
        let is_success = self.ended.as_ref().is_some_and(|ended| ended.state.is_success());
        self.tags.iter().filter(move |tag| is_success && !tag.moved)
    }

    /// The whole build's time so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn event(&mut self, event: &BuildEvent) {
        let at = event.at;
        match &event.kind {
            EventKind::Accepted { .. } => self.accepted_at = Some(at),
            EventKind::Waiting { reason } => self.waiting = Some(reason.clone()),
            EventKind::ContextMissed { reason } => {
                self.waiting = Some(format!("its whole context: {reason}"));
            }
            EventKind::Locked { .. } => self.waiting = None,
            EventKind::JobWaiting { job, reason } => {
                self.lane(*job, |lane| lane.waiting = Some(reason.clone()));
            }
            EventKind::JobLeased { job, token, worker } => self.lane(*job, |lane| {
                lane.state = JobState::Leased;
                lane.token = token.0;
                lane.worker = Some(worker.to_string());
                lane.waiting = None;
                lane.queue = None;
            }),
            EventKind::JobStarted { job, token, worker } => self.lane(*job, |lane| {
                lane.state = JobState::Running;
                lane.token = token.0;
                lane.worker = Some(worker.to_string());
                lane.waiting = None;
                lane.heard.get_or_insert_with(Instant::now);
                lane.started_at.get_or_insert(at);
            }),
            EventKind::AttemptEnded { job, failure, will_retry, .. } => self.lane(*job, |lane| {
                if *will_retry {
                    lane.state = JobState::Queued;
                    lane.waiting = failure.as_ref().map(|failure| format!("another try after: {failure}"));
                }
            }),
            EventKind::JobEnded { job, state, result, failure } => self.lane(*job, |lane| {
                lane.state = *state;
                lane.waiting = None;
                lane.queue = None;
                lane.result.clone_from(result);
                lane.failure.clone_from(failure);
                lane.took = lane.started_at.map(|start| between(start, at));
            }),
            EventKind::CancelRequested { .. } => self.canceling = true,
            EventKind::Publishing { index, .. } => self.publishing = Some(*index),
            EventKind::TagMoved(tag) => self.tag(tag.clone()),
            EventKind::Ended { state, failure, index } => {
                self.waiting = None;
                let took = self.accepted_at.map(|start| between(start, at)).unwrap_or_default();
                self.ended = Some(Ended { state: *state, failure: failure.clone(), index: *index, took });
            }
        }
    }

    fn tag(&mut self, tag: TagRecord) {
        self.tags.retain(|known| known.tag != tag.tag);
        self.tags.push(tag);
    }

    fn lane(&mut self, job: u16, change: impl FnOnce(&mut Lane)) {
        if let Some(lane) = self.lanes.get_mut(usize::from(job)) {
            change(lane);
        }
    }

    fn frame(&mut self, job: usize, token: u64, frame: LogFrame) -> Vec<Step> {
        let mut told = Vec::new();
        let Some(lane) = self.lanes.get_mut(job) else { return told };
        if token > lane.log_token {
            lane.log_token = token;
            lane.steps = Steps::default();
            lane.phase = None;
        }
        let mut tell = |step| told.push(step);
        match frame.frame {
            Some(Frame::Phase(phase)) => {
                lane.phase = Some(phase.name.clone());
                tell(Step::Phase { name: one_line(&phase.name), detail: one_line(&phase.detail) });
            }
            Some(Frame::Vertex(vertex)) => lane.steps.vertex(&vertex, tell),
            Some(Frame::Output(output)) => {
                self.last_output = Instant::now();
                self.partial = true;
                lane.steps.output(&output, tell);
            }
            Some(Frame::Status(status)) => lane.steps.transfer(status, tell),
            Some(Frame::Warning(warning)) => tell(Step::Warning {
                number: lane.steps.number_of(&warning.vertex),
                message: one_line(&warning.message),
                line: warning.line,
                url: one_line(&warning.url),
            }),
            Some(Frame::Clipped(clipped)) => lane.steps.clipped(&clipped, tell),
            None => {}
        }
        told
    }
}
