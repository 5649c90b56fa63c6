//! Clients: they submit until they are answered, attach again after a restart, and cancel now and then.

use std::sync::Arc;
use std::time::Duration;

use archyard_model::{
    Blake3, BuildId, ContextRef, Failure, FailureClass, Lock, Output, Plan, Platform, Pool, Principal,
    Reference, RequestId,
};
use archyard_scheduler::core::{EndedBuild, Heritage, Input, Submission};

use super::rng::Rng;
use super::scheduler::Trouble;
use super::world::{Event, World, project_name};

/// One client with one build.
pub(super) struct Client {
    pub(super) request: RequestId,
    pub(super) plan: Arc<Plan>,
    pub(super) pool: Pool,
    /// Once acknowledged.
    pub(super) build: Option<BuildId>,
    /// Its base lacks a platform.
    pub(super) lock_fails: bool,
    /// The base lacks the platforms on trial.
    pub(super) trial_fails: bool,
    /// Its base reads more of the source than it sent.
    pub(super) base_reads_more: bool,
    /// It goes away for good after the first scheduler crash.
    pub(super) leaves: bool,
    /// What its build takes over from another one.
    pub(super) heritage: Option<Arc<Heritage>>,
    /// How many builds it follows from.
    pub(super) chain: usize,
}

impl Client {
    /// Whether the part of the context that it sends is found to be too little as the lock is made.
    fn reads_more(&self) -> bool {
        self.plan.context.partial && self.base_reads_more
    }

    /// Between three and two dozen.
    pub(super) fn some(rng: &mut Rng) -> Vec<Self> {
        let count = 3 + rng.below(22);
        (0..count).filter_map(|at| Self::new(rng, at)).collect()
    }

    fn new(rng: &mut Rng, at: usize) -> Option<Self> {
        let names = ["linux/amd64", "linux/386", "linux/arm64", "linux/amd64/v2", "linux/riscv64"];
        let mut platforms: Vec<Platform> = Vec::new();
        for (rank, name) in names.iter().enumerate() {
            if rng.chance([70, 40, 30, 10, 4][rank]) {
                platforms.push(name.parse().ok()?);
            }
        }
        if platforms.is_empty() {
            platforms.push(names[0].parse().ok()?);
        }
        let output = match rng.below(100) {
            0..45 => Output::Push,
            45..62 => Output::Candidate,
            _ => Output::Check,
        };
        let mut tags: Vec<Reference> = Vec::new();
        if output.publishes() {
            for tag in ["a:1", "a:2", "b:1"] {
                if tags.is_empty() || rng.chance(30) {
                    tags.push(format!("registry.example/{tag}").parse().ok()?);
                }
            }
            let by = rng.below(tags.len());
            tags.rotate_left(by);
        }
        let attached = output.publishes() && rng.chance(30);
        let positions = u16::try_from(platforms.len()).unwrap_or_default();
        let required = u16::try_from(rng.below(platforms.len())).unwrap_or_default();
        let trial = (0..positions).filter(|at| *at != required && rng.chance(35)).collect();
        let cross = (0..positions).filter(|_| rng.chance(30)).collect();
        let staging = (output == Output::Candidate).then(|| "registry.example/staging".to_owned());
        let context = ContextRef {
            digest: Blake3::of(b"context"),
            manifest_digest: Blake3::of(b"manifest"),
            files: 1,
            total_bytes: 7,
            partial: rng.chance(40),
        };
        let plan = Plan {
            output,
            tags,
            credential_hosts: if attached { vec!["registry.example".to_owned()] } else { Vec::new() },
            trial,
            cross,
            staging,
            ..Plan::new(project_name(rng.below(3))?, platforms, context, Blake3::of(b"FROM scratch"))
        };
        Some(Self {
            request: format!("request-{at}").parse().ok()?,
            plan: Arc::new(plan),
            pool: if rng.chance(95) { Pool::Trusted } else { Pool::Untrusted },
            build: None,
            lock_fails: rng.chance(4),
            trial_fails: rng.chance(15),
            base_reads_more: rng.chance(40),
            leaves: rng.chance(10),
            heritage: None,
            chain: 0,
        })
    }
}

