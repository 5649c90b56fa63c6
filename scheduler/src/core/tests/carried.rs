//! Builds that start from others: what they take over, and where they stand.

use archyard_model::{BuildRecord, JobRecord, OriginKind, Reference};

use super::super::Heritage;
use super::super::heritage::Unfit;
use super::*;

const BOTH: &[&str] = &["linux/amd64", "linux/arm64"];
const TAG: &str = "registry.example/app:1";

fn all(_: &JobRecord) -> bool {
    true
}

fn tag() -> Reference {
    TAG.parse().unwrap()
}

fn digest(n: u8) -> Sha256 {
    Sha256::from_bytes([n; 32])
}

impl Farm {
    /// Handed in with what it takes over.
    fn carry(&mut self, plan: Plan, heritage: Heritage) -> Result<BuildId, Refusal> {
        self.builds += 1;
        let build = BuildId::from_parts(self.builds, 0);
        let submission = Submission {
            build,
            request_id: format!("request-{}", self.builds).parse().unwrap(),
            principal: Principal::local(),
            plan: Arc::new(plan),
            pool: Pool::Trusted,
            credentials: false,
            heritage: Some(Arc::new(heritage)),
            lock: None,
        };
        self.give(Input::Submit(submission))?;
        Ok(build)
    }

    fn rerun(&mut self, record: &BuildRecord) -> BuildId {
        let heritage = Heritage::of_rerun(record, all).unwrap();
        self.carry(record.plan.clone(), heritage).unwrap()
    }

    fn publishes(&mut self, build: BuildId, n: u8) {
        farm_orders(self, build).expect("an order");
        self.give(Input::IndexPrepared { build, index: digest(n), size: 1 }).unwrap();
        for tag in self.get(build).open_tags().cloned().collect::<Vec<_>>() {
            self.give(Input::TagMoved { build, tag }).unwrap();
        }
        self.give(Input::PublishDone { build }).unwrap();
    }

    fn archive(&mut self, build: BuildId) -> BuildRecord {
        let record = self.get(build).record();
        self.give(Input::Archived { build }).unwrap();
        record
    }

    /// One platform succeeded and the other failed.
    fn half(&mut self, plan: Plan) -> BuildRecord {
        let (amd, arm) = (self.join("amd", &["linux/amd64"], 1), self.join("arm", &["linux/arm64"], 1));
        let build = self.build(plan);
        self.end(amd, attempt(build, 0, 1), image());
        self.end(arm, attempt(build, 1, 1), broken(FailureClass::User, "run_failed"));
        assert_eq!(self.get(build).state, BuildState::Failed);
        self.leases();
        self.archive(build)
    }
}

/// The tags of the order that went out for a build, since the last look.
fn farm_orders(farm: &mut Farm, build: BuildId) -> Option<Vec<Reference>> {
    std::mem::take(&mut farm.effects).into_iter().find_map(|effect| match effect {
        Effect::Publish(order) if order.build == build => Some(order.tags),
        _ => None,
    })
}

#[test]
fn a_rerun_builds_what_failed_and_publishes_all() {
    let mut farm = Farm::default();
    let record = farm.half(push(BOTH, &[TAG]));
    let build = farm.rerun(&record);
    let leases = farm.leases();
    assert_eq!(leases.iter().map(|(attempt, _)| attempt.job.index).collect::<Vec<_>>(), [1]);
    let carried = &farm.get(build).record().jobs[0];
    assert_eq!(
        (carried.carried, carried.state, &carried.result),
        (true, JobState::Succeeded, &record.jobs[0].result)
    );
    assert_eq!(farm.get(build).record().lock, record.lock);
    assert!(
        !farm
            .facts
            .iter()
            .any(|(_, fact)| matches!(fact, Fact::LockAsked { build: asked, .. } if *asked == build))
    );
    farm.end(leases[0].1, leases[0].0, image());
    farm.publishes(build, 1);
    let again = farm.get(build).record();
    assert_eq!((again.state, again.origin.unwrap().build), (BuildState::Succeeded, record.id));
    assert!(again.tags[0].moved);
}

