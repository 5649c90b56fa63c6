//! One pass over everything that is kept: what is past its limit goes. Blocks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use archyard_model::BuildId;
use jiff::Timestamp;

use super::budget::Why;
use super::builds::{Item, victims};
use super::contexts::{self, Build, Order, Uses, uses};
use super::keeper::Stores;
use super::options::{Limits, Options};
use super::removed::{Note, Notes, What};
use super::usage::{self, Usages};
use crate::blobs::{Cut, Removed};
use crate::disk;
use crate::driver::Source;
use crate::pace::Pace;
use crate::views::Ended;

/// Builds whose removal is noted at once.
const BATCH: usize = 64;

/// A kind of thing that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Sources.
    Contexts,
    /// Logs of builds.
    Logs,
    /// Records of ended builds. A log goes with its build's record.
    Records,
    /// What workers left for clients.
    Artifacts,
}

impl Class {
    /// All of them, in the order in which people read them.
    pub const ALL: [Self; 4] = [Self::Contexts, Self::Logs, Self::Records, Self::Artifacts];
}

/// What an operator asks to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prune {
    /// At least one.
    pub classes: Vec<Class>,
    /// Only what was not used, or ended, for so long.
    pub older_than: Duration,
    /// So much of each class stays: what is newest.
    pub keep_bytes: u64,
    /// Only what is of this project.
    pub project: Option<String>,
    /// Say what would go, and leave it.
    pub dry_run: bool,
}

/// What went of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freed {
    /// Contexts, or builds.
    pub count: u64,
    /// On the disk.
    pub bytes: u64,
}

/// Why things go in this pass.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reason<'a> {
    /// The limits of the farm, for a disk of so many bytes.
    Limits(&'a Options, u64),
    /// An operator's wish.
    Asked(&'a Prune),
}

/// Builds for which something is kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    logs: Vec<BuildId>,
    artifacts: Vec<BuildId>,
}

impl Kept {
    pub(super) fn list(stores: &Stores) -> Result<Self, disk::Error> {
        Ok(Self { logs: stores.spools.builds()?, artifacts: stores.artifacts.builds()? })
    }
}

/// Everything that a pass knows when it begins.
pub(super) struct Pass<'a> {
    stores: &'a Stores,
    notes: &'a Notes,
    reason: Reason<'a>,
    /// Builds that ended within this time are needed.
    recent: Duration,
    /// Pins of this time and later count.
    since: Duration,
    now: SystemTime,
    kept: Kept,
    active: BTreeMap<BuildId, Source>,
    ended: BTreeMap<BuildId, Arc<Ended>>,
    pace: Pace,
}

impl<'a> Pass<'a> {
    /// `active` must have been asked for after `kept` was listed, so that no new build looks like one that is gone, and
    /// before this is made: a build is in the views before the core forgets it.
    pub(super) fn new(
        stores: &'a Stores,
        notes: &'a Notes,
        reason: Reason<'a>,
        (recent, since): (Duration, Duration),
        kept: Kept,
        active: Vec<Source>,
        mut pace: Pace,
    ) -> Result<Self, Cut> {
        let ended = stores.views.ended(&mut pace)?.into_iter().collect();
        let active = active.into_iter().map(|source| (source.build, source)).collect();
        let now = stores.blobs.clock().now();
        Ok(Self { stores, notes, reason, recent, since, now, kept, active, ended, pace })
    }

