//! A runner that is started ahead of its attempt: starting one takes milliseconds that a small build would notice.
//!
//! At most one waits at a time. It has no attempt, no lock and no secret; it is called to an attempt over its
//! standard input, and ends when that ends before. Nothing depends on it: where none waits, or it has died, a
//! runner is started as if there had never been one. None is started while an attempt begins or ends, nor while
//! this worker takes no leases.

use std::io::{self, Write as _};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use archyard_model::{AttemptId, convert};
use prost::Message as _;

use super::Shared;
use super::attempt::Attempt;
use super::launch;
use crate::attempt::Call;

/// How long nothing may have happened to any attempt before a runner is started, while one runs: whatever it
/// has to do first comes first.
const RUNNING: Duration = Duration::from_secs(1);
/// The same while none runs: whoever waited for the last one has heard of it by then.
const AT_REST: Duration = Duration::from_millis(3);

/// The runner that waits.
#[derive(Debug, Default)]
pub(super) struct Warm(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Option<Child>,
    drained: bool,
}

impl Warm {
    /// Calls the runner that waits, if one does. What follows on its standard input is for the caller to write.
    pub(super) fn call(&self, id: AttemptId) -> Option<Child> {
        let mut child = self.lock().waiting.take()?;
        if let Ok(Some(status)) = child.try_wait() {
            tracing::debug!(%status, "the runner that waited has ended");
            return None;
        }
        let call = Call { attempt: Some(convert::attempt_to_proto(id)) }.encode_length_delimited_to_vec();
        let called = child.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(&call));
        if let Err(error) = called {
            tracing::debug!(%error, "the runner that waited cannot be called");
            end(child);
            return None;
        }
        Some(child)
    }

    /// The scheduler wants no lease to be taken here, or does again.
    pub(super) fn set_drained(&self, drained: bool) {
        self.lock().drained = drained;
        if drained {
            self.dismiss();
        }
    }

    /// Ends the runner that waits.
    pub(super) fn dismiss(&self) {
        let waiting = self.lock().waiting.take();
        waiting.into_iter().for_each(end);
    }

    /// Starts one unless one waits.
    fn start(&self, shared: &Shared) -> io::Result<()> {
        let mut state = self.lock();
        if state.waiting.is_some() || state.drained || shared.drain.is_cancelled() {
            return Ok(());
        }
        let attempts = shared.layout.attempts();
        let mut command = launch::command(shared)?;
        command.arg("--warm").arg(&attempts).current_dir(attempts);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        state.waiting = Some(child);
        Ok(())
    }

    /// Nothing in here can be half done when a holder panics.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        self.dismiss();
    }
}

/// Has one wait whenever all is quiet.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut changes = shared.attempts.changes();
    let mut quiet = RUNNING;
    loop {
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(quiet) => {
                start(&shared).await;
                if changes.changed().await.is_err() {
                    return;
                }
            }
        }
        let runs = shared.attempts.all().iter().any(|attempt| Attempt::is_running(attempt));
        quiet = if runs { RUNNING } else { AT_REST };
    }
}

async fn start(shared: &Arc<Shared>) {
    let starting = shared.clone();
    let started = tokio::task::spawn_blocking(move || starting.warm.start(&starting)).await;
    if let Err(error) = started.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
        // Should it matter the next attempt says so.
        tracing::debug!(%error, "no runner is started ahead");
    }
}

/// It has nothing to lose.
fn end(mut child: Child) {
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        tracing::debug!(%error, "a runner that waited cannot be ended");
    }
}
