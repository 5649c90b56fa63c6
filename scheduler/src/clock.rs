//! The time by which retention goes: tests move it by hand.

#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// A source of time. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System(Instant),
    #[cfg(test)]
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's own.
    pub(crate) fn system() -> Self {
        Self(Source::System(Instant::now()))
    }

    /// Time since the scheduler started. Never runs backwards.
    pub(crate) fn since_start(&self) -> Duration {
        match &self.0 {
            Source::System(start) => start.elapsed(),
            #[cfg(test)]
            Source::Manual(millis) => Duration::from_millis(millis.load(Ordering::SeqCst)),
        }
    }

    /// What the calendar says.
    pub(crate) fn now(&self) -> SystemTime {
        match &self.0 {
            Source::System(_) => SystemTime::now(),
            #[cfg(test)]
            Source::Manual(_) => SystemTime::UNIX_EPOCH + Self::MANUAL_START + self.since_start(),
        }
    }
}

#[cfg(test)]
impl Clock {
    /// When a clock that is moved by hand starts: in 2033.
    pub(crate) const MANUAL_START: Duration = Duration::from_secs(2_000_000_000);

    /// One that only [`advance`](Self::advance) moves.
    pub(crate) fn manual() -> Self {
        Self(Source::Manual(Arc::default()))
    }

    pub(crate) fn advance(&self, by: Duration) {
        let Source::Manual(millis) = &self.0 else { panic!("the system's clock moves by itself") };
        millis.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}
