//! Journals of before there were trials, cross builds and builds that start from others.

use archyard_proto::journal::v1 as proto;
use prost::Message as _;
use proto::fact::Fact as Record;

use super::super::tags::Place;
use super::super::{evolve, snapshot};
use super::*;
use crate::journal::codec;

const AMD: &[&str] = &["linux/amd64"];
const TAG: &str = "registry.example/app:1";

/// The record as a writer of before would have written it.
fn older(wall_ms: u64, fact: &Fact) -> Option<Vec<u8>> {
    let mut message = proto::Fact::decode(&codec::encode(wall_ms, fact)?[..]).unwrap();
    match message.fact.as_mut().unwrap() {
        Record::BuildAccepted(accepted) => accepted.heritage = None,
        Record::BuildRestored(restored) => {
            (restored.published, restored.promotion) = (false, None);
            restored.record.as_mut().unwrap().tag_sequence = None;
        }
        Record::HeaderRestored(header) => {
            header.forgotten = None;
            header.moved.iter_mut().for_each(|moved| moved.accepted = 0);
        }
        _ => {}
    }
    Some(message.encode_to_vec())
}

fn replay<'a>(facts: impl Iterator<Item = (u64, &'a Fact)>) -> State {
    let mut state = State::recovering();
    for record in facts.filter_map(|(wall_ms, fact)| older(wall_ms, fact)) {
        let (wall_ms, fact) = codec::decode(&record).unwrap();
        evolve(&mut state, Moment { wall_ms, ..Moment::default() }, &fact);
    }
    state
}

/// One build has ended and is archived, one publishes, one runs.
fn farm() -> Farm {
    let mut farm = Farm::default();
    let connection = farm.join("amd", AMD, 3);
    let builds = [(); 3].map(|()| farm.build(push(AMD, &[TAG])));
    for build in &builds[..2] {
        farm.end(connection, attempt(*build, 0, 1), image());
    }
    let index = Sha256::from_bytes([1; 32]);
    farm.give(Input::IndexPrepared { build: builds[0], index, size: 1 }).unwrap();
    farm.give(Input::TagMoved { build: builds[0], tag: TAG.parse().unwrap() }).unwrap();
    farm.give(Input::PublishDone { build: builds[0] }).unwrap();
    farm.give(Input::Archived { build: builds[0] }).unwrap();
    farm.give(Input::IndexPrepared { build: builds[1], index, size: 1 }).unwrap();
    farm
}

#[test]
fn facts_replay_to_the_same_ledger() {
    let farm = farm();
    let replayed = replay(farm.facts.iter().map(|(wall, fact)| (*wall, fact)));
    assert_eq!(replayed.ledger, farm.state.ledger);
}

#[test]
fn a_snapshot_gives_the_same_builds_and_trusts_no_tag_that_it_does_not_list() {
    let farm = farm();
    let packed: Vec<Fact> = snapshot(&farm.state).collect();
    let restored = replay(packed.iter().map(|fact| (0, fact))).ledger;
    let left = &farm.state.ledger;
    assert_eq!((&restored.builds, &restored.claims), (&left.builds, &left.claims));
    let tag = TAG.parse().unwrap();
    let place = Place { tags: 0, accepted: 0 };
    assert_eq!(restored.header.moved[&tag].0, place);
    assert_eq!(restored.header.forgotten, left.header.next_sequence);
    let other = "registry.example/other:1".parse().unwrap();
    assert!(restored.is_forgotten(&other, 2) && !restored.is_forgotten(&tag, 2));
}
