//! A farm of the core alone, step by step.

mod carried;
mod context;
mod cross;
mod faults;
mod older;
mod placement;
mod publish;
mod replay;
mod standing;
mod trial;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use archyard_model::build::PushedManifest;
use archyard_model::{
    AttemptId, BuildId, BuildState, EventKind, Failure, FailureClass, FencingToken, ImageResult, JobId,
    JobState, Lock, Output, Plan, Pool, Principal, Sha256, WorkerOffer,
};

use super::{
    Build, ConnectionId, Downstream, Effect, Fact, Input, Moment, Outcome, Refusal, RunningAttempt, State,
    Submission, follow, step,
};
use crate::testing;

/// A core with a clock that the test turns.
#[derive(Default)]
struct Farm {
    state: State,
    now: Duration,
    effects: Vec<Effect>,
    facts: Vec<(u64, Fact)>,
    builds: u64,
    connections: u64,
}

impl Farm {
    fn moment(&self) -> Moment {
        let millis = u64::try_from(self.now.as_millis()).unwrap();
        Moment { since_start: self.now, wall_ms: 1_700_000_000_000 + millis }
    }

    fn give(&mut self, input: Input) -> Result<(), Refusal> {
        let moment = self.moment();
        let mut outcome = Outcome::default();
        let answer = step(&mut self.state, moment, input, &mut outcome);
        self.keep(moment, outcome);
        answer
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let moment = self.moment();
        let mut outcome = Outcome::default();
        follow(&mut self.state, moment, &mut outcome);
        self.keep(moment, outcome);
    }

    fn keep(&mut self, moment: Moment, outcome: Outcome) {
        self.effects.extend(outcome.effects);
        self.facts.extend(outcome.facts.into_iter().map(|fact| (moment.wall_ms, fact)));
    }

    /// Accepted and locked.
    fn build(&mut self, plan: Plan) -> BuildId {
        let build = self.submit(plan, true);
        self.give(Input::LockResolved { build, lock: Arc::new(Lock::default()) }).unwrap();
        build
    }

    fn submit(&mut self, plan: Plan, credentials: bool) -> BuildId {
        self.builds += 1;
        let build = BuildId::from_parts(self.builds, 0);
        let submission = Submission {
            build,
            request_id: format!("request-{}", self.builds).parse().unwrap(),
            principal: Principal::local(),
            plan: Arc::new(plan),
            pool: Pool::Trusted,
            credentials,
            heritage: None,
            lock: None,
        };
        self.give(Input::Submit(submission)).unwrap();
        build
    }

    fn join(&mut self, name: &str, platforms: &[&str], slots: u32) -> ConnectionId {
        self.rejoin(name, platforms, slots, &[])
    }

    fn rejoin(&mut self, name: &str, platforms: &[&str], slots: u32, has: &[AttemptId]) -> ConnectionId {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let running =
            has.iter().map(|attempt| RunningAttempt { attempt: *attempt, finished: false }).collect();
        let offer = Arc::new(offer(name, platforms, slots));
        self.give(Input::WorkerJoined { connection, offer, running }).unwrap();
        connection
    }

    fn heartbeat(&mut self, connection: ConnectionId, running: &[AttemptId]) {
        let running = running.to_vec();
        self.give(Input::WorkerHeard { connection, sequence: 1, running, problem: None }).unwrap();
    }

    fn end(&mut self, connection: ConnectionId, attempt: AttemptId, outcome: Result<ImageResult, Failure>) {
        self.give(Input::AttemptEnded { connection, attempt, outcome, log_bytes: 9, log_warning: None })
            .unwrap();
    }

    /// Leases since the last call: attempt and stream, in order.
    fn leases(&mut self) -> Vec<(AttemptId, ConnectionId)> {
        let effects = std::mem::take(&mut self.effects);
        let lease = |effect: &Effect| match effect {
            Effect::ToWorker { connection, message: Downstream::Lease { attempt, .. } } => {
                Some((*attempt, *connection))
            }
            _ => None,
        };
        effects.iter().filter_map(lease).collect()
    }

    fn get(&self, build: BuildId) -> &Build {
        self.state.ledger.build(build).unwrap()
    }

    fn job(&self, build: BuildId, index: u16) -> JobState {
        self.get(build).job(index).unwrap().state
    }

    fn kinds(&self, build: BuildId) -> Vec<&EventKind> {
        self.get(build).events.iter().map(|event| &event.kind).collect()
    }
}

fn plan(platforms: &[&str]) -> Plan {
    let platforms = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
    Plan { platforms, ..of_project("app", testing::plan()) }
}

