//! The OCI index over all platforms of a build.

use archyard_model::build::PushedManifest;
use archyard_model::{Platform, Sha256};
use bytes::Bytes;
use oci_spec::image::{
    Arch, Descriptor, ImageIndexBuilder, MediaType, Os, Platform as OciPlatform, PlatformBuilder,
    SCHEMA_VERSION, Sha256Digest,
};
use sha2::Digest as _;

/// What it is pushed as.
pub const MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// An index: the same images in the same order give the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Of its bytes.
    pub digest: Sha256,
    /// What is pushed.
    pub bytes: Bytes,
}

impl Index {
    /// The index over these images, in their order.
    pub fn of(images: &[(Platform, PushedManifest)]) -> Result<Self, oci_spec::OciSpecError> {
        let manifests = images.iter().map(descriptor).collect::<Result<Vec<_>, _>>()?;
        let index = ImageIndexBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageIndex)
            .manifests(manifests)
            .build()?;
        // Fields in the order of the type, no maps: nothing here can come out in another order.
        let bytes = serde_json::to_vec(&index).map_err(oci_spec::OciSpecError::from)?;
        let digest = Sha256::from_bytes(sha2::Sha256::digest(&bytes).into());
        Ok(Self { digest, bytes: bytes.into() })
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

fn descriptor(
    (platform, manifest): &(Platform, PushedManifest),
) -> Result<Descriptor, oci_spec::OciSpecError> {
    let digest: Sha256Digest = manifest.digest.hex().parse()?;
    let mut descriptor =
        Descriptor::new(MediaType::from(manifest.media_type.as_str()), manifest.size, digest);
    descriptor.set_platform(Some(oci_platform(platform)?));
    Ok(descriptor)
}

fn oci_platform(platform: &Platform) -> Result<OciPlatform, oci_spec::OciSpecError> {
    let builder = PlatformBuilder::default()
        .os(Os::from(platform.os()))
        .architecture(Arch::from(platform.architecture()));
    match platform.variant() {
        Some(variant) => builder.variant(variant).build(),
        None => builder.build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(platform: &str, byte: u8) -> (Platform, PushedManifest) {
        let manifest = PushedManifest {
            digest: Sha256::from_bytes([byte; 32]),
            size: 500 + u64::from(byte),
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        };
        (platform.parse().unwrap(), manifest)
    }

    #[test]
    fn the_same_images_give_the_same_bytes() {
        let images = [image("linux/amd64", 1), image("linux/arm/v7", 2)];
        let index = Index::of(&images).unwrap();
        assert_eq!(index, Index::of(&images).unwrap());
        assert_ne!(index, Index::of(&[images[1].clone(), images[0].clone()]).unwrap(), "order is the plan's");
        let ones = "01".repeat(32);
        let twos = "02".repeat(32);
        assert_eq!(
            std::str::from_utf8(&index.bytes).unwrap(),
            format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{ones}","size":501,"platform":{{"architecture":"amd64","os":"linux"}}}},{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{twos}","size":502,"platform":{{"architecture":"arm","os":"linux","variant":"v7"}}}}]}}"#
            )
        );
    }
}
