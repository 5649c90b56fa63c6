//! One publishing, start to end.

use std::future::Future;

use archyard_model::build::PushedManifest;
use archyard_model::{BuildId, Failure, INDEX_MEDIA_TYPE, Index, Platform, Reference, Sha256};
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{failure, promote};
use crate::core::PublishOrder;
use crate::registry::{Cause, Registry};

/// Manifests that are verified at a time.
const AT_ONCE: usize = 8;

/// Why publishing did not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// For people.
    pub failure: Failure,
    /// The same may succeed later.
    pub retryable: bool,
}

/// Who journals what was done, before more is done. `false`: this build publishes no more; stop, quietly.
pub trait Ledger: Sync {
    /// The index's bytes are known and every manifest is verified.
    fn prepared(&self, build: BuildId, index: Sha256, size: u64) -> impl Future<Output = bool> + Send;
    /// One tag names the index.
    fn moved(&self, build: BuildId, tag: Reference) -> impl Future<Output = bool> + Send;
}

/// Verifies, pushes the index by digest, moves the tags one by one. `Ok(false)`: the ledger said to stop.
pub async fn publish(
    registry: &Registry,
    order: &PublishOrder,
    ledger: &impl Ledger,
) -> Result<bool, Failed> {
    let names = order.plan.repositories();
    let index = Index::of(&order.plan, &order.images, &order.cross)
        .map_err(|error| failure::of_index(&error.to_string()))?;
    if order.index.is_some_and(|journaled| journaled != (index.digest, index.size())) {
        return Err(failure::of_index("its bytes differ from those of an earlier try"));
    }
    if let Some(promotion) = &order.promotion {
        if promotion.index != (index.digest, index.size()) {
            return Err(failure::of_index("its bytes differ from those of the candidate"));
        }
        promote::bring(registry, promotion, &order.images, &names).await?;
    }
    verify(registry, order, &names).await?;
    if !ledger.prepared(order.build, index.digest, index.size()).await {
        return Ok(false);
    }
    for name in &names {
        let by_digest = pinned(name, index.digest)?;
        registry
            .put(&by_digest, index.bytes.clone(), INDEX_MEDIA_TYPE)
            .await
            .map_err(|error| failure::of_registry("push", &by_digest, &error))?;
    }
    for tag in &order.tags {
        move_tag(registry, tag, &index).await?;
        tracing::info!(build = %order.build, %tag, index = %index.digest, "tag moved");
        if !ledger.moved(order.build, tag.clone()).await {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Content of a repository, by digest alone.
pub(super) fn pinned(name: &str, digest: Sha256) -> Result<Reference, Failed> {
    format!("{name}@{digest}")
        .parse()
        .map_err(|error: archyard_model::Invalid| failure::of_index(&error.to_string()))
}

/// Whether every platform's manifest is in every repository, as its worker said.
async fn verify(registry: &Registry, order: &PublishOrder, names: &[String]) -> Result<(), Failed> {
    let wanted = names.iter().flat_map(|name| order.images.iter().map(move |image| (name, image)));
    let checks: Vec<_> =
        wanted.map(|(name, (platform, manifest))| verify_one(registry, name, platform, manifest)).collect();
    futures_util::stream::iter(checks).buffer_unordered(AT_ONCE).try_collect().await
}

async fn verify_one(
    registry: &Registry,
    name: &str,
    platform: &Platform,
    manifest: &PushedManifest,
) -> Result<(), Failed> {
    let image = pinned(name, manifest.digest)?;
    let found = match registry.manifest(&image).await {
        Ok(found) => found,
        Err(error) if error.cause == Cause::NotFound => {
            return Err(failure::of_manifest(platform, &image, "is not there"));
        }
        Err(error) => return Err(failure::of_registry("verify", &image, &error)),
    };
    match failure::mismatch(manifest, found.bytes.len() as u64, &found.media_type) {
        Some(problem) => Err(failure::of_manifest(platform, &image, &problem)),
        None => Ok(()),
    }
}

async fn move_tag(registry: &Registry, tag: &Reference, index: &Index) -> Result<(), Failed> {
    let failed = |error| failure::of_registry("move", tag, &error);
    registry.put(tag, index.bytes.clone(), INDEX_MEDIA_TYPE).await.map_err(failed)?;
    let found = registry.manifest(tag).await.map_err(failed)?;
    if found.digest == index.digest { Ok(()) } else { Err(failure::of_tag(tag)) }
}
