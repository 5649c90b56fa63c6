//! Asking again: a scheduler that restarts is away for a moment, and every call here may be repeated.

use std::future::Future;
use std::time::{Duration, Instant};

use tonic::Status;

use crate::build::Updates;
use crate::progress::Update;
use crate::status::is_transient;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long a farm may be away before a build that it does not have yet is given up.
pub(crate) const BEFORE_SUBMISSION: Duration = Duration::from_secs(30);

/// Pauses that double.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    /// Short at first.
    pub(crate) fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// Waits; longer the next time.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}

/// How long a farm has been away.
#[derive(Debug)]
pub(crate) struct Away {
    patience: Duration,
    since: Option<Instant>,
}

impl Away {
    /// It is there, as far as is known.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, since: None }
    }

    /// It did not answer: counts from the first time on.
    pub(crate) fn is_too_long(&mut self) -> bool {
        self.since.get_or_insert_with(Instant::now).elapsed() >= self.patience
    }
}

/// Calls until the farm answers, at most for `patience`; `None`: for ever. Tells when it does not answer, and when it
/// does again.
pub(crate) async fn persist<T, F: Future<Output = Result<T, Status>>>(
    updates: &Updates,
    patience: Option<Duration>,
    mut call: impl FnMut() -> F,
) -> Result<T, Status> {
    let began = Instant::now();
    let mut backoff = Backoff::new();
    let mut away = false;
    loop {
        match call().await {
            Err(status)
                if is_transient(&status) && patience.is_none_or(|patience| began.elapsed() < patience) =>
            {
                if !away {
                    away = true;
                    updates.send(Update::Reachable(false)).await.ok();
                }
                backoff.pause().await;
            }
            answer => {
                if away {
                    updates.send(Update::Reachable(true)).await.ok();
                }
                return answer;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn asks_until_there_is_an_answer() {
        let (updates, mut told) = mpsc::channel(8);
        let calls = Cell::new(0);
        let answer = persist(&updates, Some(BEFORE_SUBMISSION), || {
            calls.set(calls.get() + 1);
            let count = calls.get();
            async move { if count < 4 { Err(Status::unavailable("restarting")) } else { Ok(count) } }
        });
        assert_eq!(answer.await.unwrap(), 4);
        assert!(matches!(told.recv().await, Some(Update::Reachable(false))));
        assert!(matches!(told.recv().await, Some(Update::Reachable(true))));
        assert!(told.try_recv().is_err(), "told more than once");
    }

    #[tokio::test]
    async fn what_will_not_pass_is_not_repeated() {
        let (updates, _told) = mpsc::channel(8);
        let calls = Cell::new(0);
        let answer = persist(&updates, None, || {
            calls.set(calls.get() + 1);
            async { Err::<(), _>(Status::invalid_argument("no")) }
        });
        assert!(answer.await.is_err());
        assert_eq!(calls.get(), 1);
    }

    #[test]
    fn a_farm_is_away_from_the_first_time_on() {
        let mut away = Away::new(Duration::from_millis(20));
        assert!(!away.is_too_long());
        std::thread::sleep(Duration::from_millis(30));
        assert!(away.is_too_long());
        assert!(Away::new(Duration::ZERO).is_too_long());
    }

    #[tokio::test]
    async fn patience_ends() {
        let (updates, _told) = mpsc::channel(8);
        let answer =
            persist(&updates, Some(Duration::ZERO), || async { Err::<(), _>(Status::unavailable("gone")) });
        assert!(answer.await.is_err());
    }
}
