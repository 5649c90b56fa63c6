//! Contexts within their limits. Blocks, and reads the manifests of all contexts that are kept.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use archyard_model::Blake3;

use super::budget::{Budget, Why};
use super::options::Limits;
use crate::blobs::{Context, Cut, Removed, Store, key};
use crate::pace::Pace;

/// A build that the scheduler knows, as far as its source goes.
#[derive(Debug, Clone)]
pub(super) struct Build {
    pub(super) project: Arc<str>,
    pub(super) manifest: Blake3,
    pub(super) dockerfile: Blake3,
    /// It is queued, runs, or ended lately.
    pub(super) needed: bool,
}

/// What builds have from one context.
#[derive(Debug, Default)]
pub(super) struct Used {
    pub(super) projects: BTreeSet<Arc<str>>,
    dockerfiles: HashSet<Blake3>,
    pub(super) needed: bool,
}

/// The contexts that builds name.
pub(super) type Uses = HashMap<Blake3, Used>;

/// What to remove.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) limits: Limits,
    /// What was used later than this stays.
    pub(super) spared: Duration,
    /// Only what this project alone uses.
    pub(super) project: Option<&'a str>,
    /// Say what would go, and leave it.
    pub(super) dry: bool,
    /// Pins of this time and later count.
    pub(super) since: Duration,
}

/// What went, and how it stands then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Swept {
    pub(super) contexts: u64,
    pub(super) removed: Removed,
    /// Something that is past a limit could not go now.
    pub(super) held_up: bool,
}

/// By context.
pub(super) fn uses(builds: impl IntoIterator<Item = Build>) -> Uses {
    let mut uses = Uses::new();
    for build in builds {
        let used = uses.entry(build.manifest).or_default();
        used.projects.insert(build.project);
        used.dockerfiles.insert(build.dockerfile);
        used.needed |= build.needed;
    }
    uses
}

/// Removes what is past the limits, and every blob that no context names.
///
/// `uses` must have been found after the pins of `order.since` counted: a build that is not in it has claimed its
/// source since.
pub(super) fn sweep(store: &Store, uses: &Uses, order: Order<'_>, pace: &mut Pace) -> Result<Swept, Cut> {
    let mut kept =
        Kept { store, uses, blobs: HashSet::new(), projects: HashMap::new(), limits: order.limits };
    let mut budget = Budget::new(order.limits, order.spared);
    let (victims, mut held_up) = kept.choose(order, &mut budget, pace)?;
    let mut swept = Swept::default();
    if order.dry {
        swept.contexts = victims.len() as u64;
        store.walk(pace, |_, digest| {
            if !kept.blobs.contains(&key(digest)) && !store.is_pinned(digest, order.since) {
                swept.removed.blobs += 1;
                swept.removed.bytes += store.bytes_on_disk(digest);
            }
            Ok(())
        })?;
        return Ok(swept);
    }
    let mut gone = Vec::new();
    for manifest in victims {
        // A file of a context that stays may look like a manifest.
        pace.step()?;
        if kept.blobs.contains(&key(manifest)) {
            continue;
        }
        if store.remove_manifest(manifest, order.since, &mut swept.removed)? {
            gone.push(manifest);
        } else {
            // Somebody wants it after all.
            held_up = true;
            kept.add(manifest, pace)?;
        }
    }
    store.sync_removed(&gone)?;
    pace.step()?;
    swept.contexts = gone.len() as u64;
    store.sweep_partial(&kept.blobs, order.since, &mut swept.removed)?;
    for manifest in store.sweep_manifests(&kept.blobs, order.since, pace, &mut swept.removed)? {
        held_up = true;
        kept.add(manifest, pace)?;
    }
    store.sweep_files(&kept.blobs, order.since, pace, &mut swept.removed)?;
    swept.held_up = held_up || budget.is_exceeded();
    Ok(swept)
}

/// Bytes that nothing else kept occupies: at all, and for each project.
type Fresh = (u64, Vec<(Arc<str>, u64)>);

/// Blobs that stay.
struct Kept<'a> {
    store: &'a Store,
    uses: &'a Uses,
    blobs: HashSet<u64>,
    /// Those of each project, where projects have a limit.
    projects: HashMap<Arc<str>, HashSet<u64>>,
    limits: Limits,
}

