//! A candidate's images, from the repository where they wait to those of their new tags.
//!
//! First all of it is looked for where it waits, index, manifests, configs and layers; only then is anything brought anywhere.
//! Doing it again brings what is not there yet.

use std::collections::BTreeMap;

use archyard_model::build::PushedManifest;
use archyard_model::{Platform, Reference, Sha256, limits};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;

use super::failure;
use super::publisher::{Failed, pinned};
use crate::core::heritage::Promotion;
use crate::registry::{Cause, Registry};

/// Blobs that are looked for at a time.
const ASKED_AT_ONCE: usize = 8;
/// Blobs that are brought at a time.
const BROUGHT_AT_ONCE: usize = 4;

/// One image where it waits.
struct Waiting {
    platform: Platform,
    at: Reference,
    digest: Sha256,
    bytes: Bytes,
    media_type: String,
    blobs: Vec<Blob>,
}

/// The parts of a manifest that this needs.
#[derive(Deserialize)]
struct Document {
    config: Blob,
    layers: Vec<Blob>,
}

/// A config or a layer.
#[derive(Deserialize, Clone)]
struct Blob {
    digest: Sha256,
    size: u64,
}

/// Brings everything to all of these repositories.
pub(super) async fn bring(
    registry: &Registry,
    promotion: &Promotion,
    images: &[(Platform, PushedManifest)],
    names: &[String],
) -> Result<(), Failed> {
    let staging = promotion.staging.as_str();
    look_for_index(registry, staging, promotion.index.0).await?;
    let looked_for: Vec<_> =
        images.iter().map(|(platform, manifest)| look_for(registry, staging, platform, manifest)).collect();
    let waiting: Vec<Waiting> =
        futures_util::stream::iter(looked_for).buffered(ASKED_AT_ONCE).try_collect().await?;
    let blobs: BTreeMap<Sha256, (&Waiting, u64)> = waiting
        .iter()
        .flat_map(|image| image.blobs.iter().map(move |blob| (blob.digest, (image, blob.size))))
        .collect();
    let checks: Vec<_> =
        blobs.iter().map(|(digest, (image, _))| is_there(registry, staging, image, *digest)).collect();
    futures_util::stream::iter(checks).buffer_unordered(ASKED_AT_ONCE).try_collect::<()>().await?;
    let mut holders = vec![staging];
    for name in names.iter().filter(|name| *name != staging) {
        let lenders: Vec<&str> =
            holders.iter().copied().filter(|holder| host(holder) == host(name)).collect();
        let moves: Vec<_> = blobs
            .iter()
            .map(|(digest, (image, size))| bring_blob(registry, image, &lenders, name, *digest, *size))
            .collect();
        all_of(futures_util::stream::iter(moves).buffer_unordered(BROUGHT_AT_ONCE)).await?;
        for image in &waiting {
            let to = pinned(name, image.digest)?;
            registry
                .put_as(&to, image.bytes.clone(), &image.media_type)
                .await
                .map_err(|error| failure::of_registry("push", &to, &error))?;
        }
        holders.push(name);
    }
    Ok(())
}

/// Everything, or why not. What cannot succeed later ends it at once; else what is on its way arrives first, so that
/// another try need not bring it again.
async fn all_of(mut brought: impl Stream<Item = Result<(), Failed>> + Unpin) -> Result<(), Failed> {
    let mut failed = None;
    while let Some(one) = brought.next().await {
        match one {
            Err(error) if !error.retryable => return Err(error),
            Err(error) => failed = failed.or(Some(error)),
            Ok(()) => {}
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The registry of a repository.
fn host(name: &str) -> &str {
    name.split_once('/').map_or(name, |(host, _)| host)
}

/// Who removed the index alone withdrew the candidate, though it could be made again.
async fn look_for_index(registry: &Registry, staging: &str, digest: Sha256) -> Result<(), Failed> {
    let at = pinned(staging, digest)?;
    match registry.manifest(&at).await {
        Ok(_) => Ok(()),
        Err(error) if error.cause == Cause::NotFound => {
            Err(failure::of_candidate(&format!("its index {digest}"), staging))
        }
        Err(error) => Err(failure::of_registry("look for", &at, &error)),
    }
}

async fn look_for(
    registry: &Registry,
    staging: &str,
    platform: &Platform,
    manifest: &PushedManifest,
) -> Result<Waiting, Failed> {
    let at = pinned(staging, manifest.digest)?;
    let found = match registry.manifest(&at).await {
        Ok(found) => found,
        Err(error) if error.cause == Cause::NotFound => {
            let what = format!("manifest {} of {platform}", manifest.digest);
            return Err(failure::of_candidate(&what, staging));
        }
        Err(error) => return Err(failure::of_registry("look for", &at, &error)),
    };
    if let Some(problem) = failure::mismatch(manifest, found.bytes.len() as u64, &found.media_type) {
        return Err(failure::of_manifest(platform, &at, &problem));
    }
    let document: Document = serde_json::from_slice(&found.bytes)
        .map_err(|error| failure::of_manifest(platform, &at, &format!("is no image manifest ({error})")))?;
    if document.layers.len() > limits::ARTIFACTS {
        let problem = format!("has {} layers, more than {}", document.layers.len(), limits::ARTIFACTS);
        return Err(failure::of_manifest(platform, &at, &problem));
    }
    let mut blobs = vec![document.config];
    blobs.extend(document.layers);
    Ok(Waiting {
        platform: platform.clone(),
        at,
        digest: manifest.digest,
        bytes: found.bytes,
        media_type: found.media_type,
        blobs,
    })
}

async fn is_there(registry: &Registry, staging: &str, image: &Waiting, digest: Sha256) -> Result<(), Failed> {
    match registry.has_blob(&image.at, digest).await {
        Ok(true) => Ok(()),
        Ok(false) => {
            let what = format!("blob {digest} of manifest {} of {}", image.digest, image.platform);
            Err(failure::of_candidate(&what, staging))
        }
        Err(error) => Err(failure::of_registry("look for a layer of", &image.at, &error)),
    }
}

/// `lenders`: repositories of the same registry that have it.
async fn bring_blob(
    registry: &Registry,
    image: &Waiting,
    lenders: &[&str],
    name: &str,
    digest: Sha256,
    size: u64,
) -> Result<(), Failed> {
    let to = pinned(name, image.digest)?;
    let failed = |error| failure::of_registry("push", &to, &error);
    if registry.has_blob(&to, digest).await.map_err(failed)? {
        return Ok(());
    }
    for lender in lenders {
        if registry.mount(&pinned(lender, image.digest)?, &to, digest).await.map_err(failed)? {
            return Ok(());
        }
    }
    let copied = registry.copy(&image.at, &to, digest, size).await;
    copied.map_err(|error| failure::of_copy(&image.at, &to, &error))
}
