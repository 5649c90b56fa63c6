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
    #[cfg(test)]
    between: Option<Between>,
}

/// What a test does between two steps.
#[cfg(test)]
#[derive(Clone)]
struct Between(std::sync::Arc<std::sync::Mutex<dyn FnMut() + Send>>);

#[cfg(test)]
impl std::fmt::Debug for Between {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Between")
    }
}

/// The scheduler stops: what is left is done after its next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped;

impl Pace {
    /// A fifth of the time, until `stopping`.
    pub(crate) fn gentle(stopping: CancellationToken) -> Self {
        Self {
            pauses: 4,
            stopping,
            steps: 0,
            since: Instant::now(),
            #[cfg(test)]
            between: None,
        }
    }

    /// Half of the time: somebody waits for it.
    pub(crate) fn brisk(stopping: CancellationToken) -> Self {
        Self { pauses: 1, ..Self::gentle(stopping) }
    }

    /// Never pauses, and lets a test do something after every step.
    #[cfg(test)]
    pub(crate) fn interleaved(between: impl FnMut() + Send + 'static) -> Self {
        let between = Between(std::sync::Arc::new(std::sync::Mutex::new(between)));
        Self { pauses: 0, between: Some(between), ..Self::gentle(CancellationToken::new()) }
    }

    /// Never pauses, and stops after so many steps.
    #[cfg(test)]
    pub(crate) fn cut_after(steps: u32) -> Self {
        let stopping = CancellationToken::new();
        let stop = stopping.clone();
        let mut left = steps;
        let mut pace = Self::interleaved(move || {
            if left == 0 {
                stop.cancel();
            }
            left = left.saturating_sub(1);
        });
        pace.stopping = stopping;
        pace
    }

    /// To be called after each step.
    pub(crate) fn step(&mut self) -> Result<(), Stopped> {
        #[cfg(test)]
        if let Some(Between(between)) = &self.between {
            (between.lock().unwrap())();
            return if self.stopping.is_cancelled() { Err(Stopped) } else { Ok(()) };
        }
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
