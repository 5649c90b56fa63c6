//! Lets go of what no client has come for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use archyard_model::{BuildId, convert};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Artifacts;
use crate::driver::Handle;
use crate::views::Views;

/// How often somebody looks, at the least.
const EVERY: Duration = Duration::from_secs(60);

/// Looks from time to time, until `stopping`. What costs is asking whether a build has ended, so that is remembered: it
/// never becomes untrue.
pub async fn sweep(
    artifacts: Arc<Artifacts>,
    driver: Handle,
    views: Arc<Views>,
    stopping: CancellationToken,
) {
    let mut ended = HashMap::new();
    let mut ticks =
        tokio::time::interval(EVERY.min(artifacts.options.kept / 4).max(Duration::from_millis(50)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopping.cancelled() => return,
        }
        if let Err(error) = once(&artifacts, &driver, &views, &mut ended).await {
            tracing::warn!(error, "what workers left for clients cannot be cleaned up; it is tried again");
        }
    }
}

async fn once(
    artifacts: &Arc<Artifacts>,
    driver: &Handle,
    views: &Arc<Views>,
    ended: &mut HashMap<BuildId, Timestamp>,
) -> Result<(), String> {
    let store = Arc::clone(artifacts);
    let builds = blocking(move || store.builds()).await?;
    ended.retain(|build, _| builds.contains(build));
    for build in builds {
        let at = match ended.get(&build) {
            Some(at) => *at,
            None => match ended_at(driver, views, build).await? {
                Some(at) => *ended.entry(build).or_insert(at),
                None => continue,
            },
        };
        // A clock that was set back only makes it wait.
        if Duration::try_from(Timestamp::now().duration_since(at)).unwrap_or_default()
            < artifacts.options.kept
        {
            continue;
        }
        let store = Arc::clone(artifacts);
        blocking(move || store.release(build)).await?;
        ended.remove(&build);
        tracing::info!(%build, "what it left for its client was not fetched in time, and is gone");
    }
    Ok(())
}

/// When a build ended. One that nobody knows has ended long ago.
async fn ended_at(driver: &Handle, views: &Arc<Views>, build: BuildId) -> Result<Option<Timestamp>, String> {
    if let Some(record) = driver.record(build).await.map_err(|error| error.to_string())? {
        return Ok(record.ended_at);
    }
    let views = Arc::clone(views);
    let record = blocking(move || views.record(build)).await?;
    let at = record.and_then(|record| record.ended_at);
    Ok(Some(
        at.and_then(|at| convert::time_from_proto("ended_at", Some(at)).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH),
    ))
}

async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, String>
where
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
    done.map_err(|error| error.to_string())
}
