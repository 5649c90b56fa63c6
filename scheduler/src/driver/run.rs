//! Starting the driver's thread, and learning how it ended.

use std::sync::Arc;

use archyard_model::limits;
use tokio::sync::oneshot;

use super::core_thread::CoreThread;
use super::handle::Handle;
use super::inbox::Inbox;
use super::message::Message;
use super::shell::Shell;
use crate::core::{self, State, Times};
use crate::journal::{self, Journal, codec};

/// How the driver runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Messages that may wait for it.
    pub inbox: usize,
    /// How long things may take.
    pub times: Times,
}

impl Default for Options {
    fn default() -> Self {
        Self { inbox: limits::DRIVER_MAILBOX, times: Times::default() }
    }
}

/// The driver's thread.
#[derive(Debug)]
pub struct Running {
    outcome: oneshot::Receiver<Result<(), journal::Error>>,
}

impl Running {
    /// Waits for the driver's end: `Ok` after [`Handle::stop`], the journal's error otherwise. On an error the
    /// process must end, non-zero, with the error on one line: the next start recovers.
    pub async fn ended(self) -> Result<(), journal::Error> {
        self.outcome.await.unwrap_or(Err(journal::Error::Crashed))
    }
}

/// Recovers the state from the journal, then runs until stopped. `shell` is made with the handle it answers
/// through. Blocks while it replays.
pub fn start<S: Shell>(
    mut journal: Box<dyn Journal>,
    options: &Options,
    shell: impl FnOnce(Handle) -> S,
) -> Result<(Handle, Running), journal::Error> {
    let state = recover(journal.as_mut(), options.times)?;
    let inbox = Arc::new(Inbox::new(options.inbox));
    let handle = Handle::new(Arc::clone(&inbox));
    let shell = shell(handle.clone());
    let (ended, outcome) = oneshot::channel();
    let guard = Guard(Arc::clone(&inbox));
    std::thread::Builder::new()
        .name("archyard-core".to_owned())
        .spawn(move || {
            let outcome = CoreThread::new(state, journal, shell, inbox).run();
            // Callers are told before whoever waits for the end.
            drop(guard);
            drop(ended.send(outcome));
        })
        .map_err(|source| journal::Error::Io { path: "archyard-core".into(), source })?;
    Ok((handle, Running { outcome }))
}

/// The state that the journal's records give.
pub(super) fn recover(journal: &mut dyn Journal, times: Times) -> Result<State, journal::Error> {
    let mut state = State::recovering_with(times);
    let place = journal.place();
    journal.replay(&mut |record| {
        let (wall_ms, fact) = codec::decode(record)
            .map_err(|error| journal::Error::Corrupt { path: place.clone(), problem: error.to_string() })?;
        let moment = core::Moment { wall_ms, ..core::Moment::default() };
        core::evolve(&mut state, moment, &fact);
        Ok(())
    })?;
    state.recovered();
    Ok(state)
}

/// However the thread ends, nobody waits for it in vain.
struct Guard(Arc<Inbox<Message>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close();
        self.0.take(&mut Vec::new(), None);
    }
}
