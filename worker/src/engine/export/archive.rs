//! The archive that Engines without the containerd store give of an image: uncompressed layers, a config, and
//! lists that say which is which. Before Engine 25 layers lie in folders of any name and order; since then it is
//! an OCI layout, where every blob is named by its digest.
//!
//! It is read as it comes, once. Which layer is which is told by its own digest, not by the lists at the end.

use std::io::{self, Read};

use archyard_model::Sha256;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::task::spawn_blocking;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

use super::blame::Error;
use super::cache::{Cache, sha256};
use super::layer;

/// A config is read whole; a real one is some KiB.
const CONFIG_BYTES: u64 = 8 * 1024 * 1024;
/// A tar's first header.
const HEADER_BYTES: u64 = 512;

/// What an archive held.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) read_bytes: u64,
    pub(super) compressed_layers: u32,
}

/// Takes an image's config and layers into the cache.
pub(super) async fn take(engine: &bollard::Docker, image: Sha256, cache: &Cache) -> Result<Taken, Error> {
    match read(engine.export_image(&image.to_string()), image, cache, true).await? {
        Some(taken) => Ok(taken),
        // A layer was not what its beginning promised.
        None => read(engine.export_image(&image.to_string()), image, cache, false)
            .await?
            .ok_or_else(|| Error::Archive("its layers changed while they were read".to_owned())),
    }
}

async fn read(
    archive: impl Stream<Item = Result<Bytes, bollard::errors::Error>> + Send + 'static,
    image: Sha256,
    cache: &Cache,
    guess: bool,
) -> Result<Option<Taken>, Error> {
    // When the caller goes, the reading thread finds the archive at its end.
    let stop = CancellationToken::new();
    let archive = Box::pin(archive.map_err(io::Error::other).take_until(stop.clone().cancelled_owned()));
    let _stop = stop.drop_guard();
    let bridge = SyncIoBridge::new(StreamReader::new(archive));
    let cache = cache.clone();
    let reading = spawn_blocking(move || unpack(bridge, image, &cache, guess));
    reading.await.map_err(|error| Error::Archive(format!("reading it failed: {error}")))?
}

/// `None`: a guess was wrong.
fn unpack(archive: impl Read, image: Sha256, cache: &Cache, guess: bool) -> Result<Option<Taken>, Error> {
    let mut taken = Taken::default();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().map_err(Error::read)? {
        let entry = entry.map_err(Error::read)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let size = entry.size();
        taken.read_bytes += size;
        let kept = match Part::of(&entry.path_bytes(), image) {
            Part::Config => keep_config(entry, image, cache)?,
            Part::Layer => {
                layer::keep(entry, size, cache, guess).map_err(Error::read)?.map(|kept| kept.compressed)
            }
            Part::Blob(digest) => keep_blob(entry, size, digest, cache)?,
            Part::Other => Some(false),
        };
        match kept {
            Some(compressed) => taken.compressed_layers += u32::from(compressed),
            None => return Ok(None),
        }
    }
    Ok(Some(taken))
}

/// What a file of the archive is, by its name.
enum Part {
    Config,
    Layer,
    /// A layer, or a list in JSON.
    Blob(Sha256),
    Other,
}

impl Part {
    fn of(path: &[u8], image: Sha256) -> Self {
        let path = String::from_utf8_lossy(path);
        if let Some(hex) = path.strip_prefix("blobs/sha256/") {
            return match format!("sha256:{hex}").parse() {
                Ok(digest) if digest == image => Self::Config,
                Ok(digest) => Self::Blob(digest),
                Err(_) => Self::Other,
            };
        }
        if path.strip_suffix(".json").is_some_and(|hex| hex == image.hex()) {
            Self::Config
        } else if path.ends_with("/layer.tar") {
            Self::Layer
        } else {
            Self::Other
        }
    }
}

