//! What an agent does now and then so that its machine's disk does not fill, and nothing runs there for nobody.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use archyard_model::AttemptId;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::attempt::Attempt;
use crate::attempt::AttemptDir;
use crate::cache::Cache;
use crate::engine::{Engine as _, Home};
use crate::images::Images;
use crate::machine;

const INTERVAL: Duration = Duration::from_secs(60);
/// Of the Engine's build cache, when the disk is nearly too full to take leases.
const KEEP_BUILD_CACHE_BYTES: u64 = 10 * 1024 * 1024 * 1024;

/// Cleans up for as long as the agent lives.
pub(super) async fn run(shared: Arc<Shared>) {
    tokio::join!(stop_leftovers(&shared), tidy(&shared));
}

async fn tidy(shared: &Shared) {
    let images = Images::open(&shared.layout);
    let mut looked_at = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        match images.sweep(&shared.engine).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed images that nobody needs from the Engine"),
            Err(error) => tracing::warn!(%error, "cannot look for images that nobody needs"),
        }
        bound_cache(shared, &mut looked_at).await;
        relieve_disk(shared).await;
    }
}

/// Removes the containers of runners that are gone: at the start, for one may have died with an earlier agent;
/// when a runner ends without having succeeded; and now and then, for the Engine may have been away.
async fn stop_leftovers(shared: &Shared) {
    let home = Home::new(shared.config.name.as_str(), shared.layout.root());
    let mut changes = shared.attempts.changes();
    let mut running = BTreeMap::new();
    loop {
        match shared.engine.remove_leftovers(&home, |attempt| lives(shared, attempt)).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed containers whose runners are gone"),
            Err(error) => tracing::debug!(%error, "cannot look for containers whose runners are gone"),
        }
        let next = Instant::now() + INTERVAL;
        loop {
            tokio::select! {
                () = sleep_until(next) => break,
                changed = changes.changed() => if changed.is_err() || one_failed(shared, &mut running) {
                    break;
                },
            }
        }
    }
}

/// Whether a process has ended since this was asked last, and its attempt not with a success.
fn one_failed(shared: &Shared, running: &mut BTreeMap<AttemptId, Arc<Attempt>>) -> bool {
    let mut failed = false;
    running.retain(|_, attempt| {
        let has_exited = attempt.has_exited();
        failed |= has_exited && attempt.result().is_none_or(|result| result.failure.is_some());
        !has_exited
    });
    let all = shared.attempts.all().into_iter();
    running.extend(all.filter(|attempt| !attempt.has_exited()).map(|attempt| (attempt.id, attempt)));
    failed
}

/// Whether a runner has this attempt. The lock says so, whoever started the runner and whenever.
fn lives(shared: &Shared, attempt: AttemptId) -> bool {
    match AttemptDir::at(shared.layout.attempts().join(attempt.file_name())).try_lock() {
        Ok(free) => free.is_none(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Looks at the whole cache, but only when it has grown.
async fn bound_cache(shared: &Shared, looked_at: &mut Option<std::time::SystemTime>) {
    let limit = shared.config.cache_bytes;
    let evicted = Cache::open(shared.layout.cache()).map(|cache| (cache.grown_at(), cache));
    let evicted = match evicted {
        Ok((grown_at, _)) if grown_at == *looked_at => return,
        Ok((grown_at, cache)) => tokio::task::spawn_blocking(move || cache.evict(limit))
            .await
            .unwrap_or_else(|panic| Err(io::Error::other(panic)))
            .inspect(|evicted| {
                // While a context is being brought nothing was looked at.
                if evicted.is_some() {
                    *looked_at = grown_at;
                }
            }),
        Err(error) => Err(error),
    };
    match evicted {
        Ok(Some(evicted)) if evicted.blobs > 0 => tracing::info!(
            contexts = evicted.contexts,
            blobs = evicted.blobs,
            bytes = evicted.bytes,
            "made room in the cache of contexts"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot bound the cache of contexts"),
    }
}

/// When the disk is close to the point where no lease is taken, the Engine's build cache has to give.
async fn relieve_disk(shared: &Shared) {
    let Ok(free) = machine::free_bytes(shared.layout.root()) else { return };
    if free >= shared.config.min_free_bytes {
        return;
    }
    match shared.engine.prune(KEEP_BUILD_CACHE_BYTES).await {
        Ok(bytes) => tracing::info!(free, bytes, "the disk is nearly full: pruned the Engine's build cache"),
        Err(error) => tracing::warn!(free, %error, "the disk is nearly full"),
    }
}
