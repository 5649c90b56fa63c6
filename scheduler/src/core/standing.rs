//! How an active build stands, for people: what waits, for what, and how far back in its queue.
//!
//! Nothing of this is a fact, and nothing follows from it: it is worked out from the state when somebody asks, within
//! bounds. A build whose jobs all queue behind busy slots is `queued`; one that needs something else first is `waiting`.

use std::collections::{BTreeMap, BTreeSet};

use archyard_model::{BuildState, JobId, JobState, WorkerName};

use super::build::{Build, Job};
use super::classes::{ClassKey, Turn};
use super::lines::LineKey;
use super::state::State;
use super::worker::Worker;

/// Leases that are looked ahead to find a job's place: a job further back has no number.
pub const PLACES: usize = 1_000;
/// Jobs that are named as ahead of another.
const NAMED: usize = 3;

/// How a build stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its state, with `queued` and `waiting` told apart.
    pub state: BuildState,
    /// What it waits for, where it does.
    pub waiting: Option<String>,
    /// The same of each of its jobs.
    pub jobs: Vec<JobStanding>,
}

/// How a queued job stands; empty for any other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobStanding {
    /// It waits only for a slot.
    pub queue: Option<QueuePlace>,
    /// It waits for something else.
    pub waiting: Option<String>,
}

/// A job's place among those that wait for the same workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePlace {
    /// 1 is next, if no other project's share changes meanwhile. None: more than [`PLACES`] are ahead.
    pub position: Option<u32>,
    /// Jobs that wait for these workers.
    pub queued: u64,
    /// Jobs that these workers have.
    pub running: u64,
    /// The first of those.
    pub ahead: Vec<Ahead>,
}

/// A job that occupies a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// Which.
    pub job: JobId,
    /// Where.
    pub worker: WorkerName,
}

/// What the workers of a class do.
#[derive(Debug, Default)]
struct Crew<'a> {
    /// Whether any of them takes leases.
    takes: bool,
    /// Why the others take none.
    idle: Vec<(&'a WorkerName, &'static str)>,
    running: u64,
    ahead: Vec<Ahead>,
}

/// Answers for one state; what several answers need is worked out once.
#[derive(Debug)]
pub struct Standings<'a> {
    state: &'a State,
    crews: Option<BTreeMap<&'a ClassKey, Crew<'a>>>,
    places: BTreeMap<&'a ClassKey, BTreeMap<JobId, u32>>,
}

impl<'a> Standings<'a> {
    /// Of this state.
    pub fn new(state: &'a State) -> Self {
        Self { state, crews: None, places: BTreeMap::new() }
    }

    /// The build's state, with `queued` and `waiting` told apart.
    pub fn state_of(&mut self, build: &'a Build) -> BuildState {
        self.stand(build, false).state
    }

    /// How the build stands.
    pub fn of(&mut self, build: &'a Build) -> Standing {
        self.stand(build, true)
    }

    fn stand(&mut self, build: &'a Build, with_places: bool) -> Standing {
        let jobs = build.jobs().map(|(id, job)| self.job(build, id, job, with_places)).collect();
        let mut standing = Standing { state: build.state, waiting: build.waiting.clone(), jobs };
        if build.state != BuildState::Running || build.ending.is_some() {
            return standing;
        }
        let busy = |job: &Job| matches!(job.state, JobState::Leased | JobState::Running);
        if build.jobs.iter().any(busy) {
            standing.waiting = None;
            return standing;
        }
        standing.waiting = self.lacks(build).or_else(|| self.turn(build)).or_else(|| {
            let mut reasons: Vec<&str> =
                standing.jobs.iter().filter_map(|job| job.waiting.as_deref()).collect();
            reasons.dedup();
            (!reasons.is_empty()).then(|| reasons.join("; "))
        });
        if standing.waiting.is_some() {
            standing.state = BuildState::Waiting;
        } else if build.jobs.iter().any(|job| job.state == JobState::Queued) {
            standing.state = BuildState::Queued;
        }
        standing
    }

    /// What its client must supply before it can go on.
    fn lacks(&self, build: &Build) -> Option<String> {
        if self.state.has_credentials(build) || !build.needs_registry() {
            return None;
        }
        let reason = || format!("credentials for {}", build.plan.credential_hosts.join(", "));
        Some(build.waiting.clone().unwrap_or_else(reason))
    }

    /// The build that moves one of its tags before it.
    fn turn(&self, build: &Build) -> Option<String> {
        if !build.wants_turn() {
            return None;
        }
        let (tag, other) = self.state.live.turns.ahead(&build.moves, build.id)?;
        Some(format!("build {other}, which moves {tag} first"))
    }

