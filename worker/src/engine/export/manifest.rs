//! The OCI manifest of an image: the same bytes for the same image, wherever it is made.

use archyard_model::Sha256;
use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType, SCHEMA_VERSION};

use super::blame::Error;
use super::cache::{Image, sha256};

/// What registries are told it is.
pub(super) const MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A manifest as it is pushed.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) digest: Sha256,
    pub(super) bytes: Vec<u8>,
}

impl Manifest {
    pub(super) fn of(image: &Image) -> Result<Self, Error> {
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
            .config(descriptor(MediaType::ImageConfig, image.id, image.config.len() as u64)?)
            .layers(layers.collect::<Result<Vec<_>, Error>>()?)
            .build()
            .map_err(wrong)?;
        let bytes = serde_json::to_vec(&manifest).map_err(wrong)?;
        Ok(Self { digest: sha256(&bytes), bytes })
    }
}

fn wrong(error: impl std::fmt::Display) -> Error {
    Error::Archive(format!("no manifest can be made of it: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::cache::Layer;
    use super::*;

    #[test]
    fn is_oci_and_always_the_same() {
        let layer = Layer { diff_id: sha256(b"raw"), digest: sha256(b"gz"), size_bytes: 2 };
        let image = Image { id: sha256(b"{}"), config: b"{}".to_vec(), layers: vec![layer] };
        let want = format!(
            concat!(
                r#"{{"schemaVersion":2,"mediaType":"{}","#,
                r#""config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":2}},"#,
                r#""layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":2}}]}}"#
            ),
            MEDIA_TYPE,
            sha256(b"{}"),
            sha256(b"gz"),
        );
        assert_eq!(String::from_utf8(Manifest::of(&image).unwrap().bytes).unwrap(), want);
    }
}
