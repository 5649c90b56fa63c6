//! The archive that Engines without the containerd store give of an image: uncompressed layers in folders of
//! any name and order, and at its end the config and the list that says which is which.
//!
//! It is read as it comes, once. Layers tell by their own digest which one they are.

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
    let config_name = format!("{}.json", image.hex());
    for entry in archive.entries().map_err(Error::read)? {
        let mut entry = entry.map_err(Error::read)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let size = entry.size();
        taken.read_bytes += size;
        if path == "oci-layout" || path.starts_with("blobs/") {
            return Err(Error::Unsupported(
                "it gives images as an OCI layout; this version reads docker archives",
            ));
        }
        if path.ends_with("/layer.tar") && entry.header().entry_type().is_file() {
            match layer::keep(entry, size, cache, guess).map_err(Error::read)? {
                Some(read) => taken.compressed_layers += u32::from(read.compressed),
                None => return Ok(None),
            }
        } else if path == config_name {
            let mut config = Vec::new();
            entry.by_ref().take(CONFIG_BYTES).read_to_end(&mut config).map_err(Error::read)?;
            if sha256(&config) != image {
                return Err(Error::Archive("its config is not the image's".to_owned()));
            }
            cache.keep_config(image, &config).map_err(Error::Cache)?;
        }
    }
    Ok(Some(taken))
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
    fn what_is_no_docker_archive_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let id = sha256(b"x");
        let layout = archive(&[("blobs/sha256/x", b"x")]);
        assert!(matches!(unpack(&layout[..], id, &cache, true), Err(Error::Unsupported(_))));
        let lie = archive(&[(&format!("{}.json", id.hex()), b"y")]);
        assert!(matches!(unpack(&lie[..], id, &cache, true), Err(Error::Archive(_))));
        assert!(unpack(&layout[..700], id, &cache, true).is_err());
    }
}
