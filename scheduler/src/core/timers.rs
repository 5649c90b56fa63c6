//! Deadlines in order. Each subject has at most one: setting it again moves it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use archyard_model::{AttemptId, BuildId, WorkerName};

/// What falls due.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A worker's silence, or a lost one's time in the listings.
    Worker(WorkerName),
    /// An offered lease has no answer.
    Answer(AttemptId),
    /// A told attempt has not stopped.
    Stop(AttemptId),
    /// A build's credentials did not come.
    Credentials(BuildId),
    /// A build's whole context did not come.
    Context(BuildId),
    /// Nobody answered with a lock.
    Lock(BuildId),
    /// The publisher is silent, or its pause is over.
    Publish(BuildId),
}

/// All deadlines.
#[derive(Debug, Clone, Default)]
pub struct Timers {
    order: BTreeSet<(Duration, Timer)>,
    at: BTreeMap<Timer, Duration>,
}

impl Timers {
    /// Sets or moves a deadline.
    pub fn set(&mut self, timer: Timer, at: Duration) {
        if let Some(before) = self.at.insert(timer.clone(), at) {
            self.order.remove(&(before, timer.clone()));
        }
        self.order.insert((at, timer));
    }

    /// Forgets a deadline.
    pub fn clear(&mut self, timer: &Timer) {
        if let Some(at) = self.at.remove(timer) {
            self.order.remove(&(at, timer.clone()));
        }
    }

    /// The earliest deadline.
    pub fn first(&self) -> Option<(Duration, &Timer)> {
        self.order.first().map(|(at, timer)| (*at, timer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_deadline_falls_due_once() {
        let timer = |random| Timer::Lock(BuildId::from_parts(0, random));
        let mut timers = Timers::default();
        timers.set(timer(1), Duration::from_secs(1));
        timers.set(timer(2), Duration::from_secs(2));
        timers.set(timer(1), Duration::from_secs(3));
        assert_eq!(timers.first(), Some((Duration::from_secs(2), &timer(2))));
        timers.clear(&timer(2));
        timers.clear(&timer(1));
        assert_eq!(timers.first(), None);
    }
}
