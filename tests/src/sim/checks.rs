//! The invariants of the design, looked for after every step. Each assertion names its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use archyard_model::{
    AttemptId, BuildId, BuildRecord, BuildState, EventKind, FailureClass, JobState, Output, WorkerName,
    WorkerOffer, limits,
};
use archyard_scheduler::core::build::Job;
use archyard_scheduler::core::tags::Place;
use archyard_scheduler::core::worker::Worker;
use archyard_scheduler::core::{self, Build, EndedBuild, Fact, Moment, State};
use archyard_scheduler::journal::codec;

use super::worker::Ended;
use super::world::World;

/// What is remembered across steps.
#[derive(Default)]
pub(super) struct Checks {
    /// Folded fact by fact: the state just before each.
    shadow: State,
    /// Folded from the durable facts alone, through their records: what a replay would give.
    durable: State,
    ended: BTreeMap<BuildId, EndedBuild>,
    places: BTreeMap<BuildId, Place>,
    /// Builds that publish nothing, for the one that they start from has.
    published: BTreeSet<BuildId>,
    outcomes: BTreeMap<AttemptId, Ended>,
}

impl Checks {
    pub(super) fn restarted(&mut self, state: Option<&State>) {
        self.shadow = state.cloned().unwrap_or_default();
        self.durable = self.shadow.clone();
    }

    pub(super) fn runner_ended(&mut self, attempt: AttemptId, outcome: Ended) {
        self.outcomes.insert(attempt, outcome);
    }

    /// A cancel was taken.
    pub(super) fn canceled(&self, seed: u64, before: &Build) {
        let late = before.state.is_terminal() || before.state == BuildState::Publishing;
        assert!(!late, "seed {seed}: a build that is {} was canceled", before.state);
    }

    /// The record of a build that has ended.
    pub(super) fn ended(&self, build: BuildId) -> Option<&BuildRecord> {
        self.ended.get(&build).map(|ended| &ended.record)
    }

