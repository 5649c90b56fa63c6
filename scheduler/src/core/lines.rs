//! Queued jobs, one line per pool and platform.
//!
//! Within a line each project's jobs stand in the order their builds were accepted, so a job that is tried again
//! does not go to the end. Whose turn it is among projects is [`super::classes`]'s to say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use archyard_model::{JobId, Platform, Pool, ProjectName};

/// Which line: only workers of this pool that run this platform natively serve it.
pub type LineKey = (Pool, Platform);

/// A job in a line, ordered by its build's acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Queued {
    /// Its build's place in the order of acceptance.
    pub sequence: u64,
    /// Which.
    pub job: JobId,
}

/// One line.
#[derive(Debug, Clone, Default)]
pub struct Line {
    projects: BTreeMap<ProjectName, BTreeSet<Queued>>,
    arrivals: BTreeSet<(Duration, Queued)>,
    unsaid: BTreeSet<Queued>,
    running: BTreeMap<ProjectName, u32>,
    /// Since when no worker serves it.
    orphaned: Option<Duration>,
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

    /// Says whether a worker serves the line, from `now` on.
    pub fn serve(&mut self, key: &LineKey, now: Duration, served: bool) {
        if let Some(line) = self.lines.get_mut(key) {
            line.orphaned = (!served).then(|| line.orphaned.unwrap_or(now));
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

    /// Puts a job into an open line. `said`: its watchers know that nobody serves it.
    pub fn enqueue(
        &mut self,
        key: &LineKey,
        project: &ProjectName,
        queued: Queued,
        now: Duration,
        said: bool,
    ) {
        let Some(line) = self.lines.get_mut(key) else { return };
        self.arrived.insert(queued.job, now);
        line.arrivals.insert((now, queued));
        if !said {
            line.unsaid.insert(queued);
        }
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
        line.unsaid.remove(&queued);
        if let Some(jobs) = line.projects.get_mut(project) {
            jobs.remove(&queued);
            if jobs.is_empty() {
                line.projects.remove(project);
            }
        }
    }

    /// The job's watchers know that nobody serves its line.
    pub fn said(&mut self, key: &LineKey, queued: Queued) {
        if let Some(line) = self.lines.get_mut(key) {
            line.unsaid.remove(&queued);
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

    /// Jobs whose watchers do not know yet that nobody serves the line.
    pub fn unsaid(&self) -> impl Iterator<Item = Queued> {
        self.unsaid.iter().copied()
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
