//! What the scheduler keeps, and how much of it could go. Blocks.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::builds::Item;
use super::contexts::Uses;
use crate::blobs::{Cut, Store, key};
use crate::pace::Pace;

/// What is kept of one class, of all projects or of one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// Contexts, or builds.
    pub count: u64,
    /// On the disk.
    pub bytes: u64,
    /// No build that is queued, running or recent needs these of them.
    pub reclaimable: u64,
    /// Since the last use of the one that was used longest ago, or since the end of the oldest build.
    pub oldest: Option<Duration>,
}

/// The same of a class, and of each project that has a part in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usages {
    /// A blob that several need counts once.
    pub total: Usage,
    /// A blob counts for each project whose builds need it.
    pub projects: BTreeMap<Arc<str>, Usage>,
}

impl Usage {
    fn add(&mut self, bytes: u64, reclaimable: bool, age: Duration) {
        self.count += 1;
        self.bytes += bytes;
        self.reclaimable += if reclaimable { bytes } else { 0 };
        // What no record speaks of has no age.
        self.oldest = self.oldest.max((age < Duration::MAX).then_some(age));
    }
}

/// Of what is kept for builds.
pub(super) fn of_builds(items: &[Item]) -> Usages {
    let mut usages = Usages::default();
    for item in items {
        usages.total.add(item.bytes, !item.needed, item.age);
        if let Some(project) = &item.project {
            let usage = usages.projects.entry(Arc::clone(project)).or_default();
            usage.add(item.bytes, !item.needed, item.age);
        }
    }
    usages
}

/// Of contexts. Pins of `since` and later count as a need.
pub(super) fn of_contexts(
    store: &Store,
    uses: &Uses,
    since: Duration,
    pace: &mut Pace,
) -> Result<Usages, Cut> {
    let (mut usages, now): (Usages, SystemTime) = (Usages::default(), store.clock().now());
    let mut needed = HashSet::new();
    let mut projects: BTreeMap<Arc<str>, HashSet<u64>> = BTreeMap::new();
    for context in store.contexts()? {
        let used = uses.get(&context.manifest);
        let is_needed = used.is_some_and(|used| used.needed) || store.is_pinned(context.manifest, since);
        let named = store.named(context.manifest).unwrap_or_else(|| vec![context.manifest]);
        let age = now.duration_since(context.used).unwrap_or_default();
        usages.total.add(0, false, age);
        if is_needed {
            needed.extend(named.iter().copied().map(key));
        }
        for project in used.into_iter().flat_map(|used| &used.projects) {
            let usage = usages.projects.entry(Arc::clone(project)).or_default();
            usage.add(0, false, age);
            let counted = projects.entry(Arc::clone(project)).or_default();
            for digest in &named {
                if counted.insert(key(*digest)) {
                    let bytes = store.bytes_on_disk(*digest);
                    usage.bytes += bytes;
                    usage.reclaimable += if is_needed { 0 } else { bytes };
                    pace.step()?;
                }
            }
        }
    }
    store.walk(pace, |_, digest| {
        let bytes = store.bytes_on_disk(digest);
        usages.total.bytes += bytes;
        if !needed.contains(&key(digest)) && !store.is_pinned(digest, since) {
            usages.total.reclaimable += bytes;
        }
        Ok(())
    })?;
    Ok(usages)
}
