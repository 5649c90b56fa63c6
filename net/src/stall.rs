//! Notices a transfer that no longer moves: a registry that took the connection and went silent.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

const TICK: Duration = Duration::from_secs(1);

/// Bytes that have moved; cloned into the transfer.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<AtomicU64>);

impl Meter {
    /// This many more have moved.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many have moved.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The transfer's outcome; none when it did not move for `patience`. `moved` is called about once a second
/// while it moves.
pub async fn watch<T, F>(
    transfer: impl Future<Output = T>,
    meter: &Meter,
    patience: Duration,
    moved: impl Fn(u64) -> F,
) -> Option<T>
where
    F: Future<Output = ()>,
{
    tokio::pin!(transfer);
    let mut ticks = interval(TICK.min(patience));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        tokio::select! {
            outcome = &mut transfer => return Some(outcome),
            _ = ticks.tick() => {
                let bytes = meter.bytes();
                if bytes > seen {
                    (seen, since) = (bytes, Instant::now());
                    moved(bytes).await;
                } else if since.elapsed() >= patience {
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silence_ends_a_transfer_and_movement_does_not() {
        let meter = Meter::default();
        let slow = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                meter.add(1);
            }
        };
        let patience = Duration::from_millis(300);
        assert_eq!(watch(slow, &meter, patience, |_| std::future::ready(())).await, Some(()));
        let silent = std::future::pending::<()>();
        assert_eq!(watch(silent, &Meter::default(), patience, |_| std::future::ready(())).await, None);
    }
}
