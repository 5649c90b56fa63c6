//! The OCI manifest of an image: the same bytes for the same image, wherever it is made.

use std::collections::BTreeMap;

use archyard_model::Sha256;
use archyard_model::build::PushedManifest;
use oci_spec::image::{Descriptor, ImageManifest, ImageManifestBuilder, MediaType, SCHEMA_VERSION};
use serde::Serialize;

use super::blame::Error;
use super::cache::{Image, Layer};
use crate::engine::{PushError, Taken, TakenLayer};

/// What registries are told it is.
pub(super) const MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A manifest as it is pushed.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) digest: Sha256,
    pub(super) bytes: Vec<u8>,
}

/// A manifest whose annotations are in the order of their names: the crate's own come in any.
#[derive(Serialize)]
struct Annotated<'a> {
    #[serde(flatten)]
    manifest: &'a ImageManifest,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl Manifest {
    pub(super) fn of(image: &Image, annotations: &BTreeMap<String, String>) -> Result<Self, Error> {
        let descriptor = |kind, digest: Sha256, size| {
            let digest: oci_spec::image::Digest = digest.to_string().parse().map_err(wrong)?;
            Ok(Descriptor::new(kind, size, digest))
        };
        let layers = image.layers.iter();
        let layers =
            layers.map(|layer| descriptor(MediaType::ImageLayerGzip, layer.digest, layer.size_bytes));
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(descriptor(MediaType::ImageConfig, image.config_digest, image.config.len() as u64)?)
            .layers(layers.collect::<Result<Vec<_>, Error>>()?)
            .build()
            .map_err(wrong)?;
        let bytes = serde_json::to_vec(&Annotated { manifest: &manifest, annotations }).map_err(wrong)?;
        Ok(Self { digest: Sha256::of(&bytes), bytes })
    }
}

impl Taken {
    /// The manifest that a push of this image with these annotations would leave in a registry, and its bytes.
    ///
    /// # Errors
    /// When the image's own parts make none.
    pub fn manifest(
        &self,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(PushedManifest, Vec<u8>), PushError> {
        let layer = |layer: &TakenLayer| Layer {
            diff_id: layer.diff_id,
            digest: layer.digest,
            size_bytes: layer.size_bytes,
        };
        let image = Image {
            config_digest: self.config_digest,
            config: self.config.clone(),
            layers: self.layers.iter().map(layer).collect(),
        };
        let Manifest { digest, bytes } = Manifest::of(&image, annotations).map_err(|error| error.blame())?;
        let manifest = PushedManifest { digest, size: bytes.len() as u64, media_type: MEDIA_TYPE.to_owned() };
        Ok((manifest, bytes))
    }
}

fn wrong(error: impl std::fmt::Display) -> Error {
    Error::Archive(format!("no manifest can be made of it: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &str = concat!(
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
        r#""config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"CONFIG","size":2},"#,
        r#""layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"LAYER","size":2}]"#
    );

    fn manifest(annotations: &[(&str, &str)]) -> String {
        let layer = Layer { diff_id: Sha256::of(b"raw"), digest: Sha256::of(b"gz"), size_bytes: 2 };
        let image = Image { config_digest: Sha256::of(b"{}"), config: b"{}".to_vec(), layers: vec![layer] };
        let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let bytes = Manifest::of(&image, &annotations.collect()).unwrap().bytes;
        let text = String::from_utf8(bytes).unwrap();
        text.replace(&Sha256::of(b"{}").to_string(), "CONFIG")
            .replace(&Sha256::of(b"gz").to_string(), "LAYER")
    }

    #[test]
    fn is_oci_and_always_the_same() {
        assert_eq!(manifest(&[]), format!("{BARE}}}"));
    }

    #[test]
    fn annotations_come_in_the_order_of_their_names() {
        let names: Vec<String> = (0..10).rev().map(|number| format!("n{number}")).collect();
        let given: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        let want: Vec<String> = names.iter().rev().map(|name| format!(r#""{name}":"v""#)).collect();
        assert_eq!(manifest(&given), format!(r#"{BARE},"annotations":{{{}}}}}"#, want.join(",")));
    }
}
