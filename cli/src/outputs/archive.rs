//! One archive of images that everybody reads: an OCI layout with one index over all platforms, and beside it the list
//! by which `docker load` of any Engine finds the image of one platform.
//!
//! The same build gives the same bytes: times and owners are zero, blobs come in the order of the index, each once.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use anyhow::Result;
use archyard_model::{Artifact, INDEX_MEDIA_TYPE, Index, Platform, Reference, Sha256};
use serde_json::{Value, json};

use super::left::{Image, Left};

/// What an archive holds.
#[derive(Debug)]
pub(crate) struct Archive {
    /// The index over all platforms; none in an archive for an Engine that holds images of one platform.
    pub(crate) index: Option<Index>,
    tags: Vec<Reference>,
    images: Vec<Image>,
    /// The one that `docker load` is to take.
    host: usize,
}

impl Archive {
    /// Of all platforms. `host` is the one that Engines without room for several take; else they take the first.
    pub(crate) fn of_all(left: &Left, host: Option<&Platform>) -> Result<Self> {
        let host = host.and_then(|host| position(&left.images, host)).unwrap_or_default();
        let tags = left.plan.tags.clone();
        Ok(Self { index: Some(left.index()?), tags, images: left.images.clone(), host })
    }

    /// Of one image alone.
    pub(crate) fn of_one(left: &Left, image: &Image) -> Self {
        Self { index: None, tags: left.plan.tags.clone(), images: vec![image.clone()], host: 0 }
    }

    /// The blobs that come from the farm, in the order in which they are written.
    pub(crate) fn artifacts(&self) -> Vec<Artifact> {
        let mut seen = HashSet::new();
        let all = self.images.iter().flat_map(|image| &image.result.artifacts);
        all.filter(|artifact| seen.insert(artifact.digest)).cloned().collect()
    }

    /// Writes it, with blobs as they come in. Not [finished](finish): that is for when all of them were verified.
    pub(crate) fn write<W: Write>(&self, out: W, blobs: &mut impl Read) -> io::Result<tar::Builder<W>> {
        let mut tar = tar::Builder::new(out);
        if let Some(index) = &self.index {
            file(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
            file(&mut tar, "index.json", self.index_json(index).to_string().as_bytes())?;
        }
        file(&mut tar, "manifest.json", self.manifest_json().to_string().as_bytes())?;
        for name in ["blobs/", "blobs/sha256/"] {
            let mut header = header(tar::EntryType::Directory, 0o755, 0);
            tar.append_data(&mut header, name, io::empty())?;
        }
        if let Some(index) = &self.index {
            file(&mut tar, &blob_path(index.digest), &index.bytes)?;
        }
        for artifact in self.artifacts() {
            let mut header = header(tar::EntryType::Regular, 0o644, artifact.size);
            tar.append_data(&mut header, blob_path(artifact.digest), blobs.by_ref().take(artifact.size))?;
        }
        Ok(tar)
    }

    /// One entry per tag, all of one index: containerd and skopeo go by the annotations.
    fn index_json(&self, index: &Index) -> Value {
        let descriptor = |annotations: Option<Value>| {
            let mut descriptor =
                json!({ "mediaType": INDEX_MEDIA_TYPE, "digest": index.digest, "size": index.size() });
            if let Some(annotations) = annotations {
                descriptor["annotations"] = annotations;
            }
            descriptor
        };
        let named = |tag: &Reference| {
            json!({
                "io.containerd.image.name": tag.to_string(),
                "org.opencontainers.image.ref.name": tag.tag().unwrap_or_default(),
            })
        };
        let mut manifests: Vec<Value> = self.tags.iter().map(|tag| descriptor(Some(named(tag)))).collect();
        if manifests.is_empty() {
            manifests.push(descriptor(None));
        }
        json!({ "schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": manifests })
    }

    /// As `docker save` writes it.
    fn manifest_json(&self) -> Value {
        let Some(image) = self.images.get(self.host) else { return json!([]) };
        let tags: Vec<String> = self.tags.iter().map(ToString::to_string).collect();
        let layers: Vec<String> = image.layers().iter().map(|layer| blob_path(layer.digest)).collect();
        json!([{ "Config": blob_path(image.config().digest), "RepoTags": tags, "Layers": layers }])
    }
}

/// The image for this platform, or for the same processor in another variant.
pub(crate) fn position(images: &[Image], host: &Platform) -> Option<usize> {
    let exactly = images.iter().position(|image| image.platform == *host);
    exactly.or_else(|| {
        images.iter().position(|image| {
            image.platform.os() == host.os() && image.platform.architecture() == host.architecture()
        })
    })
}

fn blob_path(digest: Sha256) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn file(tar: &mut tar::Builder<impl Write>, name: &str, content: &[u8]) -> io::Result<()> {
    tar.append_data(&mut header(tar::EntryType::Regular, 0o644, content.len() as u64), name, content)
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}