    /// A build has ended; `false`: that was known.
    pub(super) fn archive(&mut self, seed: u64, ended: &EndedBuild) -> bool {
        let id = ended.record.id;
        if let Some(before) = self.ended.get(&id) {
            assert_eq!(before, ended, "seed {seed}: I1: {id} ended twice, differently");
            return false;
        }
        let events = &ended.events;
        assert!(ended.record.state.is_terminal(), "seed {seed}: I1: {id} is archived and not ended");
        assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "seed {seed}: events have gaps");
        let ends = events.iter().filter(|event| matches!(event.kind, EventKind::Ended { .. })).count();
        let last = events.last().is_some_and(|event| matches!(event.kind, EventKind::Ended { .. }));
        assert!(ends == 1 && last, "seed {seed}: I1: {id} has {ends} terminal events");
        for job in &ended.record.jobs {
            let users = |class| {
                job.attempts
                    .iter()
                    .rev()
                    .skip(1)
                    .any(|attempt| attempt.failure.as_ref().is_some_and(|failure| failure.class == class))
            };
            assert!(!users(FailureClass::User), "seed {seed}: I9: a user's failure was tried again");
            let told = job.attempts.iter().rev().skip(1).all(|attempt| attempt.failure.is_some());
            assert!(told, "seed {seed}: I9: an attempt of {id} ended without a reason");
        }
        let record = &ended.record;
        let blameless = !record.state.is_success() || record.failure.is_none();
        assert!(blameless, "seed {seed}: {id} succeeded and says why it failed");
        let blamed = record.failure.as_ref().filter(|failure| failure.class != FailureClass::Canceled);
        for at in &record.plan.trial {
            let platform = format!("{}: ", record.plan.platforms[usize::from(*at)]);
            let by_trial = blamed.is_some_and(|failure| failure.message.starts_with(&platform));
            assert!(!by_trial, "seed {seed}: {id} failed by a trial");
        }
        self.ended.insert(id, ended.clone());
        true
    }

    fn before(&mut self, world: &Surroundings<'_>, moment: Moment, fact: &Fact) {
        let seed = world.seed;
        match fact {
            Fact::BuildAccepted { build, heritage, .. } => {
                let accepted = self.shadow.ledger.header.next_sequence;
                let tags = heritage.as_ref().and_then(|heritage| heritage.tag_sequence).unwrap_or(accepted);
                self.places.insert(*build, Place { tags, accepted });
                if heritage.as_ref().is_some_and(|heritage| heritage.published.is_some()) {
                    self.published.insert(*build);
                }
            }
            Fact::PublishStarted { build } => {
                assert!(!self.published.contains(build), "seed {seed}: {build} publishes again");
            }
            Fact::JobLeased { attempt, worker } => self.leasing(seed, *attempt, worker),
            Fact::AttemptEnded { attempt, outcome, .. } => {
                assert!(
                    self.shadow.ledger.is_current(*attempt),
                    "seed {seed}: I2: {attempt} was not current"
                );
                match outcome {
                    Ok(_) => {
                        let real = self.outcomes.get(attempt).is_some_and(Result::is_ok);
                        assert!(real, "seed {seed}: I2: {attempt} succeeded nowhere");
                    }
                    Err(failure) if failure.code == "worker_lost" => {
                        let silent = self.silence(*attempt, moment);
                        let patient = silent >= limits::LEASE && moment.since_start >= limits::LEASE;
                        assert!(patient, "seed {seed}: I8: {attempt} was given up after {silent:?}");
                    }
                    Err(failure) if failure.code == "attempt_vanished" => {
                        assert!(!world.running.contains(attempt), "seed {seed}: I8: {attempt} still runs");
                    }
                    Err(_) => {}
                }
            }
            Fact::BuildEnded { build, state, .. } => self.ending(seed, *build, *state),
            _ => {}
        }
    }

    fn leasing(&self, seed: u64, attempt: AttemptId, name: &WorkerName) {
        let state = &self.shadow;
        let build = state.ledger.build(attempt.job.build).expect("a leased build");
        let job = build.job(attempt.job.index).expect("a leased job");
        assert!(job.state == JobState::Queued && job.current().is_none(), "seed {seed}: I2: leased twice");
        assert!(
            job.attempts.iter().all(|a| a.token < attempt.token),
            "seed {seed}: I2: the token did not grow"
        );
        assert!(job.tries().0 < limits::ATTEMPTS, "seed {seed}: I9: more attempts than allowed");
        assert!(build.is_schedulable() && state.has_credentials(build), "seed {seed}: leased too early");
        let worker = state.live.workers.get(name).expect("a worker to lease to");
        let offer = worker.offer.as_ref().expect("a worker that joined");
        let allowed = job.cross.is_none() || build.plan.cross.contains(&attempt.job.index);
        let fits = allowed && offer.pool == build.pool && serves(offer, job);
        assert!(fits, "seed {seed}: I4: {} went to {name}", job.platform);
        let own = Job { cross: None, ..job.clone() };
        let needless = job.cross.is_some() && is_known(state, build, &own);
        assert!(!needless, "seed {seed}: I4: {} is built cross beside a native worker", job.platform);
        assert!(takes(state, name, worker), "seed {seed}: I5: {name} cannot take a lease");
        assert!(worker.occupied.len() < offer.slots as usize, "seed {seed}: I5: {name} is full");
        let fair = state.live.workers.values().any(|other| is_fair(state, other, build, job));
        let trial = build.plan.is_trial(attempt.job.index);
        let last = |other: &Worker| other.free.is_some() && is_last(state, other, build, job);
        let waits = !trial || state.live.workers.values().any(last);
        assert!(waits, "seed {seed}: a trial of {} goes before a required job", build.plan.project);
        assert!(fair, "seed {seed}: I6: it was not the turn of {}", build.plan.project);
    }

    fn silence(&self, attempt: AttemptId, moment: Moment) -> Duration {
        let holder = self.shadow.ledger.job(attempt.job).and_then(|job| job.current());
        let worker = holder.and_then(|current| self.shadow.live.workers.get(&current.worker));
        moment.since_start.saturating_sub(worker.map_or(Duration::ZERO, |worker| worker.heard))
    }

    fn ending(&self, seed: u64, id: BuildId, state: BuildState) {
        let build = self.shadow.ledger.build(id).expect("a build to end");
        assert!(!build.state.is_terminal(), "seed {seed}: I1: {id} ends twice");
        let over = build.jobs.iter().all(|job| job.state.is_terminal() && job.current().is_none());
        assert!(over, "seed {seed}: I1: {id} ends while a job goes on");
        if state.is_success() {
            assert!(build.is_built(), "seed {seed}: {id} succeeds without all of its jobs");
            let whole = build.published
                || (build.publishing && build.index.is_some() && build.open_tags().next().is_none());
            assert!(build.plan.output == Output::Check || whole, "seed {seed}: I3: {id} is not published");
        }
    }
}

/// What facts are held against, outside the core.
struct Surroundings<'a> {
    seed: u64,
    running: &'a BTreeSet<AttemptId>,
}

