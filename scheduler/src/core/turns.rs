//! Whose turn it is to publish a tag: one build at a time, in the order of their places.
//!
//! A build begins only when it is first for all of its tags and nobody publishes any of them. The earliest of those
//! that wait is first everywhere, so somebody can always go on.

use std::collections::{BTreeMap, BTreeSet};

use archyard_model::{BuildId, Reference};

use super::tags::Place;

#[derive(Debug, Clone, Default)]
struct Turn {
    publishing: Option<BuildId>,
    ready: BTreeSet<(Place, BuildId)>,
}

/// The turns of all tags that somebody is ready to publish.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    tags: BTreeMap<Reference, Turn>,
}

impl Turns {
    /// The build wants its turn.
    pub fn wait(&mut self, tags: &[Reference], place: Place, build: BuildId) {
        for tag in tags {
            self.tags.entry(tag.clone()).or_default().ready.insert((place, build));
        }
    }

    /// Whether it is the build's turn for all of these.
    pub fn may_begin(&self, tags: &[Reference], place: Place, build: BuildId) -> bool {
        tags.iter().all(|tag| {
            self.tags
                .get(tag)
                .is_some_and(|turn| turn.publishing.is_none() && turn.ready.first() == Some(&(place, build)))
        })
    }

    /// The build that moves one of these tags before this one, and the tag.
    pub fn ahead<'a>(&self, tags: &'a [Reference], build: BuildId) -> Option<(&'a Reference, BuildId)> {
        tags.iter().find_map(|tag| {
            let turn = self.tags.get(tag)?;
            let first = turn.publishing.or(turn.ready.first().map(|(_, build)| *build));
            first.filter(|first| *first != build).map(|first| (tag, first))
        })
    }

    /// The build publishes.
    pub fn begin(&mut self, tags: &[Reference], place: Place, build: BuildId) {
        for tag in tags {
            let turn = self.tags.entry(tag.clone()).or_default();
            turn.ready.remove(&(place, build));
            turn.publishing = Some(build);
        }
    }

    /// The build neither waits nor publishes any more; whose turn it may be now.
    pub fn leave(&mut self, tags: &[Reference], place: Place, build: BuildId) -> BTreeSet<BuildId> {
        let mut next = BTreeSet::new();
        for tag in tags {
            let Some(turn) = self.tags.get_mut(tag) else { continue };
            turn.ready.remove(&(place, build));
            if turn.publishing == Some(build) {
                turn.publishing = None;
            }
            next.extend(turn.ready.first().map(|(_, build)| *build));
            if turn.publishing.is_none() && turn.ready.is_empty() {
                self.tags.remove(tag);
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_in_order() {
        let tags: Vec<Reference> = vec!["r.example/a:1".parse().unwrap(), "r.example/a:2".parse().unwrap()];
        let (old, new) = (BuildId::from_parts(1, 0), BuildId::from_parts(2, 0));
        let mut turns = Turns::default();
        let at = |number| Place { tags: number, accepted: number };
        turns.wait(&tags[..1], at(2), new);
        assert!(turns.may_begin(&tags[..1], at(2), new));
        turns.wait(&tags, at(1), old);
        assert!(!turns.may_begin(&tags[..1], at(2), new) && turns.may_begin(&tags, at(1), old));
        turns.begin(&tags, at(1), old);
        assert!(!turns.may_begin(&tags[..1], at(2), new));
        assert_eq!(turns.leave(&tags, at(1), old), BTreeSet::from([new]));
        assert!(turns.may_begin(&tags[..1], at(2), new));
        turns.begin(&tags[..1], at(2), new);
        assert!(turns.leave(&tags[..1], at(2), new).is_empty());
        assert!(turns.tags.is_empty());
    }
}