fn keep_config(entry: impl Read, image: Sha256, cache: &Cache) -> Result<Option<bool>, Error> {
    let mut config = Vec::new();
    entry.take(CONFIG_BYTES).read_to_end(&mut config).map_err(Error::read)?;
    if sha256(&config) != image {
        return Err(Error::Archive("its config is not the image's".to_owned()));
    }
    cache.keep_config(image, &config).map_err(Error::Cache)?;
    Ok(Some(false))
}

/// A blob of an OCI layout: kept where it is a layer that is not known.
fn keep_blob(mut entry: impl Read, size: u64, digest: Sha256, cache: &Cache) -> Result<Option<bool>, Error> {
    if cache.layer(digest).is_some_and(|layer| cache.has_blob(layer.digest)) {
        return Ok(Some(false));
    }
    let mut head = Vec::new();
    entry.by_ref().take(HEADER_BYTES).read_to_end(&mut head).map_err(Error::read)?;
    let is_tar = head.get(257..262).is_some_and(|magic| magic == b"ustar");
    if head.starts_with(&[0x1f, 0x8b]) || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Err(Error::Unsupported(
            "they lie in containerd's image store, which this version does not read",
        ));
    }
    if head.starts_with(b"{") && !is_tar {
        return Ok(Some(false));
    }
    let kept = layer::keep(head.chain(entry), size, cache, false).map_err(Error::read)?;
    Ok(kept.map(|kept| kept.compressed))
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

    #[test]
    fn layers_find_their_place_whatever_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let config = format!(
            r#"{{"rootfs":{{"type":"layers","diff_ids":["{}","{}"]}}}}"#,
            sha256(b"low"),
            sha256(b"high")
        );
        let id = sha256(config.as_bytes());
        let name = format!("{}.json", id.hex());
        let files: [(&str, &[u8]); 5] = [
            ("a/VERSION", b"1.0"),
            ("a/layer.tar", b"high"),
            ("b/layer.tar", b"low"),
            (&name, config.as_bytes()),
            ("manifest.json", b"[]"),
        ];
        let taken = unpack(&archive(&files)[..], id, &cache, true).unwrap().unwrap();
        assert_eq!(taken.compressed_layers, 2);
        let image = cache.image(id).unwrap().unwrap();
        assert_eq!(
            image.layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>(),
            [sha256(b"low"), sha256(b"high")]
        );
        let again = unpack(&archive(&files)[..], id, &cache, true).unwrap().unwrap();
        assert_eq!(again.compressed_layers, 0);
    }

    #[test]
    fn an_oci_layout_names_its_layers() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let layer = archive(&[("{file", b"content")]);
        let config =
            format!(r#"{{"rootfs":{{"diff_ids":["{}","{}"]}}}}"#, sha256(&layer), sha256(&[0; 1024]));
        let id = sha256(config.as_bytes());
        let blob = |bytes: &[u8]| format!("blobs/sha256/{}", sha256(bytes).hex());
        let (one, two, three, four) = (blob(&layer), blob(&[0; 1024]), blob(config.as_bytes()), blob(b"{}"));
        let files: [(&str, &[u8]); 5] = [
            (&one, &layer),
            (&two, &[0; 1024]),
            (&three, config.as_bytes()),
            (&four, b"{}"),
            ("index.json", b"{}"),
        ];
        let taken = unpack(&archive(&files)[..], id, &cache, true).unwrap().unwrap();
        assert_eq!(taken.compressed_layers, 2);
        assert_eq!(cache.image(id).unwrap().unwrap().layers.len(), 2);
        assert_eq!(unpack(&archive(&files)[..], id, &cache, true).unwrap().unwrap().compressed_layers, 0);
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let id = sha256(b"x");
        let compressed = format!("blobs/sha256/{}", sha256(b"y").hex());
        let containerd = archive(&[(&compressed, &[0x1f, 0x8b, 8, 0])]);
        assert!(matches!(unpack(&containerd[..], id, &cache, true), Err(Error::Unsupported(_))));
        let lie = archive(&[(&format!("{}.json", id.hex()), b"y")]);
        assert!(matches!(unpack(&lie[..], id, &cache, true), Err(Error::Archive(_))));
        assert!(unpack(&containerd[..700], id, &cache, true).is_err());
    }
}
