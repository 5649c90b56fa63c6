//! Who is next, and where: workers that can do the same jobs form a class, and projects take turns within it.
//!
//! A class is a pool, a set of platforms, and what the machines would emulate. Whatever waits for one of its platforms fits any of its free workers, so
//! a match is found without searching. Within a class the project that holds the fewest of its slots is next, and of
//! equals the one served longest ago: shares stay within one job of fair, whatever jobs take. A project's jobs on
//! platforms the class does not serve do not count, or a farm's busy arm half would starve its amd64 half.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use archyard_model::{Platform, Pool, ProjectName, WorkerName, WorkerOffer};

use super::lines::{LineKey, Lines};

/// Which class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClassKey {
    /// The workers' trust level.
    pub pool: Pool,
    /// All that its workers run natively, sorted.
    pub platforms: Arc<[Platform]>,
    /// What their machines would emulate, sorted: nothing of it is ever built there.
    pub emulated: Arc<[Platform]>,
}

/// A worker with a free slot, best first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Free {
    /// Its share of free slots, in millionths.
    pub share: Reverse<u32>,
    /// Attempts it has.
    pub running: u32,
    /// Its name.
    pub worker: WorkerName,
}

/// A project that waits, next first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// Jobs of it that the class's workers have.
    pub running: u32,
    /// When it was last served, as a number that only grows.
    pub served: u64,
    /// Which.
    pub project: ProjectName,
}

#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    queued: usize,
    running: u32,
    served: u64,
}

/// One class.
#[derive(Debug, Clone, Default)]
pub struct Class {
    members: usize,
    free: BTreeSet<Free>,
    waiting: BTreeSet<Turn>,
    standings: BTreeMap<ProjectName, Standing>,
}

/// All classes that have a member.
#[derive(Debug, Clone, Default)]
pub struct Classes {
    classes: BTreeMap<ClassKey, Class>,
    served: u64,
}

impl ClassKey {
    /// The class of a worker that offers this.
    pub fn new(offer: &WorkerOffer) -> Self {
        let sorted = |platforms: &[Platform]| -> Arc<[Platform]> {
            let platforms: BTreeSet<Platform> = platforms.iter().cloned().collect();
            platforms.into_iter().collect()
        };
        Self { pool: offer.pool, platforms: sorted(&offer.platforms), emulated: sorted(&offer.emulated) }
    }

    /// Whether its workers serve this line.
    pub fn serves(&self, line: &LineKey) -> bool {
        self.pool == line.pool
            && self.platforms.binary_search(&line.platform).is_ok()
            && line.cross.as_ref().is_none_or(|target| self.builds_cross(target))
    }

    /// Whether its workers may build what they do not run: not where an emulator would run it unnoticed.
    fn builds_cross(&self, target: &Platform) -> bool {
        let emulates =
            |known: &Platform| (known.os(), known.architecture()) == (target.os(), target.architecture());
        !self.emulated.iter().any(emulates) && self.platforms.binary_search(target).is_err()
    }
}

impl Class {
    /// Its free workers, best first.
    pub fn free(&self) -> impl Iterator<Item = &Free> {
        self.free.iter()
    }

    /// Projects that wait, next first.
    pub fn turns(&self) -> impl Iterator<Item = &Turn> {
        self.waiting.iter()
    }

    fn change(&mut self, project: &ProjectName, change: impl FnOnce(&mut Standing)) {
        let mut standing = self.standings.get(project).copied().unwrap_or_default();
        let turn = |standing: Standing| Turn {
            running: standing.running,
            served: standing.served,
            project: project.clone(),
        };
        if standing.queued > 0 {
            self.waiting.remove(&turn(standing));
        }
        change(&mut standing);
        if standing.queued > 0 {
            self.waiting.insert(turn(standing));
        }
        if standing.queued == 0 && standing.running == 0 {
            self.standings.remove(project);
        } else if let Some(known) = self.standings.get_mut(project) {
            *known = standing;
        } else {
            self.standings.insert(project.clone(), standing);
        }
    }
}