impl World {
    /// Facts as they are committed, each against the state just before it.
    pub(super) fn check_facts(&mut self, moment: Moment, facts: &[Fact]) {
        let there = |(attempt, _): (&AttemptId, &_)| *attempt;
        let running = self.machines.iter().flat_map(|machine| machine.runners.iter().map(there)).collect();
        let surroundings = Surroundings { seed: self.seed, running: &running };
        for fact in facts {
            self.checks.before(&surroundings, moment, fact);
            core::evolve(&mut self.checks.shadow, moment, fact);
            if matches!(fact, Fact::BuildPublished { .. }) {
                self.report.published_early += 1;
            }
            if let Some(record) = codec::encode(moment.wall_ms, fact) {
                let (wall_ms, read) = codec::decode(&record).expect("what was written is read");
                assert_eq!(read, *fact, "seed {}: a fact changed in the journal", self.seed);
                core::evolve(&mut self.checks.durable, Moment { wall_ms, ..Moment::default() }, &read);
            }
        }
        let state = self.scheduler.state().expect("the scheduler is up while it commits");
        if facts.iter().any(Fact::is_durable) {
            assert_eq!(state.ledger, self.checks.durable.ledger, "seed {}: I7: replay differs", self.seed);
        }
        self.check_idle(state, moment);
        self.check_trials(state, moment);
    }

    /// I5: no free fitting slot and no queued job stay apart; no worker has more than it has slots.
    fn check_idle(&self, state: &State, moment: Moment) {
        let graced = moment.since_start >= state.live.grace;
        for (name, worker) in &state.live.workers {
            let Some(offer) = &worker.offer else { continue };
            // A lease taken late, after it was given up, takes a slot too until it has stopped; none is offered for it.
            let taken = worker.occupied.keys().filter(|attempt| state.ledger.is_current(**attempt)).count();
            assert!(taken <= offer.slots as usize, "seed {}: I5: {name} has {taken} attempts", self.seed);
            if !takes(state, name, worker) {
                continue;
            }
            for build in state.ledger.builds.values() {
                let open = build.is_schedulable() && state.has_credentials(build) && build.pool == offer.pool;
                for (id, job) in build.jobs().filter(|(_, job)| open && job.state == JobState::Queued) {
                    assert!(!serves(offer, job), "seed {}: I5: {name} idles beside {id}", self.seed);
                    let allowed = build.plan.cross.contains(&id.index) && job.cross.is_none();
                    let crossed = Job { cross: offer.platforms.first().cloned(), ..job.clone() };
                    let builds = graced && allowed && !is_known(state, build, job) && serves(offer, &crossed);
                    assert!(!builds, "seed {}: I5: {name} idles beside {id}, which may cross", self.seed);
                }
            }
        }
    }

    /// A build that has all it was asked for waits for nothing that nobody can run.
    fn check_trials(&self, state: &State, moment: Moment) {
        let graced = moment.since_start >= state.live.grace;
        let done =
            |build: &&Build| build.is_delivered() && build.is_schedulable() && state.has_credentials(build);
        for build in state.ledger.builds.values().filter(done) {
            let vain = |job: &Job| job.state == JobState::Queued && !is_known(state, build, job);
            let waits = graced && build.jobs.iter().any(vain);
            assert!(!waits, "seed {}: {} waits for a trial that nobody runs", self.seed, build.id);
        }
    }

    /// I5: a slot whose attempt the scheduler was told of is never counted free while that runs.
    pub(super) fn check_step(&self) {
        let Some(state) = self.scheduler.state() else { return };
        for machine in &self.machines {
            let name = &machine.offer.name;
            let running = machine.runners.values().filter(|runner| runner.ended.is_none()).count();
            assert!(running <= machine.offer.slots as usize, "seed {}: I5: {name} runs {running}", self.seed);
            let Some(worker) = state.live.workers.get(name) else { continue };
            for (attempt, runner) in machine.runners.iter().filter(|(_, runner)| runner.ended.is_none()) {
                let Some((connection, at)) = runner.told else { continue };
                let known = worker.connection == Some(connection) && at < self.now;
                let counted = worker.occupied.contains_key(attempt);
                assert!(!known || counted, "seed {}: I5: {attempt} runs in a free slot", self.seed);
            }
        }
    }

    /// I3: what a tag is moved to is whole, and durably so. Gives the build's place.
    pub(super) fn check_move(&mut self, id: BuildId) -> Place {
        let seed = self.seed;
        let build = self.checks.durable.ledger.build(id).expect("a build that publishes");
        let whole = build.is_built() && build.index.is_some() && build.publishing;
        assert!(whole, "seed {seed}: I3: a tag moves to {id} too early");
        let other = self.checks.durable.ledger.builds.values().any(|other| {
            other.id != id && other.publishing && other.moves.iter().any(|tag| build.moves.contains(tag))
        });
        assert!(!other, "seed {seed}: I11: two builds publish one tag");
        build.place()
    }

