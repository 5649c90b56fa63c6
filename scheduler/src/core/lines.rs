//! Queued jobs, one line per pool and platform, and one for each platform that is built on machines of another.
//!
//! Within a line each project's jobs stand in the order their builds were accepted, so a job that is tried again
//! does not go to the end; those on trial stand behind all others. Whose turn it is among projects is [`super::classes`]'s to say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use archyard_model::{JobId, Platform, Pool, ProjectName};

use super::classes::ClassKey;

/// Which line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineKey {
    /// Only workers of this pool serve it.
    pub pool: Pool,
    /// They run this platform natively.
    pub platform: Platform,
    /// What its jobs are built for, where that is another platform.
    pub cross: Option<Platform>,
}

/// A job in a line, ordered by its build's acceptance, the required ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Queued {
    /// Whether it is on trial.
    pub trial: bool,
    /// Its build's place in the order of acceptance.
    pub sequence: u64,
    /// Which.
    pub job: JobId,
}

/// What becomes of a job while nobody serves its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Its watchers know.
    pub said: bool,
    /// It may be built on a machine of another platform.
    pub crossable: bool,
    /// Its build has all that was asked for, and does not wait for it.
    pub dispensable: bool,
}

/// One line.
#[derive(Debug, Clone, Default)]
pub struct Line {
    projects: BTreeMap<ProjectName, BTreeSet<Queued>>,
    arrivals: BTreeSet<(Duration, Queued)>,
    unsaid: BTreeSet<Queued>,
    crossable: BTreeSet<Queued>,
    dispensable: BTreeSet<Queued>,
    running: BTreeMap<ProjectName, u32>,
    /// Since when no worker serves it.
    orphaned: Option<Duration>,
}

impl LineKey {
    /// The line of a platform's jobs; `cross`: built by workers of that platform instead.
    pub fn of(pool: Pool, platform: &Platform, cross: Option<&Platform>) -> Self {
        match cross {
            Some(builder) => Self { pool, platform: builder.clone(), cross: Some(platform.clone()) },
            None => Self { pool, platform: platform.clone(), cross: None },
        }
    }
}

/// All lines.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    lines: BTreeMap<LineKey, Line>,
    arrived: BTreeMap<JobId, Duration>,
}

impl Lines {
    /// The line of this key.
    pub fn get(&self, key: &LineKey) -> Option<&Line> {
        self.lines.get(key)
    }

    /// Every line.
    pub fn iter(&self) -> impl Iterator<Item = (&LineKey, &Line)> {
        self.lines.iter()
    }

    /// The line of this key, made if need be; `served` says whether a worker serves it.
    pub fn open(&mut self, key: &LineKey, now: Duration, served: bool) -> &mut Line {
        self.lines
            .entry(key.clone())
            .or_insert_with(|| Line { orphaned: (!served).then_some(now), ..Line::default() })
    }

    /// A worker of this class came or went: `served` says which of its lines some worker serves, from `now` on.
    pub fn serve(&mut self, class: &ClassKey, now: Duration, served: impl Fn(&LineKey) -> bool) {
        for (key, line) in self.lines.iter_mut().filter(|(key, _)| class.serves(key)) {
            line.orphaned = (!served(key)).then(|| line.orphaned.unwrap_or(now));
        }
    }

    /// Whether the job stands in a line.
    pub fn contains(&self, job: JobId) -> bool {
        self.arrived.contains_key(&job)
    }

    /// How many jobs stand in lines.
    pub fn count(&self) -> usize {
        self.arrived.len()
    }

    /// Puts a job into an open line.
    pub fn enqueue(&mut self, key: &LineKey, project: &ProjectName, queued: Queued, now: Duration) {
        let Some(line) = self.lines.get_mut(key) else { return };
        self.arrived.insert(queued.job, now);
        line.arrivals.insert((now, queued));
        if let Some(jobs) = line.projects.get_mut(project) {
            jobs.insert(queued);
        } else {
            line.projects.insert(project.clone(), BTreeSet::from([queued]));
        }
    }

    /// Takes a job out of its line.
    pub fn dequeue(&mut self, key: &LineKey, project: &ProjectName, queued: Queued) {
        let Some(since) = self.arrived.remove(&queued.job) else { return };
        let Some(line) = self.lines.get_mut(key) else { return };
        line.arrivals.remove(&(since, queued));
        for set in [&mut line.unsaid, &mut line.crossable, &mut line.dispensable] {
            set.remove(&queued);
        }
        if let Some(jobs) = line.projects.get_mut(project) {
            jobs.remove(&queued);
            if jobs.is_empty() {
                line.projects.remove(project);
            }
        }
    }

    /// Says how a job in this line stands.
    pub fn stand(&mut self, key: &LineKey, queued: Queued, standing: Standing) {
        let Some(line) = self.lines.get_mut(key) else { return };
        let sets = [
            (&mut line.unsaid, !standing.said),
            (&mut line.crossable, standing.crossable),
            (&mut line.dispensable, standing.dispensable),
        ];
        for (set, holds) in sets {
            if holds {
                set.insert(queued);
            } else {
                set.remove(&queued);
            }
        }
    }
}

impl Line {
    /// Since when no worker serves it.
    pub fn orphaned(&self) -> Option<Duration> {
        self.orphaned
    }

    /// The project's first job.
    pub fn first(&self, project: &ProjectName) -> Option<Queued> {
        self.projects.get(project)?.first().copied()
    }

    /// The project's jobs, in order.
    pub fn jobs<'a>(&'a self, project: &ProjectName) -> impl Iterator<Item = Queued> + use<'a> {
        self.projects.get(project).into_iter().flatten().copied()
    }

    /// Jobs whose watchers do not know yet that nobody serves the line.
    pub fn unsaid(&self) -> impl Iterator<Item = Queued> {
        self.unsaid.iter().copied()
    }

    /// Jobs that may be built on machines of another platform.
    pub fn crossable(&self) -> impl Iterator<Item = Queued> {
        self.crossable.iter().copied()
    }

    /// Jobs that nobody waits for.
    pub fn dispensable(&self) -> impl Iterator<Item = Queued> {
        self.dispensable.iter().copied()
    }

    /// The longest waiting jobs, with when they came.
    pub fn arrivals(&self) -> impl Iterator<Item = (Duration, Queued)> {
        self.arrivals.iter().copied()
    }

    /// How many jobs of each project wait here.
    pub fn queued(&self) -> impl Iterator<Item = (&ProjectName, usize)> {
        self.projects.iter().map(|(project, jobs)| (project, jobs.len()))
    }

    /// How many jobs of each project workers have.
    pub fn running(&self) -> impl Iterator<Item = (&ProjectName, u32)> {
        self.running.iter().map(|(project, count)| (project, *count))
    }

    /// A worker has one more job of the project.
    pub fn began(&mut self, project: &ProjectName) {
        if let Some(count) = self.running.get_mut(project) {
            *count += 1;
        } else {
            self.running.insert(project.clone(), 1);
        }
    }

    /// A worker has one job of the project less.
    pub fn ended(&mut self, project: &ProjectName) {
        if let Some(count) = self.running.get_mut(project) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(project);
            }
        }
    }
}
