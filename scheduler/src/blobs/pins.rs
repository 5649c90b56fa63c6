//! What is not removed now, although no build that the scheduler knows needs it.
//!
//! A blob is pinned for a while after a client uploaded it, or was told that it is here: the client is about to submit.
//! And it is pinned while a call counts on it. Pins are checked under the lock under which a blob is taken away, so that
//! an answer and a removal cannot cross. They are held in memory: after a restart nothing is removed for as long as a
//! pin lasts.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use archyard_model::Blake3;

use crate::clock::Clock;

/// Blobs that are looked for under one lock: a long question must not hold up others.
const BATCH: usize = 256;

/// All pins of a store.
#[derive(Debug)]
pub(super) struct Pins {
    clock: Clock,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// When a client last brought a blob or was told of it, by [`key`].
    touched: HashMap<u64, Duration>,
    /// How many calls under way count on a blob.
    claimed: HashMap<u64, usize>,
}

/// Eight bytes tell blobs apart well enough: two that share them are kept one too many, never one too few.
pub(crate) fn key(digest: Blake3) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

impl Pins {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, held: Mutex::default() }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Pins a blob from now on: it is about to get its name.
    pub(super) fn touch(&self, digest: Blake3) {
        let now = self.clock.since_start();
        self.lock().touched.insert(key(digest), now);
    }

    /// Which of these are here, in order. Those that are stay pinned from now on.
    pub(super) fn present(&self, digests: &[Blake3], exists: impl Fn(Blake3) -> bool) -> Vec<bool> {
        let mut present = Vec::with_capacity(digests.len());
        for batch in digests.chunks(BATCH) {
            let now = self.clock.since_start();
            let mut held = self.lock();
            for digest in batch {
                let here = exists(*digest);
                if here {
                    held.touched.insert(key(*digest), now);
                }
                present.push(here);
            }
        }
        present
    }

    /// Pins blobs until they are released as often.
    pub(super) fn claim(&self, digests: &[Blake3]) {
        let mut held = self.lock();
        for digest in digests {
            *held.claimed.entry(key(*digest)).or_default() += 1;
        }
    }

    /// Ends a claim. With `touch` the blobs count as touched now: what the claim was for is known elsewhere from here on.
    pub(super) fn release(&self, digests: &[Blake3], touch: bool) {
        let now = self.clock.since_start();
        let mut held = self.lock();
        for digest in digests {
            let key = key(*digest);
            if let Some(claims) = held.claimed.get_mut(&key) {
                *claims -= 1;
                if *claims == 0 {
                    held.claimed.remove(&key);
                }
            }
            if touch {
                held.touched.insert(key, now);
            }
        }
    }

    /// Whether a blob is claimed, or was touched at `since` or later.
    pub(super) fn is_pinned(&self, digest: Blake3, since: Duration) -> bool {
        self.lock().pins(digest, since)
    }

    /// Takes a blob away unless it is pinned. Returns whether it was taken.
    pub(super) fn take_away(
        &self,
        digest: Blake3,
        since: Duration,
        remove: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<bool> {
        let held = self.lock();
        if held.pins(digest, since) {
            return Ok(false);
        }
        remove()?;
        drop(held);
        Ok(true)
    }

    /// Forgets touches of before `since`.
    pub(super) fn forget(&self, since: Duration) {
        let mut held = self.lock();
        held.touched.retain(|_, at| *at >= since);
        held.touched.shrink_to_fit();
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn pins(&self, digest: Blake3, since: Duration) -> bool {
        let key = key(digest);
        self.claimed.contains_key(&key) || self.touched.get(&key).is_some_and(|at| *at >= since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removes(pins: &Pins, digest: Blake3, since: u64) -> bool {
        pins.take_away(digest, Duration::from_secs(since), || Ok(())).unwrap()
    }

    #[test]
    fn a_touch_pins_for_a_while_and_a_claim_until_it_is_released() {
        let clock = Clock::manual();
        let pins = Pins::new(clock.clone());
        let blob = Blake3::of(b"blob");
        assert!(removes(&pins, blob, 0), "nothing pins it");
        clock.advance(Duration::from_secs(10));
        pins.touch(blob);
        assert!(!removes(&pins, blob, 10) && removes(&pins, blob, 11));
        pins.claim(&[blob]);
        pins.claim(&[blob]);
        pins.release(&[blob], true);
        assert!(!removes(&pins, blob, 1_000), "another call counts on it");
        clock.advance(Duration::from_secs(10));
        pins.release(&[blob], true);
        assert!(!removes(&pins, blob, 20) && removes(&pins, blob, 21), "a release is a touch");
        pins.forget(Duration::from_secs(21));
        assert!(pins.lock().touched.is_empty() && pins.lock().claimed.is_empty());
    }

    #[test]
    fn only_what_is_here_is_pinned_by_a_question() {
        let pins = Pins::new(Clock::manual());
        let (here, gone) = (Blake3::of(b"here"), Blake3::of(b"gone"));
        assert_eq!(pins.present(&[here, gone], |digest| digest == here), [true, false]);
        assert!(pins.is_pinned(here, Duration::ZERO) && !pins.is_pinned(gone, Duration::ZERO));
    }
}