    /// Everything that was acknowledged has ended, and every tag names what the records say.
    pub(super) fn check_end(&mut self) {
        let replayed = self.scheduler.replayed();
        let state = self.scheduler.state().expect("the scheduler is up at the end");
        assert_eq!(replayed.ledger, state.ledger, "seed {}: I7: replay differs at the end", self.seed);
        let (mut tags, mut unknown) = (BTreeMap::new(), BTreeSet::new());
        for client in &self.clients {
            let id = client.build.expect("an acknowledged build");
            let ended = self.checks.ended.get(&id);
            let record = &ended.unwrap_or_else(|| panic!("seed {}: I1: {id} never ended", self.seed)).record;
            self.report.builds += 1;
            match record.state {
                BuildState::Succeeded | BuildState::Superseded => self.report.succeeded += 1,
                BuildState::Failed => self.report.failed += 1,
                _ => self.report.canceled += 1,
            }
            let trials = record.plan.trial.iter().map(|at| &record.jobs[usize::from(*at)]);
            let failed = trials.filter(|job| job.state == JobState::Failed).count();
            self.report.failed_trials += usize::from(record.state.is_success() && failed > 0);
            if self.checks.published.contains(&id) {
                continue;
            }
            for tag in &record.tags {
                let sequence = (self.checks.places[&id], id);
                if tag.detail.starts_with("it may have moved") {
                    unknown.insert((tag.tag.clone(), sequence));
                }
                if tag.moved {
                    let newest = tags.entry(tag.tag.clone()).or_insert(sequence);
                    *newest = (*newest).max(sequence);
                }
                self.report.left_alone += usize::from(tag.detail.starts_with("left alone"));
            }
        }
        for (tag, named) in &self.registry.tags {
            let told = tags.get(tag) == Some(named) || unknown.contains(&(tag.clone(), *named));
            assert!(told, "seed {}: I11: {tag} names {named:?}, and no record says so", self.seed);
        }
        assert_eq!(self.checks.ended.len(), self.report.builds, "seed {}: an unknown build ended", self.seed);
    }
}

/// Whether the worker may get a lease, told from its own fields and no index.
fn takes(state: &State, name: &WorkerName, worker: &Worker) -> bool {
    let Some(offer) = &worker.offer else { return false };
    worker.connection.is_some()
        && !worker.lost
        && !worker.wish
        && worker.problem.is_none()
        && worker.skip == 0
        && !state.ledger.drained.contains_key(name)
        && worker.occupied.len() < offer.slots as usize
}

/// Whether a worker that offers this may have the job, told from nothing else.
fn serves(offer: &WorkerOffer, job: &Job) -> bool {
    let native = offer.platforms.contains(&job.platform);
    match &job.cross {
        None => native,
        Some(builder) => {
            offer.platforms.contains(builder) && !native && !offer.emulated.contains(&job.platform)
        }
    }
}

/// Whether any worker is known that could have the job, free or not.
fn is_known(state: &State, build: &Build, job: &Job) -> bool {
    let known = |worker: &Worker| {
        let offer = worker.offer.as_ref().filter(|offer| !worker.lost && offer.pool == build.pool);
        offer.is_some_and(|offer| serves(offer, job))
    };
    state.live.workers.values().any(known)
}

/// I6: of the projects that wait for this worker, none has fewer jobs that it could have than the one served.
fn is_fair(state: &State, worker: &Worker, served: &Build, job: &Job) -> bool {
    let Some(offer) = worker.offer.as_ref().filter(|_| worker.connection.is_some()) else { return false };
    if !serves(offer, job) || offer.pool != served.pool {
        return false;
    }
    let (mut running, mut waiting) = (BTreeMap::new(), BTreeSet::new());
    for build in state.ledger.builds.values().filter(|build| build.pool == offer.pool) {
        let open = build.is_schedulable() && state.has_credentials(build);
        for job in build.jobs.iter().filter(|job| serves(offer, job)) {
            *running.entry(&build.plan.project).or_insert(0) += usize::from(job.current().is_some());
            if open && job.state == JobState::Queued {
                waiting.insert(&build.plan.project);
            }
        }
    }
    waiting.iter().all(|project| running[*project] >= running[&served.plan.project])
}

/// Whether no required job of the project waits for this worker, which could have the trial that is served.
fn is_last(state: &State, worker: &Worker, served: &Build, trial: &Job) -> bool {
    let Some(offer) = worker.offer.as_ref().filter(|offer| offer.pool == served.pool) else { return false };
    let waits = |build: &Build| {
        let open = build.is_schedulable() && state.has_credentials(build) && build.pool == offer.pool;
        open && build.plan.project == served.plan.project
            && build.required().any(|job| job.state == JobState::Queued && serves(offer, job))
    };
    serves(offer, trial) && !state.ledger.builds.values().any(waits)
}
