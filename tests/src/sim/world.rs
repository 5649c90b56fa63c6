//! Time, the queue of what happens next, and what goes wrong.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use archyard_model::{AttemptId, BuildId, Platform, Pool, Principal, ProjectName, WorkerName};
use archyard_scheduler::core::{ConnectionId, Downstream, Input};

use super::checks::Checks;
use super::client::Client;
use super::publisher::{Registry, Task};
use super::rng::Rng;
use super::scheduler::Scheduler;
use super::worker::Machine;
use super::{Report, Trace};

/// What can happen.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "few wait at a time")]
pub(super) enum Event {
    /// A message of a worker reaches the scheduler process of this epoch.
    Up {
        epoch: u64,
        input: Input,
    },
    /// Messages reach a worker, if it still listens on this connection.
    Down {
        worker: usize,
        connection: ConnectionId,
        messages: Vec<Downstream>,
    },
    Dial {
        worker: usize,
    },
    Beat {
        worker: usize,
        session: u64,
    },
    RunnerEnds {
        worker: usize,
        attempt: AttemptId,
    },
    RunnerStops {
        worker: usize,
        attempt: AttemptId,
    },
    AgentStarts {
        worker: usize,
    },
    /// A deadline of the core.
    Wake,
    SchedulerStarts,
    Submit {
        client: usize,
    },
    Attach {
        build: BuildId,
    },
    Cancel {
        build: BuildId,
    },
    Resolved {
        epoch: u64,
        build: BuildId,
    },
    Publisher {
        epoch: u64,
        task: Box<Task>,
    },
    Archived {
        epoch: u64,
        build: BuildId,
    },
    Mischief,
}

/// An event in its place.
struct Entry {
    at: Duration,
    order: u64,
    event: Event,
}

