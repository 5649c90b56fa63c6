//! What an agent does now and then so that its machine's disk does not fill.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use crate::cache::Cache;
use crate::engine::Engine as _;
use crate::images::Images;
use crate::machine;

const INTERVAL: Duration = Duration::from_secs(60);
/// Of the Engine's build cache, when the disk is nearly too full to take leases.
const KEEP_BUILD_CACHE_BYTES: u64 = 10 * 1024 * 1024 * 1024;

/// Cleans up for as long as the agent lives.
pub(super) async fn run(shared: Arc<Shared>) {
    let images = Images::open(&shared.layout);
    let mut looked_at = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        match images.sweep(&shared.engine).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed images that nobody needs from the Engine"),
            Err(error) => tracing::warn!(%error, "cannot look for images that nobody needs"),
        }
        bound_cache(&shared, &mut looked_at).await;
        relieve_disk(&shared).await;
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
            .unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
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