    fn job(&mut self, build: &'a Build, id: JobId, job: &'a Job, with_places: bool) -> JobStanding {
        if job.state != JobState::Queued || !self.state.live.lines.contains(id) {
            return JobStanding { queue: None, waiting: job.waiting.clone() };
        }
        let line = build.line(job);
        let state = self.state;
        let classes: Vec<&'a ClassKey> = state.live.classes.keys_serving(&line).collect();
        if classes.is_empty() {
            let reason = || format!("no native worker for {}", line.platform);
            return JobStanding { queue: None, waiting: Some(job.waiting.clone().unwrap_or_else(reason)) };
        }
        let crews = self.crews();
        let crews: Vec<&Crew<'a>> = classes.iter().filter_map(|class| crews.get(class)).collect();
        if !crews.iter().any(|crew| crew.takes) {
            let idle = crews.iter().flat_map(|crew| &crew.idle).take(NAMED);
            let idle: Vec<String> = idle.map(|(worker, why)| format!("{worker} {why}")).collect();
            let reason = format!("a worker for {} that takes jobs: {}", line.platform, idle.join(", "));
            return JobStanding { queue: None, waiting: Some(reason) };
        }
        let running = crews.iter().map(|crew| crew.running).sum();
        let ahead = crews.iter().flat_map(|crew| &crew.ahead).take(NAMED).cloned().collect();
        if !with_places {
            let place = QueuePlace { position: None, queued: 0, running, ahead };
            return JobStanding { queue: Some(place), waiting: None };
        }
        let position = classes.iter().filter_map(|class| self.places(class).get(&id).copied()).min();
        let queued = self.queued(&classes);
        JobStanding { queue: Some(QueuePlace { position, queued, running, ahead }), waiting: None }
    }

    /// How many jobs wait for any of these classes.
    fn queued(&self, classes: &[&ClassKey]) -> u64 {
        let lines = self.state.live.lines.iter();
        let served = lines.filter(|(line, _)| classes.iter().any(|class| class.serves(line)));
        served.flat_map(|(_, line)| line.queued()).map(|(_, jobs)| jobs as u64).sum()
    }

    /// What all workers do, by their classes.
    fn crews(&mut self) -> &BTreeMap<&'a ClassKey, Crew<'a>> {
        let state = self.state;
        self.crews.get_or_insert_with(|| {
            let mut crews = BTreeMap::<&ClassKey, Crew<'_>>::new();
            for (name, worker) in &state.live.workers {
                let Some(class) = &worker.class else { continue };
                let crew = crews.entry(class).or_default();
                match idle(worker, state.ledger.drained.contains_key(name)) {
                    None => crew.takes = true,
                    Some(why) => crew.idle.push((name, why)),
                }
                crew.running += worker.occupied.len() as u64;
                let room = NAMED.saturating_sub(crew.ahead.len());
                let jobs = worker.occupied.keys().take(room);
                crew.ahead.extend(jobs.map(|attempt| Ahead { job: attempt.job, worker: name.clone() }));
            }
            crews
        })
    }

    /// The next jobs of a class, if its slots came free one by one and nothing else happened.
    fn places(&mut self, key: &'a ClassKey) -> &BTreeMap<JobId, u32> {
        let state = self.state;
        self.places.entry(key).or_insert_with(|| {
            let Some(class) = state.live.classes.get(key) else { return BTreeMap::new() };
            let lines: Vec<(&LineKey, _)> =
                state.live.lines.iter().filter(|(line, _)| key.serves(line)).collect();
            let mut turns: BTreeSet<Turn> = class.turns().take(PLACES).cloned().collect();
            let mut served = turns.iter().map(|turn| turn.served).max().unwrap_or_default();
            let mut heads = BTreeMap::new();
            let mut places = BTreeMap::new();
            let mut position = 0;
            while places.len() < PLACES
                && let Some(mut turn) = turns.pop_first()
            {
                let jobs = heads.entry(turn.project.clone()).or_insert_with(|| {
                    let jobs = lines.iter().map(|(_, line)| line.jobs(&turn.project).peekable());
                    jobs.collect::<Vec<_>>()
                });
                let first = jobs
                    .iter_mut()
                    .filter_map(|jobs| Some((*jobs.peek()?, jobs)))
                    .min_by_key(|(queued, _)| *queued);
                // A project without further jobs has no further turn.
                let Some((queued, jobs)) = first else { continue };
                jobs.next();
                position += 1;
                places.insert(queued.job, position);
                served += 1;
                turn.served = served;
                turn.running += 1;
                turns.insert(turn);
            }
            places
        })
    }
}

/// Why a worker takes no lease, whatever slots it has.
fn idle(worker: &Worker, drained: bool) -> Option<&'static str> {
    if worker.lost || worker.offer.is_none() {
        Some("is lost")
    } else if drained || worker.wish {
        Some("is draining")
    } else if worker.problem.is_some() {
        Some("has trouble with its Engine")
    } else if worker.connection.is_none() {
        Some("is away")
    } else if worker.skip > 0 {
        Some("declined and is left alone for a while")
    } else {
        None
    }
}
