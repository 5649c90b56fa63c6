//! What may interrupt a runner.

use std::io::{self, Read as _};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Fires `cancel` on SIGTERM, and on the end of standard input where an agent's death is to be the attempt's. A
/// terminal's hang-up and interrupt mean its other processes. Stops listening when dropped.
pub(super) fn listen(cancel: &CancellationToken, tethered: bool) -> io::Result<JoinSet<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let ignored = [signal(SignalKind::hangup())?, signal(SignalKind::interrupt())?];
    let mut tasks = JoinSet::new();
    let asked = cancel.clone();
    tasks.spawn(async move {
        let _ignored = ignored;
        while terminate.recv().await.is_some() {
            tracing::info!("asked to cancel");
            asked.cancel();
        }
    });
    if tethered {
        let lost = cancel.clone();
        std::thread::Builder::new().name("tether".to_owned()).spawn(move || {
            let mut byte = [0];
            while let Ok(1) | Err(_) = io::stdin().lock().read(&mut byte).map_err(|error| error.kind()) {}
            tracing::info!("the agent is gone");
            lost.cancel();
        })?;
    }
    Ok(tasks)
}