#[test]
fn a_rerun_of_an_older_build_leaves_alone_what_a_newer_one_moved() {
    let mut farm = Farm::default();
    let old = farm.half(push(BOTH, &[TAG]));
    let newer = farm.build(push(&["linux/amd64"], &[TAG]));
    let (attempt, connection) = farm.leases()[0];
    farm.end(connection, attempt, image());
    farm.publishes(newer, 1);
    farm.archive(newer);
    let build = farm.rerun(&old);
    let (attempt, connection) = farm.leases()[0];
    farm.end(connection, attempt, image());
    assert_eq!(farm_orders(&mut farm, build), Some(Vec::new()));
    farm.give(Input::IndexPrepared { build, index: digest(2), size: 1 }).unwrap();
    assert!(farm.give(Input::TagMoved { build, tag: tag() }).is_err());
    farm.give(Input::PublishDone { build }).unwrap();
    let record = farm.get(build).record();
    assert_eq!((record.state, record.tags[0].moved), (BuildState::Superseded, false));
    assert!(record.tags[0].detail.contains(&newer.to_string()), "{:?}", record.tags);
}

#[test]
fn of_two_reruns_of_one_build_the_later_is_the_newer() {
    let mut farm = Farm::default();
    let old = farm.half(push(BOTH, &[TAG]));
    farm.join("arm2", &["linux/arm64"], 1);
    let (first, second) = (farm.rerun(&old), farm.rerun(&old));
    let leases = farm.leases();
    farm.end(leases[1].1, leases[1].0, image());
    farm.publishes(second, 1);
    farm.end(leases[0].1, leases[0].0, image());
    assert_eq!(farm_orders(&mut farm, first), Some(Vec::new()), "the tag goes back");
}

#[test]
fn a_rerun_of_a_build_that_published_builds_its_trial_and_moves_nothing() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", &["linux/amd64"], 1);
    let build = farm.build(Plan { trial: [1].into(), ..push(BOTH, &[TAG]) });
    farm.end(amd, attempt(build, 0, 1), image());
    farm.publishes(build, 1);
    let record = farm.archive(build);
    assert_eq!((record.state, record.jobs[1].state), (BuildState::Succeeded, JobState::Failed));
    let arm = farm.join("arm", &["linux/arm64"], 1);
    let again = farm.rerun(&record);
    farm.end(arm, attempt(again, 1, 1), image());
    assert_eq!(farm_orders(&mut farm, again), None);
    let again = farm.get(again).record();
    assert_eq!((again.state, again.index, &again.tags), (BuildState::Succeeded, record.index, &record.tags));
    assert_eq!(
        Heritage::of_rerun(&again, all).unwrap_err().to_string(),
        format!(
            "build {} succeeded and nothing of it is left to build again; `archyard build` starts anew",
            again.id
        )
    );
}

#[test]
fn what_is_not_there_any_more_is_built_again() {
    let mut farm = Farm::default();
    let record = farm.half(plan(BOTH));
    let heritage = Heritage::of_rerun(&record, |_| false).unwrap();
    farm.carry(record.plan.clone(), heritage).unwrap();
    assert_eq!(farm.leases().len(), 2);
}

#[test]
fn a_build_whose_tags_nobody_remembers_is_not_built_again() {
    let mut farm = Farm::default();
    let record = farm.half(push(BOTH, &[TAG]));
    farm.state.ledger.header.forgotten = record.tag_sequence.unwrap() + 1;
    let heritage = Heritage::of_rerun(&record, all).unwrap();
    let refused = farm.carry(record.plan.clone(), heritage).unwrap_err();
    assert!(
        matches!(&refused, Refusal::TagsForgotten { build, tag: named } if *build == record.id && **named == tag())
    );
    // Of a tag that is remembered it is known.
    let place = farm.state.ledger.header.moved.clone();
    assert!(place.is_empty());
}

