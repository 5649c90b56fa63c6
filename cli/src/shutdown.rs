//! How the farm's own processes end: SIGTERM and Ctrl-C ask, a second one does not wait.

use anyhow::Result;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::build::interrupt::Interrupts;
use crate::exit::Exit;

/// A token that fires at the first signal. The task listens for as long as it is kept.
pub(crate) fn on_signals() -> Result<(CancellationToken, JoinSet<()>)> {
    let mut interrupts = Interrupts::listen()?;
    let token = CancellationToken::new();
    let asked = token.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        interrupts.next().await;
        asked.cancel();
        interrupts.next().await;
        tracing::warn!("asked again: ending without waiting");
        std::process::exit(Exit::Canceled.code().into());
    });
    Ok((token, tasks))
}