impl World {
    /// Submits; again until it is answered, and at times once more after that.
    pub(super) fn submit(&mut self, at: usize) {
        let wall = 1_800_000_000_000 + u64::try_from(self.now.as_millis()).unwrap_or_default();
        let fresh = BuildId::from_parts(wall, u128::from(self.rng.draw()));
        let early = self.rng.chance(30);
        let client = &self.clients[at];
        let early = early
            && !client.lock_fails
            && !client.trial_fails
            && !client.reads_more()
            && client.plan.credential_hosts.is_empty();
        let principal = Principal::local();
        let submission = Submission {
            build: fresh,
            request_id: client.request.clone(),
            principal: principal.clone(),
            plan: Arc::clone(&client.plan),
            pool: client.pool,
            // A build that may go on at once waits for them, as the API has it.
            credentials: !client.plan.credential_hosts.is_empty() && client.heritage.is_none(),
            heritage: client.heritage.clone(),
            // Registries may answer before the journal does.
            lock: (early && client.heritage.is_none()).then(Arc::default),
        };
        let request = client.request.clone();
        match self.input(Input::Submit(submission)) {
            Ok(()) => {}
            Err(Trouble::Down) => {
                let pause = self.rng.millis(100, 3_000);
                return self.later(pause, Event::Submit { client: at });
            }
            Err(Trouble::Refused) => panic!("seed {}: a submission was refused", self.seed),
        }
        let known = self.scheduler.state().and_then(|state| state.ledger.request(&principal, &request));
        let build = known.expect("an acknowledged request is known");
        let first = self.clients[at].build.is_none();
        assert!(
            first || self.clients[at].build == Some(build),
            "seed {}: one request, two builds",
            self.seed
        );
        self.clients[at].build = Some(build);
        self.builds.insert(build, at);
        if self.clients[at].heritage.is_some() {
            self.later(Duration::ZERO, Event::Attach { build });
        }
        if first && self.rng.chance(20) {
            let pause = self.rng.millis(0, 40_000);
            self.later(pause, Event::Submit { client: at });
        }
    }

    pub(super) fn attach(&mut self, build: BuildId) {
        let leaves = self.builds.get(&build).is_some_and(|at| self.clients[*at].leaves);
        if leaves {
            return;
        }
        if let Err(Trouble::Down) = self.input(Input::CredentialsSupplied { build }) {
            return self.later(Duration::from_secs(1), Event::Attach { build });
        }
        let Some(at) = self.builds.get(&build) else { return };
        let context = ContextRef { partial: false, ..self.clients[*at].plan.context.clone() };
        if self.lacks_context(build)
            && let Err(Trouble::Down) = self.input(Input::ContextSupplied { build, context })
        {
            self.later(Duration::from_secs(1), Event::Attach { build });
        }
    }

    /// A client that watches its build hears that it needs more.
    pub(super) fn notified(&mut self, build: BuildId) {
        if self.lacks_context(build) {
            let pause = self.rng.millis(10, 9_000);
            self.later(pause, Event::Attach { build });
        }
    }

    fn lacks_context(&self, build: BuildId) -> bool {
        let build = self.scheduler.state().and_then(|state| state.ledger.build(build));
        build.is_some_and(|build| build.lacks_context)
    }

    pub(super) fn cancel(&mut self, build: BuildId) {
        let input = Input::Cancel { build, principal: Principal::local(), reason: "enough".to_owned() };
        let before = self.scheduler.state().and_then(|state| state.ledger.build(build)).cloned();
        let answer = self.input(input);
        if let (Ok(()), Some(before)) = (&answer, before) {
            self.checks.canceled(self.seed, &before);
        }
    }

    /// Clients notice that the scheduler is back.
    pub(super) fn after_restart(&mut self) {
        let builds: Vec<BuildId> = self.builds.keys().copied().collect();
        for build in builds {
            let pause = self.rng.millis(100, 8_000);
            self.later(pause, Event::Attach { build });
        }
    }

    pub(super) fn resolve(&mut self, build: BuildId) {
        if !self.healed && self.rng.chance(3) {
            return;
        }
        let pause = self.rng.millis(5, 2_000);
        self.later(pause, Event::Resolved { epoch: self.scheduler.epoch, build });
    }

    pub(super) fn resolved(&mut self, epoch: u64, build: BuildId) {
        if epoch != self.scheduler.epoch {
            return;
        }
        let client = self.scheduler.state().and_then(|state| {
            let request = &state.ledger.build(build)?.request_id;
            self.clients.iter().find(|client| client.request == *request)
        });
        let fails = client.is_some_and(|client| client.lock_fails);
        let plan = self.scheduler.state().and_then(|state| Some(&state.ledger.build(build)?.plan));
        let is_part = plan.is_some_and(|plan| plan.context.partial);
        if is_part && !fails && client.is_some_and(Client::reads_more) {
            self.input(Input::ContextIncomplete { build, reason: "ONBUILD COPY".to_owned() }).ok();
            return;
        }
        let trials = client.filter(|client| client.trial_fails).map(|client| client.plan.trial.clone());
        for job in trials.into_iter().flatten() {
            let failure = Failure::new(FailureClass::User, "base_lacks_platform", "the base lacks it");
            if self.input(Input::TrialRefused { build, job, failure }).is_err() {
                return;
            }
        }
        let input = if fails {
            let failure = Failure::new(FailureClass::User, "base_lacks_platform", "the base lacks linux/386");
            Input::LockFailed { build, failure }
        } else {
            Input::LockResolved { build, lock: Arc::new(Lock::default()) }
        };
        self.input(input).ok();
    }

    pub(super) fn archive(&mut self, ended: &EndedBuild) {
        let build = ended.record.id;
        if self.checks.archive(self.seed, ended) {
            self.check_origin(&ended.record);
            self.follow_up(ended);
        }
        let pause = self.rng.millis(1, 3_000);
        self.later(pause, Event::Archived { epoch: self.scheduler.epoch, build });
    }
}
