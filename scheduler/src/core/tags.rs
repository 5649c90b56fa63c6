//! Who moved which tag last, and who still may: a tag never goes back.
//!
//! What is remembered outlives the builds, for a rerun stands where the build it starts from stood, however long ago
//! that ended. It is bounded: of what was forgotten only the newest place is kept, and whoever stands before that is
//! not taken.

use archyard_model::{BuildId, Output, Reference, limits};

use super::build::Build;
use super::ledger::Ledger;

/// A place in the order in which builds may move tags. Reruns stand right behind the build they start from, in the order
/// of their acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The acceptance of the build, or of that which it builds again.
    pub tags: u64,
    /// Its own acceptance.
    pub accepted: u64,
}

impl Ledger {
    /// The build that moved this tag last, or may have, if it stands behind `place`.
    pub fn newer(&self, tag: &Reference, place: Place) -> Option<BuildId> {
        let (moved, build) = self.header.moved.get(tag)?;
        (*moved > place).then_some(*build)
    }

    /// Whether a build at this place could move the tag back without anybody knowing.
    pub fn is_forgotten(&self, tag: &Reference, place: u64) -> bool {
        place < self.header.forgotten && !self.header.moved.contains_key(tag)
    }

    /// The build wants to move its tags.
    pub(super) fn claim(&mut self, build: &Build) {
        for tag in build.moves.iter() {
            self.claims.entry(tag.clone()).or_default().insert((build.place(), build.id));
            if let Some((moved, _)) = self.header.moved.get(tag) {
                self.unclaimed.remove(&(*moved, tag.clone()));
            }
        }
    }

    /// The build moved this tag, or may have.
    pub(super) fn touch(&mut self, id: BuildId, tag: &Reference) {
        let Some(place) = self.builds.get(&id).map(Build::place) else { return };
        let (before, _) = *self.header.moved.entry(tag.clone()).or_insert((place, id));
        if before < place {
            self.header.moved.insert(tag.clone(), (place, id));
        }
    }

    /// The build moves its tags no more.
    pub(super) fn release(&mut self, id: BuildId) {
        let Some(build) = self.builds.get(&id) else { return };
        for tag in build.moves.iter() {
            let Some(claims) = self.claims.get_mut(tag) else { continue };
            claims.remove(&(build.place(), id));
            if claims.is_empty() {
                self.claims.remove(tag);
                if build.plan.output == Output::Candidate {
                    // Its tag bears its own name: nobody else will ever move it.
                    self.header.moved.remove(tag);
                } else if let Some((moved, _)) = self.header.moved.get(tag) {
                    self.unclaimed.insert((*moved, tag.clone()));
                }
            }
        }
        while self.unclaimed.len() > limits::TAGS_REMEMBERED {
            let Some((place, tag)) = self.unclaimed.pop_first() else { return };
            self.header.moved.remove(&tag);
            self.header.forgotten = self.header.forgotten.max(place.tags);
        }
    }
}
