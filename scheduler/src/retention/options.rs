//! How long things are kept, and how much of them.

use std::time::Duration;

use archyard_model::{Invalid, limits};

/// Limits of everything that the scheduler keeps.
#[derive(Debug, Clone)]
pub struct Options {
    /// What a build that ended within this time needs is never removed, nor what a client uploaded or was told of
    /// within it.
    pub recent: Duration,
    /// Sources.
    pub contexts: Keep,
    /// Logs of ended builds.
    pub logs: Keep,
    /// Records of ended builds.
    pub records: Keep,
    /// What workers left for the clients of one project, in bytes. Age and total are
    /// [`artifacts::Options`](crate::artifacts::Options).
    pub artifacts_project_bytes: Limit<u64>,
    /// The one client of this scheduler is its own process: nothing of before its start is awaited by anybody.
    pub alone: bool,
}

/// Limits of one class. Whatever is past any of them goes, the oldest first.
#[derive(Debug, Clone, Default)]
pub struct Keep {
    /// Since its last use, or since its build's end.
    pub age: Limit<Duration>,
    /// All of them, in bytes on the disk.
    pub bytes: Limit<u64>,
    /// Those of one project.
    pub project_bytes: Limit<u64>,
}

/// A limit that may be left to the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Limit<T> {
    /// As `docs/limits.md` says.
    #[default]
    Default,
    /// No limit.
    None,
    /// This much and no more.
    At(T),
}

/// The limits of one class on this machine; none: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    pub(crate) age: Option<Duration>,
    pub(crate) bytes: Option<u64>,
    pub(crate) project_bytes: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            recent: limits::RECENT,
            contexts: Keep::default(),
            logs: Keep::default(),
            records: Keep::default(),
            artifacts_project_bytes: Limit::Default,
            alone: false,
        }
    }
}

impl<T> Limit<T> {
    fn or(self, default: Option<T>) -> Option<T> {
        match self {
            Self::Default => default,
            Self::None => None,
            Self::At(limit) => Some(limit),
        }
    }
}

impl Keep {
    fn limits(&self, age: Duration, bytes: u64) -> Limits {
        Limits {
            age: self.age.or(Some(age)),
            bytes: self.bytes.or(Some(bytes)),
            project_bytes: self.project_bytes.or(None),
        }
    }
}

impl Options {
    /// Of contexts, on a disk of so many bytes.
    pub(crate) fn of_contexts(&self, disk: u64) -> Limits {
        let bytes = limits::CONTEXTS_KEPT_BYTES.min(disk / limits::CONTEXTS_KEPT_DISK_PART);
        self.contexts.limits(limits::CONTEXTS_KEPT, bytes)
    }

    /// Of logs.
    pub(crate) fn of_logs(&self, disk: u64) -> Limits {
        let bytes = limits::LOGS_KEPT_BYTES.min(disk / limits::LOGS_KEPT_DISK_PART);
        self.logs.limits(limits::LOGS_KEPT, bytes)
    }

    /// Of records.
    pub(crate) fn of_records(&self, disk: u64) -> Limits {
        let bytes = limits::RECORDS_KEPT_BYTES.min(disk / limits::RECORDS_KEPT_DISK_PART);
        self.records.limits(limits::RECORDS_KEPT, bytes)
    }

    /// Of what workers left: the rest is checked as it arrives.
    pub(crate) fn of_artifacts(&self) -> Limits {
        Limits { age: None, bytes: None, project_bytes: self.artifacts_project_bytes.or(None) }
    }

    /// Refuses a limit that would remove what is in use by everybody.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        for (flag, keep) in [
            ("--contexts-kept", &self.contexts),
            ("--logs-kept", &self.logs),
            ("--records-kept", &self.records),
        ] {
            if let Limit::At(age) = keep.age
                && age < self.recent
            {
                return Err(Invalid::new(
                    flag,
                    format!("{age:?}"),
                    format!(
                        "it is shorter than --recent, which is {:?}; give at least that, or lower --recent",
                        self.recent
                    ),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fit_a_small_disk_and_a_large_one() {
        let options = Options::default();
        let (small, large) = (64 << 30, 16 << 40);
        assert_eq!(options.of_contexts(small).bytes, Some((64 << 30) / 5));
        assert_eq!(options.of_contexts(large).bytes, Some(limits::CONTEXTS_KEPT_BYTES));
        assert_eq!(options.of_logs(large).bytes, Some(limits::LOGS_KEPT_BYTES));
        assert_eq!(options.of_records(large).bytes, Some(limits::RECORDS_KEPT_BYTES));
        assert_eq!(options.of_contexts(large).project_bytes, None);
        let none = Options { contexts: Keep { bytes: Limit::None, ..Keep::default() }, ..Options::default() };
        assert_eq!(none.of_contexts(small).bytes, None);
    }

    #[test]
    fn an_age_shorter_than_recent_names_both_flags() {
        let age = Limit::At(Duration::from_secs(60));
        let options = Options { logs: Keep { age, ..Keep::default() }, ..Options::default() };
        let error = options.check().unwrap_err().to_string();
        assert!(error.contains("--logs-kept") && error.contains("--recent"), "{error}");
    }
}
