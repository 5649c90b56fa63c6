//! Keeping an eye on one runner, from its start to its end.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use archyard_model::{Failure, FailureClass};
use tokio::time::Instant;

use super::Shared;
use super::attempt::Attempt;
use super::process::Process;
use crate::machine;

/// How long a runner that was asked to stop may take: the Engine has to stop its step.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How long a runner that ended may still seem to hold its lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(1);
/// With less room a runner may not have been able to write its result.
const FULL_BYTES: u64 = 1024 * 1024;
/// Of what a dead runner said, this much is kept with the failure.
const LAST_WORDS_BYTES: u64 = 2048;

/// Watches until the runner has ended, and passes its result on as soon as it is there. `tether` is let go of
/// at the end.
pub(super) async fn supervise<T: Send>(
    shared: Arc<Shared>,
    attempt: Arc<Attempt>,
    mut process: Process,
    tether: T,
) {
    let mut activity = attempt.activity();
    activity.mark_changed();
    let mut kill_at = None;
    loop {
        tokio::select! {
            () = process.ended() => break,
            _ = activity.changed() => pass_result(&shared, &attempt),
            () = attempt.canceled().cancelled(), if kill_at.is_none() => {
                process.terminate();
                kill_at = Some(Instant::now() + STOP_PATIENCE);
            }
            () = sleep_until(kill_at) => {
                tracing::warn!(build = %attempt.id.job.build, job = attempt.id.job.index, attempt = attempt.id.token.0, "the runner does not stop; killing it");
                process.kill();
                kill_at = Some(Instant::now() + STOP_PATIENCE);
            }
        }
    }
    let status = process.reap();
    drop(tether);
    bury(&attempt, status.as_deref()).await;
    attempt.set_exited();
    shared.attempts.update(&attempt);
}

/// Makes sure that an attempt without a process has a result.
pub(super) async fn bury(attempt: &Attempt, status: Option<&str>) {
    let deadline = Instant::now() + LOCK_PATIENCE;
    let standing_in = loop {
        // Held while we speak for the runner: one that starts late finds a result and leaves.
        match attempt.dir.try_lock() {
            Ok(Some(lock)) => break Ok(lock),
            Ok(None) if Instant::now() < deadline => tokio::time::sleep(LOCK_RETRY).await,
            Ok(None) => break Err(io::Error::other("its lock is still held")),
            Err(error) => break Err(error),
        }
    };
    let said = standing_in.and_then(|lock| {
        if let Some(result) = attempt.dir.result()? {
            attempt.finish(result);
            return Ok(());
        }
        attempt.fail(&died(attempt, status));
        let result = attempt.result();
        let kept = result.map_or(Ok(()), |result| attempt.dir.set_result(&result));
        drop(lock);
        kept
    });
    if let Err(error) = said {
        tracing::warn!(build = %attempt.id.job.build, job = attempt.id.job.index, attempt = attempt.id.token.0, %error, "a dead runner's attempt cannot be looked at");
        attempt.fail(&died(attempt, status));
    }
}

/// Passes a result on that the runner has left, though it may still be about to end.
fn pass_result(shared: &Shared, attempt: &Attempt) {
    if attempt.result().is_some() {
        return;
    }
    match attempt.dir.result() {
        Ok(Some(result)) => {
            attempt.finish(result);
            shared.attempts.update(attempt);
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(build = %attempt.id.job.build, job = attempt.id.job.index, attempt = attempt.id.token.0, %error, "cannot read a result");
        }
    }
}

fn died(attempt: &Attempt, status: Option<&str>) -> Failure {
    if attempt.canceled().is_cancelled() {
        return Failure::new(
            FailureClass::Canceled,
            "canceled",
            "the build was canceled; its runner was killed",
        );
    }
    if machine::free_bytes(attempt.dir.path()).is_ok_and(|free| free < FULL_BYTES) {
        let folder = attempt.dir.path().display();
        let message = format!(
            "the worker's disk of {folder} is full: the runner could not say how it ended; free some space there"
        );
        return Failure::new(FailureClass::Infrastructure, "disk_full", message);
    }
    let how = status.unwrap_or("nobody saw how");
    let message = format!(
        "the runner ended without a result ({how}): it was killed, ran out of memory, or its machine went down"
    );
    Failure::new(FailureClass::Infrastructure, "runner_died", message)
        .with_detail(last_words(attempt).unwrap_or_default())
}

fn last_words(attempt: &Attempt) -> io::Result<String> {
    let mut log = std::fs::File::open(attempt.dir.runner_log())?;
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)))?;
    let mut words = Vec::new();
    log.take(LAST_WORDS_BYTES).read_to_end(&mut words)?;
    Ok(String::from_utf8_lossy(&words).into_owned())
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
