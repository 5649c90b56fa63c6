//! Which ended builds lose their record, their log or what they left: the oldest first. Pure.

use std::sync::Arc;
use std::time::Duration;

use archyard_model::BuildId;

use super::budget::{Budget, Why};
use super::options::Limits;

/// Something that is kept for a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) build: BuildId,
    /// None: no record says whose it was.
    pub(super) project: Option<Arc<str>>,
    /// Since the build's end.
    pub(super) age: Duration,
    /// On the disk.
    pub(super) bytes: u64,
    /// The build has not ended, or ended lately.
    pub(super) needed: bool,
}

/// Those of `items` that go, and why. Whatever is younger than `spared` stays, and so does what is not of `project`.
pub(super) fn victims(
    mut items: Vec<Item>,
    limits: Limits,
    spared: Duration,
    project: Option<&str>,
) -> Vec<(Item, Why)> {
    items.sort_unstable_by(|a, b| a.age.cmp(&b.age).then(b.build.cmp(&a.build)));
    let stays = |item: &Item| {
        item.needed || project.is_some_and(|project| item.project.as_deref().is_none_or(|of| of != project))
    };
    let mut budget = Budget::new(limits, spared);
    let (staying, free): (Vec<Item>, Vec<Item>) = items.into_iter().partition(stays);
    for item in staying {
        budget.keep(item.bytes, &shares(&item));
    }
    let goes = |item: Item| {
        let why = budget.admit(item.age, item.bytes, &shares(&item))?;
        Some((item, why))
    };
    free.into_iter().filter_map(goes).collect()
}

fn shares(item: &Item) -> Vec<(Arc<str>, u64)> {
    item.project.iter().map(|project| (Arc::clone(project), item.bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(number: u64, project: &str, hours: u64, bytes: u64) -> Item {
        Item {
            build: BuildId::from_parts(number, 1),
            project: Some(project.into()),
            age: Duration::from_secs(hours * 3600),
            bytes,
            needed: false,
        }
    }

    fn gone(items: Vec<Item>, limits: Limits, spared: u64, project: Option<&str>) -> Vec<u64> {
        let spared = Duration::from_secs(spared * 3600);
        victims(items, limits, spared, project).iter().map(|(item, _)| item.build.unix_ms()).collect()
    }

    #[test]
    fn the_oldest_go_and_what_is_needed_stays() {
        let limits = Limits { bytes: Some(25), ..Limits::default() };
        let items = vec![item(1, "a", 9, 10), item(2, "a", 3, 10), item(3, "b", 1, 10), item(4, "b", 2, 10)];
        assert_eq!(gone(items.clone(), limits, 0, None), [2, 1]);
        let mut needed = items;
        needed[0].needed = true;
        assert_eq!(gone(needed, limits, 0, None), [4, 2]);
    }

    #[test]
    fn a_prune_of_one_project_leaves_the_others_alone() {
        let limits = Limits { project_bytes: Some(10), ..Limits::default() };
        let items = vec![item(1, "a", 9, 10), item(2, "a", 8, 10), item(3, "b", 9, 10), item(4, "b", 8, 10)];
        assert_eq!(gone(items.clone(), limits, 0, Some("a")), [1]);
        assert_eq!(gone(items, limits, 9, Some("a")), [1]);
    }
}