/// Everything.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) now: Duration,
    pub(super) rng: Rng,
    pub(super) healed: bool,
    pub(super) scheduler: Scheduler,
    pub(super) machines: Vec<Machine>,
    pub(super) clients: Vec<Client>,
    pub(super) registry: Registry,
    pub(super) checks: Checks,
    pub(super) report: Report,
    pub(super) builds: BTreeMap<BuildId, usize>,
    queue: BinaryHeap<Reverse<Entry>>,
    order: u64,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl World {
    pub(super) fn new(seed: u64, trace: Trace) -> Self {
        let mut rng = Rng::new(seed);
        let machines = machines(&mut rng);
        let clients = Client::some(&mut rng);
        let mut world = Self {
            seed,
            now: Duration::ZERO,
            healed: false,
            scheduler: Scheduler::new(trace),
            checks: Checks::default(),
            machines,
            clients,
            registry: Registry::default(),
            report: Report::default(),
            builds: BTreeMap::new(),
            queue: BinaryHeap::new(),
            order: 0,
            rng,
        };
        for worker in 0..world.machines.len() {
            world.later(Duration::ZERO, Event::Dial { worker });
        }
        for client in 0..world.clients.len() {
            let after = world.rng.millis(0, 60_000);
            world.later(after, Event::Submit { client });
        }
        world.later(Duration::from_secs(1), Event::Mischief);
        world
    }

    pub(super) fn later(&mut self, after: Duration, event: Event) {
        self.at(self.now + after, event);
    }

    pub(super) fn at(&mut self, at: Duration, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Entry { at, order: self.order, event }));
    }

    pub(super) fn run_until(&mut self, end: Duration) {
        while self.queue.peek().is_some_and(|Reverse(entry)| entry.at <= end) {
            self.one();
        }
        self.now = end;
    }

    /// Until every client knows its build's end and every ended build is archived.
    pub(super) fn run_until_quiet(&mut self, horizon: Duration) {
        while !self.is_quiet() {
            assert!(
                self.now < horizon,
                "seed {}: not quiet at the horizon:\n{}",
                self.seed,
                self.unfinished()
            );
            self.one();
        }
    }

    /// From here on nothing goes wrong any more.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        if !self.scheduler.is_up() {
            self.later(Duration::ZERO, Event::SchedulerStarts);
        }
        for worker in 0..self.machines.len() {
            self.machines[worker].heal();
            if !self.machines[worker].agent_up {
                self.later(Duration::ZERO, Event::AgentStarts { worker });
            }
        }
        self.undrain();
        let attach: Vec<BuildId> = self.builds.keys().copied().collect();
        for build in attach {
            self.later(Duration::from_secs(1), Event::Attach { build });
        }
    }

    /// Operators let every worker take leases again.
    pub(super) fn undrain(&mut self) {
        for worker in 0..self.machines.len() {
            let name = self.machines[worker].offer.name.clone();
            let input = Input::DrainWorker { worker: name, principal: Principal::local(), draining: false };
            self.input(input).ok();
        }
    }

    pub(super) fn finish(mut self) -> Report {
        self.check_end();
        self.report.trace = self.scheduler.take_trace();
        self.report
    }

    fn is_quiet(&self) -> bool {
        self.scheduler.is_up()
            && self.clients.iter().all(|client| client.build.is_some())
            && self.scheduler.state().is_some_and(|state| state.ledger.builds.is_empty())
    }

    fn unfinished(&self) -> String {
        let Some(state) = self.scheduler.state() else { return "the scheduler is down".to_owned() };
        let mut text = String::new();
        for build in state.ledger.builds.values() {
            text.push_str(&format!("{} {} {:?}\n{:#?}\n", build.id, build.state, build.ending, build.events));
        }
        text
    }

    fn one(&mut self) {
        let Some(Reverse(entry)) = self.queue.pop() else {
            panic!("seed {}: nothing happens any more", self.seed)
        };
        self.now = self.now.max(entry.at);
        self.report.steps += 1;
        match entry.event {
            Event::Up { epoch, input } => {
                if epoch == self.scheduler.epoch {
                    self.input(input).ok();
                }
            }
            Event::Down { worker, connection, messages } => self.down(worker, connection, messages),
            Event::Dial { worker } => self.dial(worker),
            Event::Beat { worker, session } => self.beat(worker, session),
            Event::RunnerEnds { worker, attempt } => self.runner_ends(worker, attempt),
            Event::RunnerStops { worker, attempt } => self.runner_stops(worker, attempt),
            Event::AgentStarts { worker } => self.agent_starts(worker),
            Event::Wake => {
                if self.scheduler.is_up() {
                    self.scheduler.woken();
                    self.input(Input::Tick).ok();
                }
            }
            Event::SchedulerStarts => self.start_scheduler(),
            Event::Submit { client } => self.submit(client),
            Event::Attach { build } => self.attach(build),
            Event::Cancel { build } => self.cancel(build),
            Event::Resolved { epoch, build } => self.resolved(epoch, build),
            Event::Publisher { epoch, task } => self.publisher(epoch, *task),
            Event::Archived { epoch, build } => {
                if epoch == self.scheduler.epoch {
                    self.input(Input::Archived { build }).ok();
                }
            }
            Event::Mischief => self.mischief(),
        }
        self.check_step();
    }

    /// Something goes wrong, or comes back.
    fn mischief(&mut self) {
        if self.healed {
            return;
        }
        let pause = self.rng.millis(200, 6_000);
        self.later(pause, Event::Mischief);
        let worker = self.rng.below(self.machines.len());
        match self.rng.below(12) {
            0 | 1 => {
                let commits = self.rng.below(6);
                self.scheduler.crash_after(commits, self.rng.chance(50));
            }
            2 => self.agent_crashes(worker),
            3 => self.reboot(worker),
            4 | 5 => self.cut(worker),
            6 => {
                let problem = self.rng.chance(60).then(|| "no answer".to_owned());
                self.machines[worker].problem = problem;
            }
            7 => self.runner_dies(worker),
            8 => {
                let draining = self.rng.chance(40);
                let name = self.machines[worker].offer.name.clone();
                let principal = Principal::local();
                self.input(Input::DrainWorker { worker: name, principal, draining }).ok();
            }
            9 => self.registry.failing = self.rng.chance(50),
            10 => self.machines[worker].slow = self.rng.chance(50),
            _ => {
                let known: Vec<BuildId> = self.builds.keys().copied().collect();
                if !known.is_empty() {
                    let build = *self.rng.pick(&known);
                    self.later(Duration::ZERO, Event::Cancel { build });
                }
            }
        }
    }
}

/// One to five workers, few of which are alike.
fn machines(rng: &mut Rng) -> Vec<Machine> {
    let kinds: [&[&str]; 4] = [
        &["linux/amd64", "linux/386"],
        &["linux/amd64", "linux/amd64/v2", "linux/386"],
        &["linux/arm64", "linux/arm/v7"],
        &["linux/amd64"],
    ];
    let count = 1 + rng.below(5);
    (0..count)
        .map(|at| {
            let platforms: Vec<Platform> = rng.pick(&kinds).iter().filter_map(|p| p.parse().ok()).collect();
            let foreign = ["linux/riscv64", "linux/arm64"].iter().filter_map(|p| p.parse().ok());
            let emulated = foreign.filter(|p| !platforms.contains(p) && rng.chance(15)).collect();
            let pool = if rng.chance(85) { Pool::Trusted } else { Pool::Untrusted };
            Machine::new(at, platforms, emulated, 1 + rng.below(3), pool)
        })
        .collect()
}

/// A worker's name.
pub(super) fn worker_name(at: usize) -> Option<WorkerName> {
    format!("worker-{at}").parse().ok()
}

/// A project's name.
pub(super) fn project_name(at: usize) -> Option<ProjectName> {
    format!("project-{at}").parse().ok()
}
