//! Workers' machines: an agent that comes and goes, runners that outlive it, and the stream between agent and
//! scheduler, in order but late, cut and cut again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use archyard_model::build::PushedManifest;
use archyard_model::{
    AttemptId, Blake3, Failure, FailureClass, ImageResult, Output, Platform, Pool, Sha256, WorkerOffer,
    limits,
};
use archyard_scheduler::core::{ConnectionId, Downstream, Input, RunningAttempt};

use super::world::{Event, World, worker_name};

/// What a runner came to.
pub(super) type Ended = Result<ImageResult, Failure>;

/// One attempt on a machine.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) ended: Option<Ended>,
    stopping: bool,
    output: Output,
    /// It was given a part of its context.
    partial: bool,
    /// The stream on which the scheduler learns of it, and when that arrives.
    pub(super) told: Option<(ConnectionId, Duration)>,
}

/// One machine.
pub(super) struct Machine {
    pub(super) offer: WorkerOffer,
    pub(super) agent_up: bool,
    pub(super) connection: Option<ConnectionId>,
    pub(super) problem: Option<String>,
    pub(super) slow: bool,
    pub(super) runners: BTreeMap<AttemptId, Runner>,
    cut_until: Duration,
    last_up: Duration,
    last_down: Duration,
    sequence: u64,
}

impl Machine {
    pub(super) fn new(
        at: usize,
        platforms: Vec<Platform>,
        emulated: Vec<Platform>,
        slots: usize,
        pool: Pool,
    ) -> Self {
        let offer = WorkerOffer {
            name: worker_name(at).expect("a worker's name"),
            boot_id: "boot".to_owned(),
            session_id: "session".to_owned(),
            instance_id: "folder".to_owned(),
            platforms,
            emulated,
            slots: u32::try_from(slots).unwrap_or(1),
            labels: BTreeMap::new(),
            pool,
            version: "0".to_owned(),
            engine: "simulated".to_owned(),
            draining: false,
            dial: 0,
        };
        Self {
            offer,
            agent_up: true,
            connection: None,
            problem: None,
            slow: false,
            runners: BTreeMap::new(),
            cut_until: Duration::ZERO,
            last_up: Duration::ZERO,
            last_down: Duration::ZERO,
            sequence: 0,
        }
    }

    pub(super) fn heal(&mut self) {
        self.problem = None;
        self.slow = false;
        self.cut_until = Duration::ZERO;
    }

    fn running(&self) -> usize {
        self.runners.values().filter(|runner| runner.ended.is_none()).count()
    }
}

impl World {
    pub(super) fn dial(&mut self, worker: usize) {
        let machine = &self.machines[worker];
        if !machine.agent_up || machine.connection.is_some() {
            return;
        }
        if !self.scheduler.is_up() || self.now < machine.cut_until {
            let pause = self.rng.millis(100, 5_000);
            return self.later(pause, Event::Dial { worker });
        }
        self.scheduler.connections += 1;
        let connection = ConnectionId(self.scheduler.connections);
        let machine = &mut self.machines[worker];
        machine.connection = Some(connection);
        machine.offer.dial = connection.0;
        (machine.last_up, machine.last_down) = (self.now, self.now);
        let running = machine
            .runners
            .iter()
            .map(|(attempt, runner)| RunningAttempt { attempt: *attempt, finished: runner.ended.is_some() })
            .collect();
        let offer = Arc::new(machine.offer.clone());
        let arrives = self.send_up(worker, Input::WorkerJoined { connection, offer, running });
        for runner in self.machines[worker].runners.values_mut() {
            runner.told = Some((connection, arrives));
        }
        self.later(limits::HEARTBEAT, Event::Beat { worker, session: connection.0 });
    }

    pub(super) fn beat(&mut self, worker: usize, session: u64) {
        let connection = ConnectionId(session);
        let machine = &mut self.machines[worker];
        if machine.connection != Some(connection) || !machine.agent_up {
            return;
        }
        machine.sequence += 1;
        let input = Input::WorkerHeard {
            connection,
            sequence: machine.sequence,
            running: machine.runners.keys().copied().collect(),
            problem: machine.problem.clone(),
        };
        self.send_up(worker, input);
        self.later(limits::HEARTBEAT, Event::Beat { worker, session });
    }

    /// Messages of one stream arrive in order, and sometimes twice.
    fn send_up(&mut self, worker: usize, input: Input) -> Duration {
        let late = if self.machines[worker].slow { 12_000 } else { 50 };
        let pause = self.rng.millis(1, late);
        let machine = &mut self.machines[worker];
        let at = (self.now + pause).max(machine.last_up);
        machine.last_up = at;
        let epoch = self.scheduler.epoch;
        if self.rng.chance(4) {
            self.at(at, Event::Up { epoch, input: input.clone() });
        }
        self.at(at, Event::Up { epoch, input });
        at
    }

