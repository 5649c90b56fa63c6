//! The archive that an Engine gives of an image: layers, a config, and lists that say which is which.
//!
//! Before Engine 25 layers lie uncompressed in folders of any name and order; since then it is an OCI layout, where
//! every blob is named by its digest, and with the containerd store its layers are compressed as the store has
//! them. It is read as it comes, once. Which layer is which is told by its own digest, not by the lists at the end.

use std::io::{self, Read};
use std::sync::Arc;

use archyard_model::Sha256;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::task::spawn_blocking;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

use super::blame::Error;
use super::blob;
use super::cache::Cache;
use super::layer::{Known, Reading};
use super::lists::Lists;
use super::observe::Observer;

/// What reading an archive gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// The config's digest.
    pub(super) config: Sha256,
    pub(super) read_bytes: u64,
    pub(super) compressed_layers: u32,
}

/// Where what an archive holds goes.
#[derive(Clone)]
pub(super) struct Into {
    pub(super) cache: Cache,
    pub(super) compress: bool,
    pub(super) observer: Option<Arc<dyn Observer>>,
}

/// Takes an image's config and layers into the cache.
pub(super) async fn take(engine: &bollard::Docker, image: Sha256, into: &Into) -> Result<Unpacked, Error> {
    match read(engine.export_image(&image.to_string()), image, into.clone(), true).await? {
        Some(unpacked) => Ok(unpacked),
        // A layer was not what its beginning promised.
        None => read(engine.export_image(&image.to_string()), image, into.clone(), false)
            .await?
            .ok_or_else(|| Error::Archive("its layers changed while they were read".to_owned())),
    }
}

async fn read(
    archive: impl Stream<Item = Result<Bytes, bollard::errors::Error>> + Send + 'static,
    image: Sha256,
    into: Into,
    guess: bool,
) -> Result<Option<Unpacked>, Error> {
    // When the caller goes, the reading thread finds the archive at its end.
    let stop = CancellationToken::new();
    let archive = Box::pin(archive.map_err(io::Error::other).take_until(stop.clone().cancelled_owned()));
    let _stop = stop.drop_guard();
    let bridge = SyncIoBridge::new(StreamReader::new(archive));
    let reading = spawn_blocking(move || {
        let Into { cache, compress, observer } = &into;
        let reading = Reading { cache, compress: *compress, guess, observer: observer.as_deref() };
        unpack(bridge, image, reading)
    });
    reading.await.map_err(|error| Error::Archive(format!("reading it failed: {error}")))?
}

/// `None`: a guess was wrong.
fn unpack(archive: impl Read, image: Sha256, reading: Reading<'_>) -> Result<Option<Unpacked>, Error> {
    let (mut read_bytes, mut compressed_layers, mut lists) = (0, 0, Lists::default());
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().map_err(Error::read)? {
        let entry = entry.map_err(Error::read)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let size = entry.size();
        read_bytes += size;
        let kept = match Part::of(&entry.path_bytes()) {
            Part::Document(digest) => lists.keep(digest, size, entry).map(|()| None)?,
            Part::Layer => match reading.keep(entry, Known::Size(size)).map_err(Error::read)? {
                Some(kept) => Some(kept),
                None => return Ok(None),
            },
            Part::Blob(digest) => blob::keep(entry, size, digest, reading, &mut lists)?,
            Part::Other => None,
        };
        compressed_layers += u32::from(kept.is_some_and(|kept| kept.compressed));
    }
    let (config, bytes) = lists.config(image)?;
    reading.cache.keep_config(config, bytes)?;
    reading.cache.keep_name(image, config)?;
    Ok(Some(Unpacked { config, read_bytes, compressed_layers }))
}

/// What a file of the archive is, by its name.
enum Part {
    /// A config.
    Document(Sha256),
    Layer,
    /// A layer, or a document.
    Blob(Sha256),
    Other,
}