    /// Removes what is past its limit of these classes.
    pub(super) fn run(&mut self, classes: &[Class]) -> Result<(BTreeMap<Class, Freed>, bool), Cut> {
        let (mut freed, mut held_up) = (BTreeMap::new(), false);
        // Records first: what they needed may go with them.
        for class in [Class::Records, Class::Logs, Class::Artifacts, Class::Contexts] {
            if !classes.contains(&class) {
                continue;
            }
            let went = match class {
                Class::Records => self.records()?,
                Class::Logs => self.logs()?,
                Class::Artifacts => self.artifacts()?,
                Class::Contexts => {
                    let swept = contexts::sweep(
                        &self.stores.blobs,
                        &self.uses(),
                        self.order(Class::Contexts),
                        &mut self.pace,
                    )?;
                    held_up |= swept.held_up;
                    let Removed { bytes, .. } = swept.removed;
                    Freed { count: swept.contexts, bytes }
                }
            };
            freed.insert(class, went);
        }
        Ok((freed, held_up))
    }

    /// What is kept.
    pub(super) fn usage(&mut self) -> Result<BTreeMap<Class, Usages>, Cut> {
        let contexts = usage::of_contexts(&self.stores.blobs, &self.uses(), self.since, &mut self.pace)?;
        let mut artifacts = usage::of_builds(&self.artifact_items()?);
        // One that several builds left counts once.
        artifacts.total.bytes = self.stores.artifacts.kept_bytes();
        artifacts.total.reclaimable = artifacts.total.reclaimable.min(artifacts.total.bytes);
        Ok(BTreeMap::from([
            (Class::Contexts, contexts),
            (Class::Logs, usage::of_builds(&self.log_items()?)),
            (Class::Records, usage::of_builds(&self.record_items())),
            (Class::Artifacts, artifacts),
        ]))
    }

    fn records(&mut self) -> Result<Freed, Cut> {
        let items = self.record_items();
        let mut freed = Freed::default();
        let dry = self.order(Class::Records).dry;
        for batch in self.victims(Class::Records, items).chunks(BATCH) {
            let mut bytes = 0;
            for (item, _) in batch {
                bytes += item.bytes + self.stores.spools.bytes(item.build)?;
            }
            if !dry {
                self.note(What::Record, batch)?;
                for (item, _) in batch {
                    // Whoever finds a record may ask for its log: the record goes first.
                    self.stores.views.remove(item.build)?;
                    self.stores.spools.remove(item.build)?;
                    self.ended.remove(&item.build);
                    self.pace.step()?;
                }
            }
            freed.count += batch.len() as u64;
            freed.bytes += bytes;
        }
        Ok(freed)
    }

    fn logs(&mut self) -> Result<Freed, Cut> {
        let items = self.log_items()?;
        let mut freed = Freed::default();
        let dry = self.order(Class::Logs).dry;
        for batch in self.victims(Class::Logs, items).chunks(BATCH) {
            if !dry {
                self.note(What::Log, batch)?;
                for (item, _) in batch {
                    self.stores.spools.remove(item.build)?;
                    self.pace.step()?;
                }
            }
            freed.count += batch.len() as u64;
            freed.bytes += batch.iter().map(|(item, _)| item.bytes).sum::<u64>();
        }
        Ok(freed)
    }

    fn artifacts(&mut self) -> Result<Freed, Cut> {
        let items = self.artifact_items()?;
        let before = self.stores.artifacts.kept_bytes();
        let mut freed = Freed::default();
        let dry = self.order(Class::Artifacts).dry;
        for (item, _) in self.victims(Class::Artifacts, items) {
            freed.count += 1;
            freed.bytes += item.bytes;
            if !dry {
                self.stores.artifacts.release(item.build)?;
                self.pace.step()?;
            }
        }
        if !dry {
            freed.bytes = before.saturating_sub(self.stores.artifacts.kept_bytes());
        }
        Ok(freed)
    }

    fn note(&self, what: What, batch: &[(Item, Why)]) -> Result<(), Cut> {
        let at = Timestamp::try_from(self.now).unwrap_or_default();
        let why = |why: Why| match self.reason {
            Reason::Limits(..) => why,
            Reason::Asked(_) => Why::Asked,
        };
        let notes: Vec<(BuildId, Note)> =
            batch.iter().map(|(item, of)| (item.build, Note { what, why: why(*of), at })).collect();
        Ok(self.notes.note(&notes)?)
    }