    pub(super) fn send_down(&mut self, connection: ConnectionId, message: Downstream) {
        let Some(worker) = self.machines.iter().position(|m| m.connection == Some(connection)) else {
            return;
        };
        let late = if self.machines[worker].slow { 12_000 } else { 50 };
        let pause = self.rng.millis(1, late);
        let machine = &mut self.machines[worker];
        let at = (self.now + pause).max(machine.last_down);
        machine.last_down = at;
        self.at(at, Event::Down { worker, connection, messages: vec![message] });
    }

    pub(super) fn down(&mut self, worker: usize, connection: ConnectionId, messages: Vec<Downstream>) {
        for message in messages {
            let machine = &mut self.machines[worker];
            if machine.connection != Some(connection) || !machine.agent_up {
                return;
            }
            match message {
                Downstream::Welcome { stop, .. } => {
                    for attempt in stop {
                        self.stop_runner(worker, attempt);
                    }
                    let finished: Vec<AttemptId> = self.machines[worker]
                        .runners
                        .iter()
                        .filter(|(_, runner)| runner.ended.is_some())
                        .map(|(attempt, _)| *attempt)
                        .collect();
                    for attempt in finished {
                        self.send_result(worker, attempt);
                    }
                }
                Downstream::Lease { attempt, spec } => {
                    let offer = &machine.offer;
                    let native = offer.platforms.contains(&spec.platform);
                    let emulated = offer.emulated.contains(&spec.platform);
                    assert!(native != spec.cross, "seed {}: I4: {attempt} is native or cross", self.seed);
                    assert!(!(spec.cross && emulated), "seed {}: I4: {attempt} could be emulated", self.seed);
                    self.report.crossed += usize::from(spec.cross);
                    self.lease(worker, connection, attempt, spec.output, spec.context.partial);
                }
                Downstream::Cancel { attempt, .. } => self.stop_runner(worker, attempt),
                Downstream::ResultAck { attempt } => {
                    if machine.runners.get(&attempt).is_some_and(|runner| runner.ended.is_some()) {
                        machine.runners.remove(&attempt);
                    }
                }
                Downstream::Drain { .. } | Downstream::HeartbeatAck { .. } => {}
            }
        }
    }

    fn lease(
        &mut self,
        worker: usize,
        connection: ConnectionId,
        attempt: AttemptId,
        output: Output,
        partial: bool,
    ) {
        self.report.leases += 1;
        if !self.healed && self.rng.chance(2) {
            return;
        }
        let machine = &self.machines[worker];
        let full = machine.running() >= machine.offer.slots as usize;
        if full || (!self.healed && self.rng.chance(6)) {
            let code = if full { "no_slot" } else { "disk_low" }.to_owned();
            let input = Input::LeaseRejected { connection, attempt, code, message: String::new() };
            self.send_up(worker, input);
            return;
        }
        let arrives = self.send_up(worker, Input::LeaseAccepted { connection, attempt });
        let told = Some((connection, arrives));
        let runner = Runner { ended: None, stopping: false, output, partial, told };
        self.machines[worker].runners.insert(attempt, runner);
        let takes = self.rng.millis(200, 25_000);
        self.later(takes, Event::RunnerEnds { worker, attempt });
    }

    pub(super) fn runner_ends(&mut self, worker: usize, attempt: AttemptId) {
        let dice = self.rng.below(100);
        let healed = self.healed;
        let ended = |runner: &Runner| match dice {
            0..40 if runner.partial => {
                let class = FailureClass::Infrastructure;
                Err(Failure::new(class, "context_incomplete", "BuildKit asks for everything"))
            }
            0..8 => Err(Failure::new(FailureClass::User, "run_failed", "RUN make failed").with_exit_code(2)),
            8..20 if !healed => {
                let code = ["engine_unreachable", "disk_full", "registry_503"][dice % 3];
                Err(Failure::new(FailureClass::Infrastructure, code, "it broke"))
            }
            _ => Ok(image(runner.output, attempt)),
        };
        // One that was told to stop and hangs does not finish in the meantime.
        let stopping = self.machines[worker].runners.get(&attempt).is_some_and(|runner| runner.stopping);
        if !stopping {
            self.end_runner(worker, attempt, ended);
        }
    }

