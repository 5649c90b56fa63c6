//! Work in the background that leaves the disk and the processor to others.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Steps between two looks at the clock.
const STEPS: u32 = 64;
/// The longest pause at once: a scheduler that stops does not wait for it for long.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Keeps work to a share of the time. One step is one file looked at or removed.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// For so much work one pauses so many times as long.
    pauses: u32,
    stopping: CancellationToken,
    steps: u32,
    since: Instant,
}

/// The scheduler stops: what is left is done after its next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped;

impl Pace {
    /// A fifth of the time, until `stopping`.
    pub(crate) fn gentle(stopping: CancellationToken) -> Self {
        Self { pauses: 4, stopping, steps: 0, since: Instant::now() }
    }

    /// Half of the time: somebody waits for it.
    pub(crate) fn brisk(stopping: CancellationToken) -> Self {
        Self { pauses: 1, ..Self::gentle(stopping) }
    }

    /// To be called after each step.
    pub(crate) fn step(&mut self) -> Result<(), Stopped> {
        self.steps += 1;
        if self.steps < STEPS {
            return Ok(());
        }
        if self.stopping.is_cancelled() {
            return Err(Stopped);
        }
        std::thread::sleep((self.since.elapsed() * self.pauses).min(PAUSE_MAX));
        (self.steps, self.since) = (0, Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_pauses_in_proportion_and_stops_when_asked() {
        let stopping = CancellationToken::new();
        let mut pace = Pace::gentle(stopping.clone());
        let started = Instant::now();
        std::thread::sleep(Duration::from_millis(20));
        for _ in 0..STEPS {
            pace.step().unwrap();
        }
        assert!(started.elapsed() >= Duration::from_millis(100), "{:?}", started.elapsed());
        stopping.cancel();
        assert_eq!((0..STEPS).map(|_| pace.step()).find_map(Result::err), Some(Stopped));
    }
}