    fn victims(&self, class: Class, items: Vec<Item>) -> Vec<(Item, Why)> {
        let order = self.order(class);
        victims(items, order.limits, order.spared, order.project)
    }

    fn order(&self, class: Class) -> Order<'a> {
        match self.reason {
            Reason::Limits(options, disk) => {
                let limits = match class {
                    Class::Contexts => options.of_contexts(disk),
                    Class::Logs => options.of_logs(disk),
                    Class::Records => options.of_records(disk),
                    Class::Artifacts => options.of_artifacts(),
                };
                Order { limits, spared: Duration::ZERO, project: None, dry: false, since: self.since }
            }
            Reason::Asked(prune) => {
                let bytes = Some(prune.keep_bytes);
                let limits = match prune.project {
                    None => Limits { bytes, ..Limits::default() },
                    Some(_) => Limits { project_bytes: bytes, ..Limits::default() },
                };
                let project = prune.project.as_deref();
                Order { limits, spared: prune.older_than, project, dry: prune.dry_run, since: self.since }
            }
        }
    }

    fn uses(&self) -> Uses {
        let active = self.active.values().map(|source| Build {
            project: source.project.as_str().into(),
            manifest: source.manifest,
            dockerfile: source.dockerfile,
            needed: true,
        });
        let ended = self.ended.values().map(|ended| Build {
            project: Arc::clone(&ended.project),
            manifest: ended.manifest,
            dockerfile: ended.dockerfile,
            needed: self.age(ended) < self.recent,
        });
        uses(active.chain(ended))
    }

    fn record_items(&self) -> Vec<Item> {
        let item = |(build, ended): (&BuildId, &Arc<Ended>)| self.item(*build, ended.bytes, Some(ended));
        self.ended.iter().map(item).collect()
    }

    fn log_items(&mut self) -> Result<Vec<Item>, Cut> {
        let mut items = Vec::new();
        for build in self.kept.logs.clone() {
            let ended = self.ended.get(&build);
            let settled = ended.filter(|ended| self.age(ended) >= self.recent);
            let bytes = match settled.and_then(|ended| ended.log_bytes.get()) {
                Some(bytes) => *bytes,
                None => {
                    let bytes = self.stores.spools.bytes(build)?;
                    match settled {
                        Some(ended) => *ended.log_bytes.get_or_init(|| bytes),
                        None => bytes,
                    }
                }
            };
            items.push(self.item(build, bytes, ended));
            self.pace.step()?;
        }
        Ok(items)
    }

    fn artifact_items(&mut self) -> Result<Vec<Item>, Cut> {
        let mut items = Vec::new();
        for build in self.kept.artifacts.clone() {
            let bytes = self.stores.artifacts.bytes_of(build)?;
            items.push(self.item(build, bytes, self.ended.get(&build)));
            self.pace.step()?;
        }
        Ok(items)
    }

    /// What is kept for a build that is neither in the core nor in the records was left by a removal that a crash cut
    /// short, and is infinitely old.
    fn item(&self, build: BuildId, bytes: u64, ended: Option<&Arc<Ended>>) -> Item {
        let active = self.active.get(&build).map(|source| Arc::from(source.project.as_str()));
        let is_active = active.is_some();
        let (age, recent) = match ended {
            Some(ended) => (self.age(ended), self.age(ended) < self.recent),
            None if is_active => (Duration::ZERO, true),
            None => (Duration::MAX, false),
        };
        let project = active.or_else(|| ended.map(|ended| Arc::clone(&ended.project)));
        Item { build, project, age, bytes, needed: is_active || recent }
    }

    fn age(&self, ended: &Ended) -> Duration {
        let at = SystemTime::from(ended.at);
        // A clock that was set back only makes it wait.
        self.now.duration_since(at).unwrap_or_default()
    }
}
