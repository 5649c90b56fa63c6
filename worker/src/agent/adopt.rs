//! Finding what an earlier agent of this data folder left: runners that live, results that nobody heard, logs
//! that are not told to the end.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use archyard_model::AttemptId;
use tokio::task::JoinSet;

use super::Shared;
use super::attempt::Attempt;
use super::process::Process;
use super::supervise::{bury, supervise};
use crate::attempt::AttemptDir;

/// A runner that has just started has its lock before its number is written.
const PID_RETRY: Duration = Duration::from_millis(5);
const PID_TRIES: u32 = 200;

/// Takes over every attempt there is. Each is known at once, so that the scheduler hears of all of them; tasks
/// watch over those that still run.
pub(super) fn all(shared: &Arc<Shared>, tasks: &mut JoinSet<()>) {
    let folders = match fs::read_dir(shared.layout.attempts()) {
        Ok(folders) => folders,
        Err(error) => {
            tracing::warn!(%error, "cannot look for attempts that an earlier agent left");
            return;
        }
    };
    for folder in folders.flatten() {
        match one(shared, &folder.path()) {
            Ok(Some(attempt)) => {
                tracing::info!(build = %attempt.id.job.build, job = attempt.id.job.index, attempt = attempt.id.token.0, "found an attempt of an earlier agent");
                tasks.spawn(look_after(shared.clone(), attempt));
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(folder = %folder.path().display(), %error, "cannot take over an attempt; remove its folder");
            }
        }
    }
}

fn one(shared: &Arc<Shared>, folder: &Path) -> io::Result<Option<Arc<Attempt>>> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let Some(id) = AttemptId::from_file_name(&name) else { return Ok(None) };
    let dir = AttemptDir::at(folder);
    let Some(assignment) = dir.assignment()? else {
        // Its agent died before it had accepted the lease.
        dir.remove()?;
        return Ok(None);
    };
    let attempt = Arc::new(Attempt::new(id, dir, assignment.slot));
    if let Some(result) = attempt.dir.result()? {
        attempt.finish(result);
    }
    if attempt.dir.is_acked() {
        attempt.set_acked();
    }
    shared.watcher.add(&attempt)?;
    shared.attempts.insert(attempt.clone());
    Ok(Some(attempt))
}

async fn look_after(shared: Arc<Shared>, attempt: Arc<Attempt>) {
    for _ in 0..PID_TRIES {
        match attempt.dir.try_lock() {
            Ok(None) => {}
            // Nobody lives there, or nobody can tell.
            _ => break,
        }
        let process = attempt.dir.pid().and_then(|pid| Process::of_stranger(pid).ok());
        // Still locked: then the number is that of the process that holds the lock.
        if let Some(process) = process
            && matches!(attempt.dir.try_lock(), Ok(None))
        {
            return supervise(shared, attempt, process, ()).await;
        }
        tokio::time::sleep(PID_RETRY).await;
    }
    bury(&attempt, None).await;
    attempt.set_exited();
    shared.attempts.update(&attempt);
}
