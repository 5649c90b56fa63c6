//! Tags: whole or not at all, one build at a time, never back.

use archyard_model::{Reference, limits};

use super::*;

const AMD: &[&str] = &["linux/amd64"];
const TAG: &str = "registry.example/app:1";

fn digest(n: u8) -> Sha256 {
    Sha256::from_bytes([n; 32])
}

fn tag() -> Reference {
    TAG.parse().unwrap()
}

impl Farm {
    /// Built by a worker of its own, so that its publishing is next.
    fn built(&mut self, build: BuildId) {
        let (attempt, connection) =
            self.leases().into_iter().find(|(attempt, _)| attempt.job.build == build).unwrap();
        self.end(connection, attempt, image());
    }

    fn orders(&mut self) -> Vec<(BuildId, Vec<Reference>)> {
        let effects = std::mem::take(&mut self.effects);
        let order = |effect: &Effect| match effect {
            Effect::Publish(order) => Some((order.build, order.tags.clone())),
            _ => None,
        };
        effects.iter().filter_map(order).collect()
    }

    fn two(&mut self) -> (BuildId, BuildId) {
        self.join("amd", AMD, 2);
        let builds = (self.build(push(AMD, &[TAG])), self.build(push(AMD, &[TAG])));
        (builds.0, builds.1)
    }
}

#[test]
fn an_older_build_that_finishes_late_leaves_the_tag_alone() {
    let mut farm = Farm::default();
    let (old, new) = farm.two();
    let leases = farm.leases();
    farm.end(leases[1].1, attempt(new, 0, 1), image());
    assert_eq!(farm.orders(), [(new, vec![tag()])]);
    farm.end(leases[0].1, attempt(old, 0, 1), image());
    assert!(farm.orders().is_empty(), "two builds publish one tag");
    farm.give(Input::IndexPrepared { build: new, index: digest(1), size: 1 }).unwrap();
    farm.give(Input::TagMoved { build: new, tag: tag() }).unwrap();
    farm.give(Input::PublishDone { build: new }).unwrap();
    assert_eq!(farm.orders(), [(old, Vec::new())]);
    farm.give(Input::IndexPrepared { build: old, index: digest(2), size: 1 }).unwrap();
    assert!(farm.give(Input::TagMoved { build: old, tag: tag() }).is_err());
    farm.give(Input::PublishDone { build: old }).unwrap();
    let record = farm.get(old).record();
    assert_eq!(record.state, BuildState::Superseded);
    assert!(!record.tags[0].moved && record.tags[0].detail.contains(&new.to_string()), "{:?}", record.tags);
    assert_eq!(farm.state.ledger.newer(&tag(), farm.get(old).place()), Some(new), "a rerun would not know");
}

#[test]
fn builds_that_are_ready_together_publish_in_order() {
    let mut farm = Farm::default();
    let (old, new) = farm.two();
    let leases = farm.leases();
    farm.end(leases[0].1, attempt(old, 0, 1), image());
    farm.end(leases[1].1, attempt(new, 0, 1), image());
    assert_eq!(farm.orders(), [(old, vec![tag()])]);
    farm.give(Input::IndexPrepared { build: old, index: digest(1), size: 1 }).unwrap();
    let done = Input::PublishDone { build: old };
    assert!(matches!(farm.give(done.clone()), Err(Refusal::NotPublishing { .. })), "a tag is open");
    farm.give(Input::TagMoved { build: old, tag: tag() }).unwrap();
    farm.give(done).unwrap();
    assert_eq!(farm.orders(), [(new, vec![tag()])]);
}

#[test]
fn no_cancel_once_the_index_is_prepared() {
    let mut farm = Farm::default();
    farm.join("amd", AMD, 1);
    let build = farm.build(push(AMD, &[TAG]));
    farm.built(build);
    farm.give(Input::IndexPrepared { build, index: digest(1), size: 1 }).unwrap();
    let cancel = Input::Cancel { build, principal: Principal::local(), reason: String::new() };
    assert_eq!(farm.give(cancel), Err(Refusal::NotCancelable { build, state: BuildState::Publishing }));
    assert!(farm.give(Input::IndexPrepared { build, index: digest(2), size: 1 }).is_err());
    farm.give(Input::IndexPrepared { build, index: digest(1), size: 1 }).unwrap();
}

#[test]
fn a_cancel_before_that_stops_the_publisher() {
    let mut farm = Farm::default();
    farm.join("amd", AMD, 1);
    let build = farm.build(push(AMD, &[TAG]));
    farm.built(build);
    farm.give(Input::Cancel { build, principal: Principal::local(), reason: String::new() }).unwrap();
    assert_eq!(farm.get(build).state, BuildState::Canceled);
    let late = farm.give(Input::IndexPrepared { build, index: digest(1), size: 1 });
    assert!(matches!(late, Err(Refusal::NotPublishing { state: BuildState::Canceled, .. })));
}

#[test]
fn publishing_is_tried_again_after_pauses_and_then_fails_with_its_tags_told() {
    let mut farm = Farm::default();
    farm.join("amd", AMD, 1);
    let build = farm.build(push(AMD, &[TAG, "registry.example/app:2"]));
    farm.built(build);
    for tries in 1..=limits::PUBLISH_TRIES {
        assert_eq!(farm.orders().len(), 1, "try {tries}");
        if tries == 1 {
            farm.give(Input::IndexPrepared { build, index: digest(1), size: 1 }).unwrap();
        }
        let failure = Failure::new(FailureClass::Infrastructure, "registry_503", "503");
        farm.give(Input::PublishFailed { build, failure, retryable: true }).unwrap();
        farm.pass(Duration::from_secs(30));
    }
    let record = farm.get(build).record();
    assert_eq!((record.state, record.failure.unwrap().code), (BuildState::Failed, "registry_503".to_owned()));
    let details: Vec<_> = record.tags.iter().map(|tag| (tag.moved, tag.detail.as_str())).collect();
    assert_eq!(details, [(false, "it may have moved all the same: 503"), (false, "503")]);
}