impl Classes {
    /// A worker joins its class; the lines tell a new class who waits.
    pub fn join(&mut self, key: &ClassKey, lines: &Lines) {
        let class = self.classes.entry(key.clone()).or_default();
        class.members += 1;
        if class.members > 1 {
            return;
        }
        for (_, line) in lines.iter().filter(|(line, _)| key.serves(line)) {
            for (project, queued) in line.queued() {
                class.change(project, |standing| standing.queued += queued);
            }
            for (project, running) in line.running() {
                class.change(project, |standing| standing.running += running);
            }
        }
    }

    /// A worker leaves its class.
    pub fn leave(&mut self, key: &ClassKey) {
        if let Some(class) = self.classes.get_mut(key) {
            class.members -= 1;
            if class.members == 0 {
                self.classes.remove(key);
            }
        }
    }

    /// A worker's place among the free ones changes.
    pub fn place(&mut self, key: &ClassKey, before: Option<&Free>, after: Option<&Free>) {
        if let Some(class) = self.classes.get_mut(key) {
            if let Some(before) = before {
                class.free.remove(before);
            }
            if let Some(after) = after {
                class.free.insert(after.clone());
            }
        }
    }

    /// One more job waits in this line.
    pub fn queued(&mut self, line: &LineKey, project: &ProjectName) {
        self.each(line, |class| class.change(project, |standing| standing.queued += 1));
    }

    /// One job less waits in this line.
    pub fn unqueued(&mut self, line: &LineKey, project: &ProjectName) {
        self.each(line, |class| class.change(project, |standing| standing.queued -= 1));
    }

    /// A worker has one more job of this line.
    pub fn began(&mut self, line: &LineKey, project: &ProjectName) {
        self.served += 1;
        let served = self.served;
        self.each(line, |class| {
            class.change(project, |standing| {
                standing.running += 1;
                standing.served = served;
            });
        });
    }

    /// A worker has one job of this line less.
    pub fn ended(&mut self, line: &LineKey, project: &ProjectName) {
        self.each(line, |class| class.change(project, |standing| standing.running -= 1));
    }

    /// Whether any worker serves this line.
    pub fn serve(&self, line: &LineKey) -> bool {
        self.classes.keys().any(|key| key.serves(line))
    }

    /// Classes whose workers serve this line.
    pub fn serving(&self, line: &LineKey) -> impl Iterator<Item = &Class> {
        self.classes.iter().filter(|(key, _)| key.serves(line)).map(|(_, class)| class)
    }

    /// Which classes these are.
    pub fn keys_serving(&self, line: &LineKey) -> impl Iterator<Item = &ClassKey> {
        self.classes.keys().filter(|key| key.serves(line))
    }

    /// The class of this key.
    pub fn get(&self, key: &ClassKey) -> Option<&Class> {
        self.classes.get(key)
    }

    /// Platforms of workers that may build for one that nobody runs, with how many of those workers are free.
    pub fn builders(&self, pool: Pool, target: &Platform) -> BTreeMap<Platform, usize> {
        let mut builders = BTreeMap::new();
        for (key, class) in
            self.classes.iter().filter(|(key, _)| key.pool == pool && key.builds_cross(target))
        {
            for platform in key.platforms.iter() {
                *builders.entry(platform.clone()).or_default() += class.free.len();
            }
        }
        builders
    }

    /// A class with a free worker and a waiting project, and whose turn it is there.
    pub fn next(&self) -> Option<(&ClassKey, &ProjectName)> {
        self.classes
            .iter()
            .filter(|(_, class)| !class.free.is_empty())
            .find_map(|(key, class)| class.waiting.first().map(|turn| (key, &turn.project)))
    }

    fn each(&mut self, line: &LineKey, mut change: impl FnMut(&mut Class)) {
        for (_, class) in self.classes.iter_mut().filter(|(key, _)| key.serves(line)) {
            change(class);
        }
    }
}