impl Kept<'_> {
    /// Keeps what must stay and what fits; returns the manifests of the rest.
    fn choose(
        &mut self,
        order: Order<'_>,
        budget: &mut Budget,
        pace: &mut Pace,
    ) -> Result<(Vec<Blake3>, bool), Cut> {
        let store = self.store;
        let mut contexts = store.contexts()?;
        contexts.sort_unstable_by(|a, b| b.used.cmp(&a.used).then(a.manifest.cmp(&b.manifest)));
        // Whether its marker is there or not.
        let needed = self.uses.iter().filter(|(_, used)| used.needed).map(|(manifest, _)| *manifest);
        for manifest in needed.collect::<Vec<_>>() {
            let (bytes, shares) = self.add(manifest, pace)?;
            budget.keep(bytes, &shares);
        }
        let (mut victims, mut held_up) = (Vec::new(), false);
        let now = store.clock().now();
        let (pinned, free): (Vec<Context>, Vec<Context>) = contexts
            .into_iter()
            .filter(|context| !self.uses.get(&context.manifest).is_some_and(|used| used.needed))
            .partition(|context| store.is_pinned(context.manifest, order.since));
        for context in pinned {
            let (bytes, shares) = self.add(context.manifest, pace)?;
            budget.keep(bytes, &shares);
            held_up = true;
        }
        for Context { manifest, used } in free {
            if !self.may_go(manifest, order.project) {
                let (bytes, shares) = self.add(manifest, pace)?;
                budget.keep(bytes, &shares);
                continue;
            }
            let age = now.duration_since(used).unwrap_or_default();
            let named = self.named(manifest);
            let (bytes, shares) = self.fresh(manifest, &named, pace)?;
            match budget.admit(age, bytes, &shares) {
                None => self.insert(manifest, &named),
                Some(Why::Age | Why::Bytes | Why::ProjectBytes | Why::Asked) => victims.push(manifest),
            }
        }
        Ok((victims, held_up))
    }

    fn may_go(&self, manifest: Blake3, project: Option<&str>) -> bool {
        let Some(project) = project else { return true };
        let alone = |used: &Used| used.projects.len() == 1 && used.projects.iter().any(|of| **of == *project);
        self.uses.get(&manifest).is_some_and(alone)
    }

    /// Keeps a context.
    fn add(&mut self, manifest: Blake3, pace: &mut Pace) -> Result<Fresh, Cut> {
        let named = self.named(manifest);
        let fresh = self.fresh(manifest, &named, pace)?;
        self.insert(manifest, &named);
        Ok(fresh)
    }

    fn named(&self, manifest: Blake3) -> Vec<Blake3> {
        let mut named = self.store.named(manifest).unwrap_or_else(|| vec![manifest]);
        if let Some(used) = self.uses.get(&manifest) {
            named.extend(&used.dockerfiles);
        }
        named
    }

    /// What of it is not kept yet, in bytes: at all, and for each of its projects.
    fn fresh(&self, manifest: Blake3, named: &[Blake3], pace: &mut Pace) -> Result<Fresh, Cut> {
        let projects: Vec<&Arc<str>> = match (self.limits.project_bytes, self.uses.get(&manifest)) {
            (Some(_), Some(used)) => used.projects.iter().collect(),
            _ => Vec::new(),
        };
        let mut shares: Vec<(Arc<str>, u64)> =
            projects.iter().map(|project| (Arc::clone(project), 0)).collect();
        let (mut bytes, mut counted) = (0, HashSet::new());
        for digest in named {
            if !counted.insert(key(*digest)) {
                continue;
            }
            let has = |project: &Arc<str>| {
                self.projects.get(project).is_some_and(|blobs| blobs.contains(&key(*digest)))
            };
            let new = !self.blobs.contains(&key(*digest));
            if new || projects.iter().any(|project| !has(project)) {
                let size = self.store.bytes_on_disk(*digest);
                bytes += if new { size } else { 0 };
                for (project, share) in &mut shares {
                    *share += if has(project) { 0 } else { size };
                }
                pace.step()?;
            }
        }
        Ok((bytes, shares))
    }

    fn insert(&mut self, manifest: Blake3, named: &[Blake3]) {
        self.blobs.extend(named.iter().copied().map(key));
        if self.limits.project_bytes.is_some()
            && let Some(used) = self.uses.get(&manifest)
        {
            for project in &used.projects {
                let blobs = self.projects.entry(Arc::clone(project)).or_default();
                blobs.extend(named.iter().copied().map(key));
            }
        }
    }
}
