//! The whole state, on two floors.
//!
//! The ledger is durable: replay gives it back exactly. The live floor holds connections, deadlines and indexes; it is
//! never journaled, and whatever of it follows from the ledger is built again by the same replay.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use archyard_model::{BuildId, JobId, JobState, Platform, ProjectName, WorkerName};

use super::build::Build;
use super::classes::Classes;
use super::due;
use super::input::ConnectionId;
use super::ledger::Ledger;
use super::lines::{Lines, Queued, Standing};
use super::orphans;
use super::timers::{Timer, Timers};
use super::times::Times;
use super::turns::Turns;
use super::worker::Worker;

/// Everything the core knows.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// What is durable.
    pub ledger: Ledger,
    /// What is not.
    pub live: Live,
}

/// Whether a publishing build's order is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The publisher works.
    Out,
    /// It failed, and is sent again after a pause.
    Paused,
}

/// Connections, deadlines, indexes.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// By name.
    pub workers: BTreeMap<WorkerName, Worker>,
    /// Streams that are up.
    pub connections: BTreeMap<ConnectionId, WorkerName>,
    /// Builds whose credentials are in memory.
    pub credentials: BTreeSet<BuildId>,
    /// Builds that were found to lack theirs.
    pub credentials_missed: BTreeSet<BuildId>,
    /// Builds whose client is to send the rest of their context.
    pub context_awaited: BTreeSet<BuildId>,
    /// How often each build's lock was asked for.
    pub lock_asked: BTreeMap<BuildId, u32>,
    /// Builds that publish.
    pub orders: BTreeMap<BuildId, Order>,
    /// Ended builds on their way to the views.
    pub archiving: BTreeSet<BuildId>,
    /// Builds for which something follows from the state alone.
    pub due: BTreeSet<BuildId>,
    /// Builds that wait for their tags' turn, or have it.
    pub turns: Turns,
    /// Queued jobs.
    pub lines: Lines,
    /// Workers by what they run, and whose turn it is.
    pub classes: Classes,
    /// Which worker ran a project's platform last.
    pub warm: BTreeMap<(ProjectName, Platform), WorkerName>,
    /// All deadlines.
    pub timers: Timers,
    /// Jobs that workers have.
    pub running: u64,
    /// After a recovery: no lease expires before.
    pub grace: Duration,
    /// What the operator set.
    pub times: Times,
}

impl State {
    /// The state before a replay: leases of what it finds have a full period of grace.
    pub fn recovering() -> Self {
        Self::recovering_with(Times::default())
    }

    /// The same, with times of the operator's.
    pub fn recovering_with(times: Times) -> Self {
        let live = Live { grace: times.grace, times, ..Live::default() };
        Self { ledger: Ledger::default(), live }
    }

    /// The replay is over. Where nothing was under way there is nothing to be graceful about.
    pub fn recovered(&mut self) {
        if self.ledger.active == 0 {
            self.live.grace = Duration::ZERO;
        }
    }

    /// When something falls due by itself, since the start.
    pub fn next_deadline(&self) -> Option<Duration> {
        let timer = self.live.timers.first().map(|(at, _)| at);
        let orphans = self.live.lines.iter().filter_map(|(key, line)| orphans::deadline(self, key, line));
        orphans.chain(timer).min()
    }

    /// Whether the build may use registries now: it needs no credentials, or they are in memory.
    pub fn has_credentials(&self, build: &Build) -> bool {
        build.plan.credential_hosts.is_empty() || self.live.credentials.contains(&build.id)
    }

    /// Brings everything that follows from one build up to date: its lines, its turn, whether it is due.
    pub fn refresh(&mut self, id: BuildId, now: Duration) {
        let Some(build) = self.ledger.builds.get(&id) else {
            self.live.due.remove(&id);
            return;
        };
        let present = build.plan.credential_hosts.is_empty() || self.live.credentials.contains(&id);
        let schedulable = present && build.is_schedulable();
        let delivered = build.is_delivered();
        let project = &build.plan.project;
        for (job_id, job) in build.jobs() {
            let wanted = schedulable && job.state == JobState::Queued;
            let waits = self.live.lines.contains(job_id);
            if !wanted && !waits {
                continue;
            }
            let line = build.line(job);
            let trial = build.plan.is_trial(job_id.index);
            let queued = Queued { trial, sequence: build.sequence, job: job_id };
            if !wanted {
                self.live.lines.dequeue(&line, project, queued);
                self.live.classes.unqueued(&line, project);
                continue;
            }
            if !waits {
                let served = self.live.classes.serve(&line);
                self.live.lines.open(&line, now, served);
                self.live.lines.enqueue(&line, project, queued, now);
                self.live.classes.queued(&line, project);
            }
            let standing = Standing {
                said: job.waiting.is_some(),
                crossable: job.cross.is_none() && build.plan.cross.contains(&job_id.index),
                dispensable: trial && delivered,
            };
            self.live.lines.stand(&line, queued, standing);
        }
        if present && build.wants_turn() {
            self.live.turns.wait(&build.moves, build.place(), id);
        }
        if due::step(self, build).is_some() {
            self.live.due.insert(id);
        } else {
            self.live.due.remove(&id);
        }
    }

    /// The build leaves its tags' turns; whoever is next becomes due.
    pub fn leave_turns(&mut self, id: BuildId, now: Duration) {
        let Some(build) = self.ledger.builds.get(&id) else { return };
        let next = self.live.turns.leave(&build.moves, build.place(), id);
        for other in next {
            if other != id {
                self.refresh(other, now);
            }
        }
    }

    /// Brings a worker's place among the free ones up to date.
    pub fn replace(&mut self, name: &WorkerName) {
        let drained = self.ledger.drained.contains_key(name);
        let Some(worker) = self.live.workers.get_mut(name) else { return };
        let Some(class) = &worker.class else { return };
        let free = worker.placement(name, drained);
        if free != worker.free {
            self.live.classes.place(class, worker.free.as_ref(), free.as_ref());
            worker.free = free;
        }
    }

    /// Takes a job out of its line: it is about to stand in another.
    pub fn dequeue(&mut self, id: JobId) {
        let Some(build) = self.ledger.builds.get(&id.build) else { return };
        let Some(job) = build.job(id.index).filter(|_| self.live.lines.contains(id)) else { return };
        let (line, project) = (build.line(job), &build.plan.project);
        let queued = Queued { trial: build.plan.is_trial(id.index), sequence: build.sequence, job: id };
        self.live.lines.dequeue(&line, project, queued);
        self.live.classes.unqueued(&line, project);
    }

    /// A job went to a worker, or came back from one.
    pub fn count(&mut self, job: JobId, began: bool, now: Duration) {
        let Some(build) = self.ledger.builds.get(&job.build) else { return };
        let Some(line) = build.job(job.index).map(|job| build.line(job)) else { return };
        let project = &build.plan.project;
        let served = self.live.classes.serve(&line);
        let counted = self.live.lines.open(&line, now, served);
        if began {
            counted.began(project);
            self.live.classes.began(&line, project);
            self.live.running += 1;
        } else {
            counted.ended(project);
            self.live.classes.ended(&line, project);
            self.live.running -= 1;
        }
    }

    /// Sets a deadline, but none within the grace after a recovery.
    pub fn set_timer(&mut self, timer: Timer, at: Duration) {
        self.live.timers.set(timer, at.max(self.live.grace));
    }
}