    pub(super) fn runner_stops(&mut self, worker: usize, attempt: AttemptId) {
        self.end_runner(worker, attempt, |_| {
            Err(Failure::new(FailureClass::Canceled, "stopped", "stopped on request"))
        });
    }

    pub(super) fn runner_dies(&mut self, worker: usize) {
        let running = self.machines[worker].runners.iter().find(|(_, runner)| runner.ended.is_none());
        let Some(attempt) = running.map(|(attempt, _)| *attempt) else { return };
        self.end_runner(worker, attempt, |_| {
            Err(Failure::new(FailureClass::Infrastructure, "runner_died", "the runner was killed"))
        });
    }

    fn end_runner(&mut self, worker: usize, attempt: AttemptId, ended: impl FnOnce(&Runner) -> Ended) {
        let Some(runner) = self.machines[worker].runners.get_mut(&attempt) else { return };
        if runner.ended.is_some() {
            return;
        }
        let outcome = ended(runner);
        runner.ended = Some(outcome.clone());
        self.checks.runner_ended(attempt, outcome);
        self.send_result(worker, attempt);
    }

    fn send_result(&mut self, worker: usize, attempt: AttemptId) {
        let machine = &self.machines[worker];
        let (Some(connection), true) = (machine.connection, machine.agent_up) else { return };
        let Some(outcome) = machine.runners.get(&attempt).and_then(|runner| runner.ended.clone()) else {
            return;
        };
        self.send_up(
            worker,
            Input::AttemptEnded { connection, attempt, outcome, log_bytes: 100, log_warning: None },
        );
    }

    /// A told runner stops soon, late, or with nothing to say about it.
    fn stop_runner(&mut self, worker: usize, attempt: AttemptId) {
        let Some(runner) = self.machines[worker].runners.get_mut(&attempt) else { return };
        if runner.ended.is_some() || runner.stopping {
            return;
        }
        runner.stopping = true;
        if self.rng.chance(15) {
            self.machines[worker].runners.remove(&attempt);
            return;
        }
        let hangs = !self.healed && self.rng.chance(15);
        let pause = if hangs { self.rng.millis(20_000, 90_000) } else { self.rng.millis(50, 2_000) };
        self.later(pause, Event::RunnerStops { worker, attempt });
    }

    pub(super) fn agent_crashes(&mut self, worker: usize) {
        if !self.machines[worker].agent_up {
            return;
        }
        self.break_connection(worker);
        self.machines[worker].agent_up = false;
        let pause = self.rng.millis(100, 40_000);
        self.later(pause, Event::AgentStarts { worker });
    }

    pub(super) fn reboot(&mut self, worker: usize) {
        self.agent_crashes(worker);
        self.machines[worker].runners.retain(|_, runner| runner.ended.is_some());
    }

    pub(super) fn agent_starts(&mut self, worker: usize) {
        self.machines[worker].agent_up = true;
        self.later(Duration::ZERO, Event::Dial { worker });
    }

    pub(super) fn cut(&mut self, worker: usize) {
        let pause = self.rng.millis(50, 45_000);
        self.break_connection(worker);
        self.machines[worker].cut_until = self.now + pause;
        self.later(pause, Event::Dial { worker });
    }

    /// The scheduler hears of it soon, or not at all.
    fn break_connection(&mut self, worker: usize) {
        let Some(connection) = self.machines[worker].connection.take() else { return };
        if self.rng.chance(70) {
            let (epoch, pause) = (self.scheduler.epoch, self.rng.millis(1, 10_000));
            self.later(pause, Event::Up { epoch, input: Input::WorkerLeft { connection } });
        }
    }

    /// The scheduler closed this one.
    pub(super) fn disconnect(&mut self, connection: ConnectionId) {
        if let Some(worker) = self.machines.iter().position(|m| m.connection == Some(connection)) {
            self.machines[worker].connection = None;
            let pause = self.rng.millis(100, 5_000);
            self.later(pause, Event::Dial { worker });
        }
    }

    /// The scheduler's process is gone.
    pub(super) fn connections_break(&mut self) {
        for worker in 0..self.machines.len() {
            if self.machines[worker].connection.take().is_some() {
                let pause = self.rng.millis(100, 5_000);
                self.later(pause, Event::Dial { worker });
            }
        }
    }
}

/// Every attempt gives an image of its own.
fn image(output: Output, attempt: AttemptId) -> ImageResult {
    let digest = Sha256::from_bytes(*Blake3::of(attempt.to_string().as_bytes()).as_bytes());
    let manifest = output.publishes().then(|| PushedManifest {
        digest,
        size: 700,
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
    });
    ImageResult { manifest, config_digest: Some(digest), ..ImageResult::default() }
}