impl Part {
    fn of(path: &[u8]) -> Self {
        let path = String::from_utf8_lossy(path);
        let digest = |hex: &str| format!("sha256:{hex}").parse().ok();
        if let Some(hex) = path.strip_prefix("blobs/sha256/") {
            return digest(hex).map_or(Self::Other, Self::Blob);
        }
        if path.ends_with("/layer.tar") {
            return Self::Layer;
        }
        path.strip_suffix(".json").and_then(digest).map_or(Self::Other, Self::Document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn take(archive: &[u8], image: Sha256, cache: &Cache) -> Result<Unpacked, Error> {
        let reading = Reading { cache, compress: true, guess: true, observer: None };
        unpack(archive, image, reading).map(Option::unwrap)
    }

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        (folder, cache)
    }

    #[test]
    fn layers_find_their_place_whatever_their_folder() {
        let (_folder, cache) = cache();
        let config = format!(
            r#"{{"rootfs":{{"type":"layers","diff_ids":["{}","{}"]}}}}"#,
            Sha256::of(b"low"),
            Sha256::of(b"high")
        );
        let id = Sha256::of(config.as_bytes());
        let name = format!("{}.json", id.hex());
        let files: [(&str, &[u8]); 5] = [
            ("a/VERSION", b"1.0"),
            ("a/layer.tar", b"high"),
            ("b/layer.tar", b"low"),
            (&name, config.as_bytes()),
            ("manifest.json", b"[]"),
        ];
        assert_eq!(take(&archive(&files), id, &cache).unwrap().compressed_layers, 2);
        let image = cache.image(id).unwrap().unwrap();
        assert_eq!(
            image.layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>(),
            [Sha256::of(b"low"), Sha256::of(b"high")]
        );
        assert_eq!(take(&archive(&files), id, &cache).unwrap().compressed_layers, 0);
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = Vec::new();
        flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()).read_to_end(&mut gzip).unwrap();
        gzip
    }

    #[test]
    fn an_oci_layout_is_the_same_image_with_and_without_containerd() {
        let layer = archive(&[("{file", b"content")]);
        let config =
            format!(r#"{{"rootfs":{{"diff_ids":["{}","{}"]}}}}"#, Sha256::of(&layer), Sha256::of(&[0; 1024]));
        let id = Sha256::of(config.as_bytes());
        let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Sha256::of(bytes).hex());
        let manifest = format!(r#"{{"config":{{"digest":"{id}"}},"layers":[]}}"#);
        let stored = (gzip(&layer), zstd::encode_all(&[0; 1024][..], 1).unwrap());
        let taken = [
            (id, [&layer[..], &[0; 1024]], b"{}".as_slice()),
            (Sha256::of(manifest.as_bytes()), [&stored.0, &stored.1], manifest.as_bytes()),
        ]
        .map(|(image, [low, high], list)| {
            let (_folder, cache) = cache();
            let names = [low, high, config.as_bytes(), list].map(blob);
            let files: [(&str, &[u8]); 5] = [
                (&names[0], low),
                (&names[1], high),
                (&names[2], config.as_bytes()),
                (&names[3], list),
                ("index.json", b"{}"),
            ];
            let unpacked = take(&archive(&files), image, &cache).unwrap();
            assert_eq!((unpacked.config, unpacked.compressed_layers), (id, 2));
            assert_eq!(take(&archive(&files), image, &cache).unwrap().compressed_layers, 0);
            cache.image(image).unwrap().unwrap()
        });
        assert_eq!(taken[0], taken[1]);
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let (_folder, cache) = cache();
        let id = Sha256::of(b"x");
        let blob = format!("blobs/sha256/{}", Sha256::of(b"y").hex());
        let lie = archive(&[(&blob, b"{}")]);
        assert!(matches!(take(&lie, id, &cache), Err(Error::Archive(_))));
        let lie = archive(&[(&format!("{}.json", id.hex()), b"y")]);
        assert!(matches!(take(&lie, id, &cache), Err(Error::Archive(_))));
        assert!(matches!(take(&archive(&[]), id, &cache), Err(Error::Archive(_))));
        assert!(take(&lie[..100], id, &cache).is_err());
    }
}
