//! The OCI index over all platforms of a build.
//!
//! Here because two sides make it and must agree to the byte: the scheduler pushes it, and a client writes it into the
//! archive that it was asked for. Nothing here pushes or writes anything.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::build::PushedManifest;
use crate::{AnnotationLevel, Plan, Platform, Sha256};

/// On an entry: the platform of the machine it was built on, where that is not its own. On the index: the platforms of
/// all such entries. Whatever a plan's own annotations say under this name gives way to it.
pub const CROSS_ANNOTATION: &str = "archyard.cross";
/// What it is pushed as.
pub const INDEX_MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// An index: the same plan and images in the same order give the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Of its bytes.
    pub digest: Sha256,
    /// What is pushed.
    pub bytes: Bytes,
}

/// Fields in the order of the specification, maps sorted: nothing here can come out in another order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema_version: u8,
    media_type: &'a str,
    manifests: Vec<Descriptor<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'a str,
    digest: Sha256,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    platform: OciPlatform<'a>,
}

#[derive(Serialize)]
struct OciPlatform<'a> {
    architecture: &'a str,
    os: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
}

impl Index {
    /// The index over these images, in their order, with the plan's annotations. `cross`: of those that were built on a
    /// machine of another platform, that machine's.
    ///
    /// # Errors
    /// None that is known of: those of the JSON library.
    pub fn of(
        plan: &Plan,
        images: &[(Platform, PushedManifest)],
        cross: &BTreeMap<Platform, Platform>,
    ) -> Result<Self, serde_json::Error> {
        let mut annotations = plan.annotations(AnnotationLevel::Index, None);
        let crossed: Vec<String> = images
            .iter()
            .filter(|(platform, _)| cross.contains_key(platform))
            .map(|(platform, _)| platform.to_string())
            .collect();
        if !crossed.is_empty() {
            annotations.insert(CROSS_ANNOTATION.to_owned(), crossed.join(","));
        }
        let document = Document {
            schema_version: 2,
            media_type: INDEX_MEDIA_TYPE,
            manifests: images
                .iter()
                .map(|(platform, manifest)| descriptor(plan, platform, manifest, cross.get(platform)))
                .collect(),
            annotations,
        };
        let bytes = serde_json::to_vec(&document)?;
        Ok(Self { digest: Sha256::of(&bytes), bytes: bytes.into() })
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

fn descriptor<'a>(
    plan: &Plan,
    platform: &'a Platform,
    manifest: &'a PushedManifest,
    cross: Option<&Platform>,
) -> Descriptor<'a> {
    let mut annotations = plan.annotations(AnnotationLevel::ManifestDescriptor, Some(platform));
    annotations.extend(cross.map(|builder| (CROSS_ANNOTATION.to_owned(), builder.to_string())));
    Descriptor {
        media_type: &manifest.media_type,
        digest: manifest.digest,
        size: manifest.size,
        annotations,
        platform: OciPlatform {
            architecture: platform.architecture(),
            os: platform.os(),
            variant: platform.variant(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Annotation;
    use crate::plan::tests::plan;

    fn image(platform: &str, byte: u8) -> (Platform, PushedManifest) {
        let manifest = PushedManifest {
            digest: Sha256::from_bytes([byte; 32]),
            size: 500 + u64::from(byte),
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        };
        (platform.parse().unwrap(), manifest)
    }

    fn of(plan: &Plan, images: &[(Platform, PushedManifest)]) -> Result<Index, serde_json::Error> {
        Index::of(plan, images, &BTreeMap::new())
    }

    #[test]
    fn the_same_images_give_the_same_bytes() {
        let plan = Plan { annotations: Vec::new(), ..plan() };
        let images = [image("linux/amd64", 1), image("linux/arm/v7", 2)];
        let index = of(&plan, &images).unwrap();
        assert_eq!(index, of(&plan, &images).unwrap());
        let turned = [images[1].clone(), images[0].clone()];
        assert_ne!(index, of(&plan, &turned).unwrap(), "order is the plan's");
        let ones = "01".repeat(32);
        let twos = "02".repeat(32);
        assert_eq!(
            std::str::from_utf8(&index.bytes).unwrap(),
            format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{ones}","size":501,"platform":{{"architecture":"amd64","os":"linux"}}}},{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{twos}","size":502,"platform":{{"architecture":"arm","os":"linux","variant":"v7"}}}}]}}"#
            )
        );
    }

    #[test]
    fn annotations_lie_where_they_were_asked_for_in_the_order_of_their_names() {
        let annotation = |level, key: &str| Annotation {
            level,
            platform: None,
            key: key.to_owned(),
            value: "v".to_owned(),
        };
        let annotations = vec![
            annotation(AnnotationLevel::Index, "z"),
            annotation(AnnotationLevel::Index, "a"),
            annotation(AnnotationLevel::ManifestDescriptor, "entry"),
            annotation(AnnotationLevel::Manifest, "manifest"),
        ];
        let plan = Plan { annotations, ..plan() };
        let index = of(&plan, &[image("linux/amd64", 1)]).unwrap();
        let text = std::str::from_utf8(&index.bytes).unwrap();
        assert!(text.ends_with(r#","annotations":{"a":"v","z":"v"}}"#), "{text}");
        assert!(text.contains(r#""size":501,"annotations":{"entry":"v"},"platform""#), "{text}");
        assert!(!text.contains(r#""manifest":"v""#), "{text}");
    }

    #[test]
    fn what_was_built_elsewhere_is_said_whatever_the_plan_says() {
        let annotations = vec![Annotation {
            level: AnnotationLevel::Index,
            platform: None,
            key: CROSS_ANNOTATION.to_owned(),
            value: "nothing".to_owned(),
        }];
        let plan = Plan { annotations, ..plan() };
        let images = [image("linux/amd64", 1), image("linux/arm64", 2), image("linux/riscv64", 3)];
        let builder: Platform = "linux/amd64".parse().unwrap();
        let cross = images[1..].iter().map(|(platform, _)| (platform.clone(), builder.clone())).collect();
        let index = Index::of(&plan, &images, &cross).unwrap();
        let text = std::str::from_utf8(&index.bytes).unwrap();
        assert!(
            text.ends_with(r#","annotations":{"archyard.cross":"linux/arm64,linux/riscv64"}}"#),
            "{text}"
        );
        let entry = r#""annotations":{"archyard.cross":"linux/amd64"},"platform""#;
        assert_eq!(text.matches(entry).count(), 2, "{text}");
    }
}
