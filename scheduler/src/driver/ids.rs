//! Ids of builds, which sort in the order of acceptance.
//!
//! An id begins with the wall clock's time, and lists sort by ids. So where the clock has not moved since the last id,
//! or was set back, the next id follows the last one and not the clock.

use archyard_model::BuildId;

use crate::core::State;

/// The random part of an id.
const RANDOM: u128 = (1 << 80) - 1;
/// How far an id that follows the last one is from it, at most: enough that ends of ids still tell builds apart.
const STEP: u128 = 1 << 40;

/// Draws ids, each greater than all before it.
#[derive(Debug)]
pub(super) struct Ids {
    last: Option<BuildId>,
}

impl Ids {
    /// After all builds that this state remembers.
    pub(super) fn after(state: &State) -> Self {
        let known = state.ledger.builds.last_key_value().map(|(build, _)| *build);
        let archived = state.ledger.header.archived.iter().map(|(_, build)| *build).max();
        Self { last: known.max(archived) }
    }

    /// The next id; `random` is drawn anew for each.
    pub(super) fn next(&mut self, wall_ms: u64, random: u128) -> BuildId {
        let fresh = BuildId::from_parts(wall_ms, random & RANDOM);
        let next = match self.last.filter(|last| fresh <= *last) {
            None => fresh,
            Some(last) => BuildId::from_u128(last.to_u128().saturating_add(random % STEP + 1)),
        };
        self.last = Some(next);
        next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_grow_whatever_the_clock_does(
            moments in proptest::collection::vec((0..4_u64, prop_oneof![any::<u128>(), Just(u128::MAX), Just(0)]), 1..50),
        ) {
            let mut ids = Ids { last: None };
            let mut last = None;
            for (wall_ms, random) in moments {
                let next = ids.next(wall_ms, random);
                prop_assert!(Some(next) > last, "{next} after {last:?}");
                prop_assert!(next.to_string() > last.map(|last: BuildId| last.to_string()).unwrap_or_default());
                last = Some(next);
            }
        }
    }

    #[test]
    fn an_id_has_the_clocks_time_while_the_clock_goes_on() {
        let mut ids = Ids { last: None };
        assert_eq!(ids.next(5, 7), BuildId::from_parts(5, 7));
        assert_eq!(ids.next(6, 1), BuildId::from_parts(6, 1));
        assert_eq!(ids.next(2, 9).unix_ms(), 6);
    }
}
