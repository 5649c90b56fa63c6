//! The scheduler's process: the real core over a disk that survives its crashes.

use std::time::Duration;

use archyard_scheduler::core::{
    self, Downstream, Effect, Fact, Input, Moment, Outcome, Refusal, State, follow, snapshot, step,
};
use archyard_scheduler::journal::memory::{Disk, Memory};
use archyard_scheduler::journal::{Journal as _, codec};

use super::Trace;
use super::world::{Event, World};

/// Where simulated wall clocks begin.
const WALL_MS: u64 = 1_800_000_000_000;
/// Small, so that snapshots happen in every run.
const SNAPSHOT_EVERY: usize = 150;

/// One scheduler, process after process.
pub(super) struct Scheduler {
    /// Counts its processes.
    pub(super) epoch: u64,
    pub(super) started: Duration,
    /// A crash is due after so many commits, before the last of them or after it.
    crash: Option<(usize, bool)>,
    state: Option<State>,
    journal: Memory,
    disk: Disk,
    wake: Option<Duration>,
    pub(super) connections: u64,
    trace: Trace,
    kept: Vec<u8>,
}

impl Scheduler {
    pub(super) fn new(trace: Trace) -> Self {
        let disk = Disk::default();
        Self {
            epoch: 1,
            started: Duration::ZERO,
            crash: None,
            state: Some(State::default()),
            journal: Memory::open(disk.clone(), SNAPSHOT_EVERY),
            disk,
            wake: None,
            connections: 0,
            trace,
            kept: Vec::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state.is_some()
    }

    pub(super) fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    pub(super) fn crash_after(&mut self, commits: usize, before: bool) {
        self.crash = Some((commits, before));
    }

    pub(super) fn woken(&mut self) {
        self.wake = None;
    }

    pub(super) fn take_trace(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }

    /// The state that the disk alone gives.
    pub(super) fn replayed(&self) -> State {
        let mut state = State::recovering();
        for record in self.disk.records() {
            let (wall_ms, fact) = codec::decode(&record).expect("a record that was written is read");
            core::evolve(&mut state, Moment { wall_ms, ..Moment::default() }, &fact);
        }
        state.recovered();
        state
    }
}

/// Why an input came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The scheduler is down, or went down before it answered.
    Down,
    /// It said no.
    Refused,
}

impl World {
    /// Hands an input to the scheduler: decided, committed, released, in that order, unless it crashes between.
    pub(super) fn input(&mut self, input: Input) -> Result<(), Trouble> {
        let moment = self.moment();
        let Some(mut state) = self.scheduler.state.take() else { return Err(Trouble::Down) };
        let mut outcome = Outcome::default();
        let answer = step(&mut state, moment, input, &mut outcome);
        self.scheduler.state = Some(state);
        self.commit(moment, outcome)?;
        answer.map_err(|_: Refusal| Trouble::Refused)
    }

    pub(super) fn start_scheduler(&mut self) {
        if self.scheduler.is_up() {
            return;
        }
        self.scheduler.epoch += 1;
        self.scheduler.started = self.now;
        self.scheduler.wake = None;
        self.scheduler.journal = Memory::open(self.scheduler.disk.clone(), SNAPSHOT_EVERY);
        self.scheduler.state = Some(self.scheduler.replayed());
        self.checks.restarted(self.scheduler.state.as_ref());
        self.after_restart();
        let moment = self.moment();
        if let Some(mut state) = self.scheduler.state.take() {
            let mut outcome = Outcome::default();
            follow(&mut state, moment, &mut outcome);
            self.scheduler.state = Some(state);
            self.commit(moment, outcome).ok();
        }
        if self.healed {
            self.undrain();
        }
    }

    fn moment(&self) -> Moment {
        let elapsed = u64::try_from(self.now.as_millis()).unwrap_or_default();
        Moment { since_start: self.now.saturating_sub(self.scheduler.started), wall_ms: WALL_MS + elapsed }
    }

    fn commit(&mut self, moment: Moment, outcome: Outcome) -> Result<(), Trouble> {
        let records: Vec<Vec<u8>> =
            outcome.facts.iter().filter_map(|fact| codec::encode(moment.wall_ms, fact)).collect();
        let crash = self.crashes_now(!records.is_empty());
        if crash == Some(true) {
            self.crash_scheduler();
            return Err(Trouble::Down);
        }
        self.keep_trace(&outcome.facts);
        self.check_facts(moment, &outcome.facts);
        if !records.is_empty() {
            self.scheduler.journal.append(&records).expect("the simulated disk takes all");
        }
        let full = self.scheduler.journal.wants_snapshot();
        if let Some(state) = self.scheduler.state.as_ref().filter(|_| full) {
            let mut records = snapshot(state).filter_map(|fact| codec::encode(moment.wall_ms, &fact));
            self.scheduler.journal.snapshot(&mut records).expect("the simulated disk takes all");
        }
        if crash == Some(false) {
            self.crash_scheduler();
            return Err(Trouble::Down);
        }
        self.release(outcome.effects);
        self.set_wake();
        Ok(())
    }

    /// Whether a due crash comes with this commit, and if so whether before it.
    fn crashes_now(&mut self, durable: bool) -> Option<bool> {
        let (commits, before) = self.scheduler.crash.filter(|_| durable && !self.healed)?;
        if commits > 0 {
            self.scheduler.crash = Some((commits - 1, before));
            return None;
        }
        self.scheduler.crash = None;
        Some(before)
    }

    fn crash_scheduler(&mut self) {
        self.report.crashes += 1;
        self.scheduler.state = None;
        self.scheduler.epoch += 1;
        self.connections_break();
        let down = self.rng.millis(100, 20_000);
        self.later(down, Event::SchedulerStarts);
    }

    fn release(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::ResolveLock { build, .. } => self.resolve(build),
                Effect::ToWorker { connection, message } => {
                    self.check_context(&message);
                    self.send_down(connection, message);
                }
                Effect::Disconnect { connection, .. } => self.disconnect(connection),
                Effect::Publish(order) => self.publish(*order),
                Effect::Archive(ended) => self.archive(&ended),
                Effect::NotifyBuild { build, .. } => self.notified(build),
                Effect::ForgetBuild { .. } => {}
            }
        }
    }

    /// I12: no job begins while its build waits for the rest of its context.
    fn check_context(&self, message: &Downstream) {
        let Downstream::Lease { attempt, .. } = message else { return };
        let build = self.scheduler.state().and_then(|state| state.ledger.build(attempt.job.build));
        assert!(
            build.is_none_or(|build| !build.lacks_context),
            "seed {}: I12: {attempt} began early",
            self.seed
        );
    }

    fn set_wake(&mut self) {
        let Some(deadline) = self.scheduler.state().and_then(State::next_deadline) else { return };
        let at = (self.scheduler.started + deadline).max(self.now);
        if self.scheduler.wake.is_none_or(|wake| at < wake) {
            self.scheduler.wake = Some(at);
            self.at(at, Event::Wake);
        }
    }

    fn keep_trace(&mut self, facts: &[Fact]) {
        for fact in facts {
            match self.scheduler.trace {
                Trace::Forget => return,
                Trace::Keep => {
                    self.scheduler.kept.extend_from_slice(format!("{:?} {fact:?}\n", self.now).as_bytes());
                }
                Trace::Print => println!("{:?} {fact:?}", self.now),
            }
        }
    }
}