#[test]
fn the_oldest_moves_are_forgotten_first_and_never_claimed_ones() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", &["linux/amd64"], 1);
    let build = farm.build(push(&["linux/amd64"], &[TAG]));
    farm.end(amd, attempt(build, 0, 1), image());
    farm.publishes(build, 1);
    let ledger = &mut farm.state.ledger;
    let place = |number: u64| super::super::tags::Place { tags: number, accepted: number };
    for number in 0..archyard_model::limits::TAGS_REMEMBERED as u64 {
        let other: Reference = format!("registry.example/other:{number}").parse().unwrap();
        ledger.header.moved.insert(other.clone(), (place(number + 10), build));
        ledger.unclaimed.insert((place(number + 10), other));
    }
    let next = farm.build(push(&["linux/amd64"], &["registry.example/next:1"]));
    farm.leases();
    farm.end(amd, attempt(next, 0, 1), image());
    farm.publishes(next, 2);
    let ledger = &farm.state.ledger;
    assert_eq!(ledger.unclaimed.len(), archyard_model::limits::TAGS_REMEMBERED);
    assert!(!ledger.header.moved.contains_key(&tag()) && ledger.is_forgotten(&tag(), 0));
}

#[test]
fn a_candidate_is_promoted_with_its_very_images_and_a_place_of_its_own() {
    let mut farm = Farm::default();
    let amd = farm.join("amd", &["linux/amd64"], 1);
    let staging = Some("registry.example/staging".to_owned());
    let wanted = Plan { output: Output::Candidate, staging, trial: [1].into(), ..push(BOTH, &[TAG]) };
    let build = farm.build(wanted);
    farm.end(amd, attempt(build, 0, 1), image());
    let retention = format!("registry.example/staging:candidate-{}", build.to_string().to_lowercase());
    let moves: Vec<String> = farm.get(build).moves.iter().map(ToString::to_string).collect();
    assert_eq!(moves, [retention], "the plan's own tags are not touched");
    assert!(matches!(
        Heritage::of_promotion(&farm.get(build).record(), Vec::new()),
        Err(Unfit::NotReady { .. })
    ));
    farm.publishes(build, 7);
    let record = farm.archive(build);
    assert!(farm.state.ledger.header.moved.is_empty(), "nobody else will move its tag");

    let (heritage, promoted) = Heritage::of_promotion(&record, Vec::new()).unwrap();
    assert_eq!((promoted.output, promoted.platforms.len(), promoted.trial.len()), (Output::Push, 1, 0));
    let build = farm.carry(promoted, heritage).unwrap();
    let order = std::mem::take(&mut farm.effects).into_iter().find_map(|effect| match effect {
        Effect::Publish(order) => Some(order),
        _ => None,
    });
    let order = order.unwrap();
    assert_eq!(order.promotion.as_ref().unwrap().index, record.index.unwrap());
    assert_eq!((order.tags, farm.get(build).tag_sequence), (vec![tag()], farm.get(build).sequence));
    let origin = farm.get(build).origin.unwrap();
    assert_eq!((origin.kind, origin.build), (OriginKind::Promotion, record.id));
    let failed = farm.get(build).record();
    assert!(matches!(Heritage::of_rerun(&failed, all), Err(Unfit::OfPromotion { .. })));
}

#[test]
fn only_candidates_that_succeeded_are_promoted() {
    let mut farm = Farm::default();
    let staging = Some("registry.example/staging".to_owned());
    let failed = farm.half(Plan { output: Output::Candidate, staging, ..push(BOTH, &[TAG]) });
    let unfit = Heritage::of_promotion(&failed, Vec::new()).unwrap_err();
    assert!(
        matches!(unfit, Unfit::NotSucceeded { .. }) && unfit.to_string().contains("archyard rerun"),
        "{unfit}"
    );
    let pushed = BuildRecord { plan: push(BOTH, &[TAG]), ..failed };
    assert!(matches!(Heritage::of_promotion(&pushed, Vec::new()), Err(Unfit::NoCandidate { .. })));
    let running = BuildRecord { state: BuildState::Running, ..pushed };
    let unfit = Heritage::of_rerun(&running, all).unwrap_err();
    assert!(matches!(unfit, Unfit::NotEnded { .. }), "{unfit}");
}
