//! Waiting between tries: longer each time, and never in step with other workers.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// From 100 ms to 5 s, each time up to twice as long.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// How long to wait this time: between half of the step and all of it.
    pub(crate) fn step(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(LONGEST);
        let random = RandomState::new().hash_one(()) % 1_000;
        step / 2 + step.mul_f64(0.0005 * f64::from(u32::try_from(random).unwrap_or_default()))
    }

    /// Waits.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.step()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound_with_jitter() {
        let mut backoff = Backoff::new();
        let steps: Vec<_> = (0..12).map(|_| backoff.step()).collect();
        assert!(steps[0] >= FIRST / 2 && steps[0] <= FIRST);
        assert!(steps.iter().all(|step| *step <= LONGEST));
        assert!(steps[10] >= LONGEST / 2);
    }

    #[test]
    fn two_workers_do_not_knock_in_step() {
        let draw = || Backoff::new().step();
        assert!((0..20).map(|_| draw()).collect::<std::collections::HashSet<_>>().len() > 1);
    }
}
