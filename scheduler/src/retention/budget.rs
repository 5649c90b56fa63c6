//! What fits within the limits, asked from the newest to the oldest. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::options::Limits;

/// Why something is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// It was not used for too long.
    Age,
    /// All of its class together are too large.
    Bytes,
    /// Those of its project are.
    ProjectBytes,
    /// An operator asked.
    Asked,
}

/// What is kept so far.
#[derive(Debug)]
pub(super) struct Budget {
    limits: Limits,
    /// Whatever is younger stays, however large.
    spared: Duration,
    total: Sum,
    projects: HashMap<Arc<str>, Sum>,
}

#[derive(Debug, Default)]
struct Sum {
    bytes: u64,
    /// Something did not fit: nothing older may stay in its place.
    full: bool,
}

impl Budget {
    pub(super) fn new(limits: Limits, spared: Duration) -> Self {
        Self { limits, spared, total: Sum::default(), projects: HashMap::new() }
    }

    /// Counts what stays in any case. `shares`: what of it is new to each of its projects.
    pub(super) fn keep(&mut self, bytes: u64, shares: &[(Arc<str>, u64)]) {
        self.total.bytes += bytes;
        for (project, bytes) in shares {
            self.projects.entry(Arc::clone(project)).or_default().bytes += bytes;
        }
    }

    /// Counts what stays if it fits, the newest first; else says why it goes.
    pub(super) fn admit(&mut self, age: Duration, bytes: u64, shares: &[(Arc<str>, u64)]) -> Option<Why> {
        if age >= self.spared {
            if self.limits.age.is_some_and(|most| age > most) {
                return Some(Why::Age);
            }
            if self.limits.bytes.is_some_and(|most| !self.total.has_room(bytes, most)) {
                return Some(Why::Bytes);
            }
            if let Some(most) = self.limits.project_bytes {
                for (project, bytes) in shares {
                    if !self.projects.entry(Arc::clone(project)).or_default().has_room(*bytes, most) {
                        return Some(Why::ProjectBytes);
                    }
                }
            }
        }
        self.keep(bytes, shares);
        None
    }

    /// Whether what stays is past a limit of size: only because it may not go.
    pub(super) fn is_exceeded(&self) -> bool {
        self.limits.bytes.is_some_and(|most| self.total.bytes > most)
            || self
                .limits
                .project_bytes
                .is_some_and(|most| self.projects.values().any(|project| project.bytes > most))
    }
}

impl Sum {
    fn has_room(&mut self, bytes: u64, most: u64) -> bool {
        if !self.full && self.bytes.saturating_add(bytes) <= most {
            return true;
        }
        // What is larger than the limit by itself does not take others along.
        self.full |= bytes <= most;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(hours: u64) -> Duration {
        Duration::from_secs(hours * 3600)
    }

    fn shares(project: &str, bytes: u64) -> [(Arc<str>, u64); 1] {
        [(project.into(), bytes)]
    }

    #[test]
    fn the_oldest_go_first() {
        let limits = Limits { age: Some(hours(10)), bytes: Some(100), project_bytes: None };
        let mut budget = Budget::new(limits, Duration::ZERO);
        assert_eq!(budget.admit(hours(1), 60, &[]), None);
        assert_eq!(budget.admit(hours(2), 60, &[]), Some(Why::Bytes));
        assert_eq!(budget.admit(hours(3), 10, &[]), Some(Why::Bytes), "it is older than one that went");
        let mut budget = Budget::new(limits, Duration::ZERO);
        assert_eq!(budget.admit(hours(1), 101, &[]), Some(Why::Bytes));
        assert_eq!(budget.admit(hours(2), 100, &[]), None, "the one before could never fit");
        assert_eq!(budget.admit(hours(10), 0, &[]), None);
        assert_eq!(budget.admit(hours(11), 0, &[]), Some(Why::Age));
        assert!(!budget.is_exceeded());
    }

    #[test]
    fn each_project_has_a_limit_of_its_own() {
        let limits = Limits { age: None, bytes: Some(1_000), project_bytes: Some(100) };
        let mut budget = Budget::new(limits, Duration::ZERO);
        budget.keep(90, &shares("a", 90));
        assert_eq!(budget.admit(hours(1), 20, &shares("a", 20)), Some(Why::ProjectBytes));
        assert_eq!(budget.admit(hours(1), 20, &shares("b", 20)), None);
        budget.keep(20, &shares("a", 20));
        assert!(budget.is_exceeded(), "what may not go counts, and may be past the limit");
    }

    #[test]
    fn what_is_spared_stays_however_large() {
        let limits = Limits { age: None, bytes: Some(0), project_bytes: None };
        let mut budget = Budget::new(limits, hours(24));
        assert_eq!(budget.admit(hours(23), 50, &[]), None);
        assert_eq!(budget.admit(hours(24), 50, &[]), Some(Why::Bytes));
    }
}