fn push(platforms: &[&str], tags: &[&str]) -> Plan {
    let tags = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    Plan { output: Output::Push, tags, ..plan(platforms) }
}

fn of_project(project: &str, plan: Plan) -> Plan {
    Plan { project: project.parse().unwrap(), ..plan }
}

fn offer(name: &str, platforms: &[&str], slots: u32) -> WorkerOffer {
    WorkerOffer {
        name: name.parse().unwrap(),
        boot_id: "boot".to_owned(),
        session_id: "session".to_owned(),
        instance_id: "folder".to_owned(),
        platforms: platforms.iter().map(|platform| platform.parse().unwrap()).collect(),
        emulated: Vec::new(),
        slots,
        labels: BTreeMap::new(),
        pool: Pool::Trusted,
        version: "0".to_owned(),
        engine: "Docker Engine".to_owned(),
        draining: false,
        dial: 0,
    }
}

fn attempt(build: BuildId, index: u16, token: u64) -> AttemptId {
    AttemptId { job: JobId { build, index }, token: FencingToken(token) }
}

fn image() -> Result<ImageResult, Failure> {
    let manifest = PushedManifest {
        digest: Sha256::from_bytes([1; 32]),
        size: 1,
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
    };
    Ok(ImageResult { manifest: Some(manifest), config_digest: None, ..ImageResult::default() })
}

fn broken(class: FailureClass, code: &str) -> Result<ImageResult, Failure> {
    Err(Failure::new(class, code, "it broke"))
}

#[test]
fn a_check_goes_from_accepted_to_succeeded() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", &["linux/amd64"], 1);
    let arm = farm.join("arm", &["linux/arm64"], 1);
    let build = farm.submit(plan(&["linux/amd64", "linux/arm64"]), false);
    assert!(farm.effects.iter().any(|effect| matches!(effect, Effect::ResolveLock { .. })));
    assert_eq!((farm.get(build).state, farm.leases().len()), (BuildState::Waiting, 0));
    farm.give(Input::LockResolved { build, lock: Arc::new(Lock::default()) }).unwrap();
    assert_eq!(farm.leases(), [(attempt(build, 0, 1), amd), (attempt(build, 1, 1), arm)]);
    for (connection, index) in [(amd, 0), (arm, 1)] {
        let attempt = attempt(build, index, 1);
        farm.give(Input::LeaseAccepted { connection, attempt }).unwrap();
        farm.end(connection, attempt, image());
    }
    assert_eq!(farm.get(build).state, BuildState::Succeeded);
    assert!(farm.effects.iter().any(|effect| matches!(effect, Effect::Archive(_))));
    let names: Vec<String> = farm.kinds(build).iter().map(|kind| format!("{kind:?}")).collect();
    let names: Vec<&str> = names.iter().map(|name| name.split([' ', '(']).next().unwrap()).collect();
    assert_eq!(
        names,
        [
            "Accepted",
            "Locked",
            "JobLeased",
            "JobLeased",
            "JobStarted",
            "AttemptEnded",
            "JobEnded",
            "JobStarted",
            "AttemptEnded",
            "JobEnded",
            "Ended"
        ]
    );
    farm.give(Input::Archived { build }).unwrap();
    assert!(farm.state.ledger.builds.is_empty());
}

#[test]
fn a_repeated_request_is_the_same_build_even_after_archiving() {
    let mut farm = Farm::default();
    let build = farm.submit(plan(&["linux/amd64"]), false);
    let cancel = Input::Cancel { build, principal: Principal::local(), reason: String::new() };
    farm.give(cancel.clone()).unwrap();
    assert_eq!(farm.get(build).state, BuildState::Canceled);
    assert!(matches!(farm.give(cancel), Err(Refusal::NotCancelable { state: BuildState::Canceled, .. })));
    farm.give(Input::Archived { build }).unwrap();
    farm.builds = 0;
    farm.submit(plan(&["linux/amd64"]), false);
    assert!(farm.state.ledger.builds.is_empty(), "the same request became a second build");
}

#[test]
fn a_lock_that_fails_ends_the_build_at_once() {
    let mut farm = Farm::default();
    let build = farm.submit(plan(&["linux/amd64", "linux/riscv64"]), false);
    let failure = Failure::new(FailureClass::User, "base_lacks_platform", "debian:12 has no linux/riscv64");
    farm.give(Input::LockFailed { build, failure: failure.clone() }).unwrap();
    let build = farm.get(build);
    assert_eq!((build.state, build.failure.as_ref()), (BuildState::Failed, Some(&failure)));
    assert!(build.jobs.iter().all(|job| job.state == JobState::Canceled));
}
