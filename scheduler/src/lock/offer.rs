//! What a registry offers under a reference: a digest, and the platforms behind it.

use archyard_model::{Platform, Reference, Sha256};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::registry::{Error, Registry};

/// Media types of an index, OCI's and Docker's.
const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// An image as its registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    /// Of the index, or of a lone manifest.
    pub(super) digest: Sha256,
    /// Those this farm has words for, in the index's order.
    pub(super) platforms: Vec<Platform>,
    /// The digest of each image of these platforms, as the index has it; there may be several of one platform.
    pub(super) images: Vec<(Platform, String)>,
    /// No index: it serves its one platform, and Engines would take it for any.
    pub(super) lone: bool,
}

/// An index or a manifest, as far as platforms need it.
#[derive(Debug, Deserialize)]
struct Document {
    manifests: Option<Vec<Entry>>,
    config: Option<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    #[serde(default)]
    digest: String,
    platform: Option<Words>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    digest: String,
    size: u64,
}

/// A platform in an index, or in an image's config.
#[derive(Debug, Deserialize)]
struct Words {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

/// An image's config, as far as what it leaves to others.
#[derive(Debug, Deserialize)]
struct Config {
    config: Option<Settings>,
}

#[derive(Debug, Deserialize)]
struct Settings {
    #[serde(rename = "OnBuild")]
    on_build: Option<Vec<String>>,
}

impl Words {
    /// None for what this farm has no word for: attestations (`unknown/unknown`), other systems.
    fn platform(&self) -> Option<Platform> {
        Platform::new(&self.os, &self.architecture, &self.variant).ok()
    }
}

/// Asks for an image; for a lone manifest reads its config too.
pub(super) async fn of(registry: &Registry, image: &Reference) -> Result<Offer, Error> {
    let manifest = registry.manifest(image).await?;
    let mut document = document(image, &manifest.bytes)?;
    if let Some(entries) = document.manifests.take() {
        let (mut platforms, mut images) = (Vec::new(), Vec::new());
        for entry in entries.iter().filter(|entry| !entry.is_index()) {
            let Some(platform) = entry.platform.as_ref().and_then(Words::platform) else { continue };
            if !platforms.contains(&platform) {
                platforms.push(platform.clone());
            }
            images.push((platform, entry.digest.clone()));
        }
        if let Some(problem) = useless(image, &entries) {
            return Err(Error::refused(image, problem));
        }
        return Ok(Offer { digest: manifest.digest, platforms, images, lone: false });
    }
    let words: Words = config(registry, image, document).await?;
    let platforms: Vec<Platform> = words.platform().into_iter().collect();
    let images = platforms.iter().map(|platform| (platform.clone(), manifest.digest.to_string())).collect();
    Ok(Offer { digest: manifest.digest, platforms, images, lone: true })
}

/// What is wrong with an index that offers no image to anybody.
fn useless(image: &Reference, entries: &[Entry]) -> Option<String> {
    if entries.is_empty() {
        return Some("it is an empty index; push an image to it, or name another".to_owned());
    }
    if entries.iter().any(|entry| !entry.is_index() && entry.platform.is_some()) {
        return None;
    }
    Some(match entries.iter().find(|entry| entry.is_index()) {
        Some(nested) => format!(
            "it is an index that holds only other indexes; name one of those, as in {}@{}",
            image.name(),
            nested.digest
        ),
        None => "its index does not say which platforms its images are for; push it again with platforms"
            .to_owned(),
    })
}

impl Entry {
    fn is_index(&self) -> bool {
        INDEXES.contains(&self.media_type.as_str())
    }
}

/// What an image's config leaves to those that start from it: its `ONBUILD` instructions.
pub(super) async fn triggers(
    registry: &Registry,
    image: &Reference,
    manifest: &str,
) -> Result<Vec<String>, Error> {
    let manifest: Sha256 =
        manifest.parse().map_err(|_| Error::refused(image, format!("an image of digest {manifest:?}")))?;
    if let Some(known) = registry.triggers.get(&manifest) {
        return Ok(known);
    }
    let found = registry.manifest(&image.pinned(manifest)).await?;
    let document = document(image, &found.bytes)?;
    let config: Config = config(registry, image, document).await?;
    let triggers = config.config.and_then(|settings| settings.on_build).unwrap_or_default();
    registry.triggers.keep(manifest, &triggers);
    Ok(triggers)
}

fn document(image: &Reference, bytes: &[u8]) -> Result<Document, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::refused(image, error.to_string()))
}

/// The config that a manifest names, as far as somebody wants to know it.
async fn config<T: DeserializeOwned>(
    registry: &Registry,
    image: &Reference,
    manifest: Document,
) -> Result<T, Error> {
    let wrong = |detail: String| Error::refused(image, detail);
    let config = manifest.config.ok_or_else(|| wrong("a manifest without a config".to_owned()))?;
    let digest = config.digest.parse().map_err(|_| wrong(format!("a config of digest {}", config.digest)))?;
    let bytes = registry.blob(image, digest, config.size).await?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(format!("its config: {error}")))
}
