//! The JSON in an archive, and the way from the Engine's name of an image to its config.
//!
//! An Engine with the containerd store names an image by its manifest, or by an index where attestations lie
//! beside it; others by its config. The way is followed by digest, never by what an archive says of itself.

use std::collections::BTreeMap;
use std::io::Read;

use archyard_model::Sha256;
use serde::Deserialize;

use super::blame::Error;

/// A config, or a list, is read whole; a real one is some KiB.
const DOCUMENT_BYTES: u64 = 8 * 1024 * 1024;
/// All of an archive's that are held at a time. What is too much is not kept: then the way may end.
const TOTAL_BYTES: u64 = 16 * 1024 * 1024;
/// An index, a manifest and a config.
const STEPS: usize = 3;

/// Small documents by their digests.
#[derive(Debug, Default)]
pub(super) struct Lists {
    documents: BTreeMap<Sha256, Vec<u8>>,
    bytes: u64,
}

/// As much of any of them as tells what it is, and where the way goes on.
#[derive(Deserialize)]
struct Document {
    /// A config's.
    rootfs: Option<serde::de::IgnoredAny>,
    /// An index's.
    manifests: Option<Vec<Descriptor>>,
    /// A manifest's; what a config calls so has no digest.
    config: Option<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Option<Sha256>,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Platform {
    os: Option<String>,
}

impl Descriptor {
    /// Whether it says something about an image, rather than being one.
    fn is_attestation(&self) -> bool {
        self.annotations.get("vnd.docker.reference.type").is_some_and(|kind| kind == "attestation-manifest")
            || self.platform.as_ref().and_then(|platform| platform.os.as_deref()) == Some("unknown")
    }
}

impl Lists {
    /// Reads a document of this digest.
    pub(super) fn keep(&mut self, digest: Sha256, size: u64, document: impl Read) -> Result<(), Error> {
        if size > DOCUMENT_BYTES || self.bytes + size > TOTAL_BYTES {
            return Ok(());
        }
        let mut bytes = Vec::new();
        document.take(DOCUMENT_BYTES).read_to_end(&mut bytes).map_err(Error::read)?;
        if Sha256::of(&bytes) != digest {
            return Err(Error::Archive(format!("the content of {digest} is not what its name says")));
        }
        self.bytes += size;
        self.documents.insert(digest, bytes);
        Ok(())
    }

    /// The config of the image that the Engine calls `image`, and its digest.
    pub(super) fn config(&self, image: Sha256) -> Result<(Sha256, &[u8]), Error> {
        let mut digest = image;
        for _ in 0..STEPS {
            let lacks = || Error::Archive(format!("it lacks {digest}, which {image} leads to"));
            let bytes = self.documents.get(&digest).ok_or_else(lacks)?;
            let document: Document = serde_json::from_slice(bytes)
                .map_err(|error| Error::Archive(format!("{digest} cannot be read: {error}")))?;
            digest = match document {
                Document { rootfs: Some(_), .. } => return Ok((digest, bytes)),
                Document { manifests: Some(manifests), .. } => self.only_image(&manifests)?,
                Document { config: Some(Descriptor { digest: Some(config), .. }), .. } => config,
                _ => return Err(Error::Archive(format!("{digest} is neither index, manifest nor config"))),
            };
        }
        Err(Error::Archive(format!("{image} leads to no config")))
    }

    /// The manifest of an index that is an image and is here: an archive has but one platform's.
    fn only_image(&self, manifests: &[Descriptor]) -> Result<Sha256, Error> {
        let images = manifests.iter().filter(|one| !one.is_attestation()).filter_map(|one| one.digest);
        let mut images = images.filter(|digest| self.documents.contains_key(digest));
        match (images.next(), images.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(Error::Archive("its index names no image that it holds".to_owned())),
            (Some(_), Some(_)) => Err(Error::Archive("its index names several platforms' images".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"os":"linux","config":{"Cmd":["x"]},"rootfs":{"diff_ids":[]}}"#;

    /// The documents, and their digests.
    fn lists<const N: usize>(documents: [&str; N]) -> (Lists, [Sha256; N]) {
        let mut lists = Lists::default();
        let digests = documents.map(|document| Sha256::of(document.as_bytes()));
        for (document, digest) in documents.iter().zip(digests) {
            lists.keep(digest, document.len() as u64, document.as_bytes()).unwrap();
        }
        (lists, digests)
    }

    fn manifest(config: &str) -> String {
        format!(r#"{{"config":{{"digest":"{}"}},"layers":[]}}"#, Sha256::of(config.as_bytes()))
    }

    fn index(entries: &[String]) -> String {
        format!(r#"{{"manifests":[{}]}}"#, entries.join(","))
    }

    fn entry(manifest: &str, more: &str) -> String {
        format!(r#"{{"digest":"{}"{more}}}"#, Sha256::of(manifest.as_bytes()))
    }

    #[test]
    fn a_config_is_found_whatever_the_engine_calls_its_image() {
        let manifest = manifest(CONFIG);
        let (lists, [config, by_manifest]) = lists([CONFIG, &manifest]);
        for image in [config, by_manifest] {
            assert_eq!(lists.config(image).unwrap(), (config, CONFIG.as_bytes()));
        }
    }

    #[test]
    fn attestations_do_not_pass_for_the_image() {
        let (image, proof) = (manifest(CONFIG), manifest("{}"));
        let attested = [
            r#","annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#,
            r#","platform":{"os":"unknown","architecture":"unknown"}"#,
        ];
        for more in attested {
            let other = manifest("elsewhere");
            let index = index(&[entry(&proof, more), entry(&other, ""), entry(&image, "")]);
            let (lists, [config, _, _, _, by_index]) = lists([CONFIG, &image, "{}", &proof, &index]);
            assert_eq!(lists.config(by_index).unwrap().0, config);
        }
    }

    #[test]
    fn a_way_that_ends_or_parts_is_refused() {
        let (one, two) = (manifest(CONFIG), manifest("{}"));
        let both = index(&[entry(&one, ""), entry(&two, "")]);
        let lacking = manifest("not here");
        let deep = index(&[entry(&both, "")]);
        let deeper = index(&[entry(&deep, "")]);
        let documents =
            [CONFIG, &one, &two, &both, &lacking, "{}", "[]", r#"{"manifests":[]}"#, &deep, &deeper];
        let (lists, digests) = lists(documents);
        for digest in &digests[3..] {
            let error = lists.config(*digest).unwrap_err();
            assert!(matches!(error, Error::Archive(_)), "{error}");
        }
        assert!(lists.config(Sha256::of(b"nowhere")).is_err());
    }

    #[test]
    fn a_lie_is_refused_and_what_is_too_large_not_held() {
        let mut lists = Lists::default();
        assert!(lists.keep(Sha256::of(b"{}"), 3, &b"{ }"[..]).is_err());
        lists.keep(Sha256::of(b"{}"), DOCUMENT_BYTES + 1, &b"{}"[..]).unwrap();
        assert!(lists.documents.is_empty());
    }
}
