//! As much of the registry protocol as fixtures need: push what a test made up,
//! good or bad, and look at what somebody else pushed. It checks nothing, so that
//! images that lie can be pushed; it is no client for production use.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use ureq::Body;
use ureq::http::Response;

use crate::http;
use crate::images::{Image, gzip};

/// Media type of an OCI index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an OCI manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an OCI image's configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a layer.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or index as the registry has it.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// `sha256:...` of the very bytes.
    pub digest: String,
    /// What the registry says it is.
    pub media_type: String,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The same, parsed.
    pub json: Value,
}

/// `sha256:...`
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Pushes one manifest a platform and an index over them under `tag`; returns the
/// index's digest. `registry` is `127.0.0.1:PORT`.
///
/// # Errors
/// When the registry refuses.
pub fn push_index(registry: &str, repository: &str, tag: &str, images: &[Image]) -> Result<String> {
    let mut manifests = Vec::new();
    for image in images {
        let mut descriptor = push_image(registry, repository, image)?;
        descriptor["platform"] = image.platform.json();
        manifests.push(descriptor);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    put_manifest(registry, repository, tag, INDEX, &index.to_string().into_bytes())
}

/// Pushes one image alone under `tag`, with no index; returns its digest.
///
/// # Errors
/// When the registry refuses.
pub fn push_manifest(registry: &str, repository: &str, tag: &str, image: &Image) -> Result<String> {
    let descriptor = push_image(registry, repository, image)?;
    let digest = descriptor["digest"].as_str().context("a descriptor has a digest")?;
    let manifest = get_manifest(registry, repository, digest)?;
    put_manifest(registry, repository, tag, MANIFEST, &manifest.bytes)
}

/// Pushes blobs and manifest, the latter untagged; returns its descriptor.
fn push_image(registry: &str, repository: &str, image: &Image) -> Result<Value> {
    let layer = gzip(&image.layer_tar)?;
    let mut config = image.config.clone();
    config["rootfs"] = json!({ "type": "layers", "diff_ids": [digest(&image.layer_tar)] });
    let config = config.to_string().into_bytes();
    for blob in [&layer, &config] {
        put_blob(registry, repository, blob)?;
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "size": config.len(), "digest": digest(&config) },
        "layers": [{ "mediaType": LAYER, "size": layer.len(), "digest": digest(&layer) }],
    });
    let bytes = manifest.to_string().into_bytes();
    let name = digest(&bytes);
    put_manifest(registry, repository, &name, MANIFEST, &bytes)?;
    Ok(json!({ "mediaType": MANIFEST, "size": bytes.len(), "digest": name }))
}

/// Pushes a blob unless it is there; returns its digest.
///
/// # Errors
/// When the registry refuses.
pub fn put_blob(registry: &str, repository: &str, bytes: &[u8]) -> Result<String> {
    let agent = http::agent();
    let name = digest(bytes);
    let there = agent.head(format!("http://{registry}/v2/{repository}/blobs/{name}")).call()?;
    if there.status() == 200 {
        return Ok(name);
    }
    let uploads = format!("http://{registry}/v2/{repository}/blobs/uploads/");
    let started = expect(202, &uploads, agent.post(&uploads).send_empty()?)?;
    let location = started.headers().get("location").and_then(|value| value.to_str().ok());
    let location = location.with_context(|| format!("{uploads}: no Location in the answer"))?;
    let base = if location.starts_with('/') { format!("http://{registry}") } else { String::new() };
    let separator = if location.contains('?') { '&' } else { '?' };
    let url = format!("{base}{location}{separator}digest={name}");
    expect(201, &url, agent.put(&url).header("Content-Type", "application/octet-stream").send(bytes)?)?;
    Ok(name)
}

/// Puts a manifest or index under a tag or digest; returns its digest.
///
/// # Errors
/// When the registry refuses.
pub fn put_manifest(
    registry: &str,
    repository: &str,
    reference: &str,
    media_type: &str,
    bytes: &[u8],
) -> Result<String> {
    let url = format!("http://{registry}/v2/{repository}/manifests/{reference}");
    expect(201, &url, http::agent().put(&url).header("Content-Type", media_type).send(bytes)?)?;
    Ok(digest(bytes))
}

/// The manifest or index behind a tag or digest.
///
/// # Errors
/// When it is not there.
pub fn get_manifest(registry: &str, repository: &str, reference: &str) -> Result<Manifest> {
    let url = format!("http://{registry}/v2/{repository}/manifests/{reference}");
    let mut answer = expect(200, &url, http::agent().get(&url).header("Accept", ACCEPT).call()?)?;
    let media_type =
        answer.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.to_owned();
    let bytes = answer.body_mut().read_to_vec()?;
    let json = serde_json::from_slice(&bytes).with_context(|| format!("{url} is not JSON"))?;
    Ok(Manifest { digest: digest(&bytes), media_type, bytes, json })
}

/// A blob's bytes.
///
/// # Errors
/// When it is not there.
pub fn get_blob(registry: &str, repository: &str, digest: &str) -> Result<Vec<u8>> {
    let url = format!("http://{registry}/v2/{repository}/blobs/{digest}");
    let mut answer = expect(200, &url, http::agent().get(&url).call()?)?;
    Ok(answer.body_mut().with_config().limit(1 << 30).read_to_vec()?)
}

/// Removes a manifest by digest (and with it the tags that name it).
///
/// # Errors
/// When it is not there.
pub fn delete_manifest(registry: &str, repository: &str, digest: &str) -> Result<()> {
    let url = format!("http://{registry}/v2/{repository}/manifests/{digest}");
    expect(202, &url, http::agent().delete(&url).call()?).map(drop)
}

/// Whether anything was ever sent to a repository.
///
/// # Errors
/// When the registry does not answer.
pub fn is_known(registry: &str, repository: &str) -> Result<bool> {
    let url = format!("http://{registry}/v2/{repository}/tags/list");
    Ok(http::agent().get(&url).call()?.status() != 404)
}

/// The tags of a repository, sorted; none when there is no such repository.
///
/// # Errors
/// When the registry does not answer.
pub fn tags(registry: &str, repository: &str) -> Result<Vec<String>> {
    let url = format!("http://{registry}/v2/{repository}/tags/list");
    let answer = http::agent().get(&url).call()?;
    if answer.status() == 404 {
        return Ok(Vec::new());
    }
    let json: Value = serde_json::from_slice(&expect(200, &url, answer)?.body_mut().read_to_vec()?)?;
    let names = json["tags"].as_array().into_iter().flatten();
    let mut tags: Vec<String> = names.filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
    tags.sort();
    Ok(tags)
}

fn expect(status: u16, url: &str, mut answer: Response<Body>) -> Result<Response<Body>> {
    if answer.status() != status {
        let got = answer.status();
        let said = answer.body_mut().read_to_string().unwrap_or_default();
        bail!("{url}: expected status {status}, got {got}: {}", said.trim());
    }
    Ok(answer)
}
