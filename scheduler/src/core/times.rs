//! The times that an operator may set; what `archyard_model::limits` says unless he does.

use std::time::Duration;

use archyard_model::limits;

/// How long things may take before something else follows. Fixed while a scheduler runs, and no part of the ledger:
/// a replay decides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Silence after which a worker is lost.
    pub lease: Duration,
    /// After a recovery no lease expires before this has passed.
    pub grace: Duration,
    /// How long a worker may take to answer an offered lease.
    pub lease_answer: Duration,
    /// How long a job may wait while no worker runs its platform.
    pub no_worker: Duration,
    /// How long a build waits for its client's credentials.
    pub credentials: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            lease: limits::LEASE,
            grace: limits::RECOVERY_GRACE,
            lease_answer: limits::LEASE_ANSWER,
            no_worker: limits::NO_WORKER_PATIENCE,
            credentials: limits::CREDENTIALS_PATIENCE,
        }
    }
}

/// A duration as it stands in a sentence.
pub(super) fn spoken(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} minutes", seconds / 60),
    }
}
