//! What is known of layers that left an Engine before, and their compressed bytes while there is room.
//!
//! A folder that every runner of a machine may use at once: files are written under another name and renamed,
//! never changed, and may vanish whenever nobody has them open. Losing any of it costs time, nothing else.
//!
//! ```text
//! blobs/HEX      a compressed layer or an image's config, by SHA-256
//! images/HEX     by the Engine's name of an image: its config's digest, where that is another
//! layers/HEX     by diff id: a `Layer`
//! prints/HEX     by fingerprint: the diff id it probably is
//! stored/HEX     by digest of a layer as an Engine's store has it compressed: its diff id
//! places/HEX     by blob: the repositories it was sent to
//! tmp/           what is being written
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use archyard_model::Sha256;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::kept::{drop_oldest, list, remove, touch};

/// Records of one kind that are kept; the longest unused go first.
const RECORDS: usize = 16_384;
/// Repositories remembered for one blob.
const PLACES: usize = 16;
/// What a killed runner was writing is dropped after this.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// Records, by what they are found by.
const FOLDERS: [&str; 5] = ["images", "layers", "prints", "stored", "places"];

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    root: PathBuf,
}

/// A layer as registries get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layer {
    /// Of the uncompressed tar.
    pub(super) diff_id: Sha256,
    /// Of the compressed bytes.
    pub(super) digest: Sha256,
    /// Of the compressed bytes.
    pub(super) size_bytes: u64,
}

/// An image of which everything is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// The config's digest.
    pub(super) config_digest: Sha256,
    /// Byte for byte as the Engine has it.
    pub(super) config: Vec<u8>,
    /// From the lowest.
    pub(super) layers: Vec<Layer>,
}

/// The config behind an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) digest: Sha256,
    /// Byte for byte as the Engine has it.
    pub(super) bytes: Vec<u8>,
    /// From the lowest.
    pub(super) diff_ids: Vec<Sha256>,
}

/// The part of an image's config that names its layers.
#[derive(Deserialize)]
struct Document {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Sha256>,
}

impl Cache {
    /// Opens the folder, making it if need be.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        for folder in FOLDERS.into_iter().chain(["blobs", "tmp"]) {
            fs::create_dir_all(root.join(folder))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The config of the image that an Engine calls `name`.
    pub(super) fn config(&self, name: Sha256) -> io::Result<Option<Config>> {
        let digest = self.read("images", name).unwrap_or(name);
        let path = self.path("blobs", digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // A config that is not what its name says is as good as none.
        let Ok(parsed) = serde_json::from_slice::<Document>(&bytes) else { return Ok(None) };
        if Sha256::of(&bytes) != digest {
            return Ok(None);
        }
        touch(&path);
        Ok(Some(Config { digest, bytes, diff_ids: parsed.rootfs.diff_ids }))
    }

    /// All of an image, if its config and its layers' digests are known; the layers' bytes may not be here.
    pub(super) fn image(&self, name: Sha256) -> io::Result<Option<Image>> {
        let Some(config) = self.config(name)? else { return Ok(None) };
        let layers =
            config.diff_ids.into_iter().map(|diff_id| self.layer(diff_id)).collect::<Option<Vec<_>>>();
        Ok(layers.map(|layers| Image { config_digest: config.digest, config: config.bytes, layers }))
    }

    /// What is known of a layer.
    pub(super) fn layer(&self, diff_id: Sha256) -> Option<Layer> {
        self.read("layers", diff_id)
    }

    /// The layer that has this fingerprint, if one was seen.
    pub(super) fn by_print(&self, print: Sha256) -> Option<Layer> {
        self.layer(self.read("prints", print)?)
    }

    /// Opens a blob for sending, if it is here.
    pub(super) fn open_blob(&self, digest: Sha256) -> io::Result<Option<File>> {
        let path = self.path("blobs", digest);
        match File::open(&path) {
            Ok(file) => {
                touch(&path);
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where a blob is, if it is here.
    pub(super) fn blob_path(&self, digest: Sha256) -> PathBuf {
        self.path("blobs", digest)
    }

    pub(super) fn has_blob(&self, digest: Sha256) -> bool {
        self.path("blobs", digest).exists()
    }

    /// A file to write a blob to.
    pub(super) fn new_file(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(self.root.join("tmp"))
    }

    /// Keeps a layer's bytes and what is known of it.
    pub(super) fn keep_layer(
        &self,
        bytes: NamedTempFile,
        layer: &Layer,
        print: Option<Sha256>,
    ) -> io::Result<()> {
        bytes.persist(self.path("blobs", layer.digest)).map_err(|error| error.error)?;
        self.write("layers", layer.diff_id, layer)?;
        print.map_or(Ok(()), |print| self.write("prints", print, &layer.diff_id))
    }

    /// The diff id of a layer that an Engine's store has under this digest.
    pub(super) fn stored(&self, digest: Sha256) -> Option<Sha256> {
        self.read("stored", digest)
    }

    /// Remembers what an Engine's store has under this digest.
    pub(super) fn keep_stored(&self, digest: Sha256, diff_id: Sha256) -> io::Result<()> {
        self.write("stored", digest, &diff_id)
    }

    /// Remembers which config is behind an Engine's name of an image.
    pub(super) fn keep_name(&self, name: Sha256, config: Sha256) -> io::Result<()> {
        if name == config { Ok(()) } else { self.write("images", name, &config) }
    }

    /// Keeps an image's config.
    pub(super) fn keep_config(&self, digest: Sha256, config: &[u8]) -> io::Result<()> {
        self.write_bytes("blobs", digest, config)
    }

    /// The repositories that a blob was sent to, the latest last.
    pub(super) fn places(&self, digest: Sha256) -> Vec<String> {
        self.read("places", digest).unwrap_or_default()
    }

    /// Remembers that a repository holds a blob.
    pub(super) fn add_place(&self, digest: Sha256, repository: &str) -> io::Result<()> {
        let mut places = self.places(digest);
        if places.last().is_some_and(|last| last == repository) {
            return Ok(());
        }
        places.retain(|place| place != repository);
        places.push(repository.to_owned());
        places.drain(..places.len().saturating_sub(PLACES));
        self.write("places", digest, &places)
    }

    /// Drops the longest unused until blobs hold at most this many bytes and records are within their limits.
    pub(super) fn shrink(&self, blob_bytes: u64) -> io::Result<()> {
        drop_oldest(&self.root.join("blobs"), blob_bytes, RECORDS)?;
        for folder in FOLDERS {
            drop_oldest(&self.root.join(folder), u64::MAX, RECORDS)?;
        }
        let now = SystemTime::now();
        for file in list(&self.root.join("tmp"))? {
            if now.duration_since(file.used).is_ok_and(|age| age > ABANDONED) {
                remove(&file.path)?;
            }
        }
        Ok(())
    }

    fn path(&self, folder: &str, name: Sha256) -> PathBuf {
        self.root.join(folder).join(name.hex())
    }

    /// A record; one that cannot be read is as good as none.
    fn read<T: DeserializeOwned>(&self, folder: &str, name: Sha256) -> Option<T> {
        let path = self.path(folder, name);
        let record = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        touch(&path);
        Some(record)
    }

    fn write<T: Serialize>(&self, folder: &str, name: Sha256, record: &T) -> io::Result<()> {
        self.write_bytes(folder, name, &serde_json::to_vec(record)?)
    }

    fn write_bytes(&self, folder: &str, name: Sha256, bytes: &[u8]) -> io::Result<()> {
        let file = self.new_file()?;
        fs::write(file.path(), bytes)?;
        file.persist(self.path(folder, name)).map_err(|error| error.error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        (folder, cache)
    }

    fn keep(cache: &Cache, content: &[u8]) -> Layer {
        let mut file = cache.new_file().unwrap();
        file.write_all(content).unwrap();
        let layer = Layer {
            diff_id: Sha256::of(&[content, b"raw"].concat()),
            digest: Sha256::of(content),
            size_bytes: content.len() as u64,
        };
        cache.keep_layer(file, &layer, Some(Sha256::of(&[content, b"print"].concat()))).unwrap();
        layer
    }

    #[test]
    fn an_image_is_known_once_all_its_parts_are() {
        let (_folder, cache) = cache();
        let layer = keep(&cache, b"one");
        let config =
            |diff_id: Sha256| format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#);
        let known = config(layer.diff_id);
        assert!(cache.image(Sha256::of(known.as_bytes())).unwrap().is_none());
        cache.keep_config(Sha256::of(known.as_bytes()), known.as_bytes()).unwrap();
        assert_eq!(cache.image(Sha256::of(known.as_bytes())).unwrap().unwrap().layers, [layer]);
        let name = Sha256::of(b"what another Engine calls it");
        cache.keep_name(name, Sha256::of(known.as_bytes())).unwrap();
        assert_eq!(cache.image(name).unwrap(), cache.image(Sha256::of(known.as_bytes())).unwrap());

        let unknown = config(Sha256::of(b"never seen"));
        cache.keep_config(Sha256::of(unknown.as_bytes()), unknown.as_bytes()).unwrap();
        assert!(cache.image(Sha256::of(unknown.as_bytes())).unwrap().is_none());
        cache.keep_config(Sha256::of(b"other"), known.as_bytes()).unwrap();
        assert!(cache.image(Sha256::of(b"other")).unwrap().is_none(), "a broken config was taken");
    }

    #[test]
    fn shrinking_drops_the_longest_unused_and_forgets_nothing() {
        let (folder, cache) = cache();
        let (old, new) = (keep(&cache, b"old"), keep(&cache, b"new"));
        let path = folder.path().join("blobs").join(old.digest.hex());
        File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        cache.shrink(4).unwrap();
        assert!(!cache.has_blob(old.digest) && cache.has_blob(new.digest));
        assert_eq!(cache.layer(old.diff_id), Some(old));
        assert_eq!(cache.by_print(Sha256::of(b"oldprint")), Some(old));
        cache.shrink(0).unwrap();
        assert!(cache.open_blob(new.digest).unwrap().is_none());
    }

    #[test]
    fn places_are_few_and_the_latest_last() {
        let (_folder, cache) = cache();
        let digest = Sha256::of(b"x");
        for number in 0..PLACES + 3 {
            cache.add_place(digest, &format!("r/{number}")).unwrap();
        }
        cache.add_place(digest, "r/5").unwrap();
        let places = cache.places(digest);
        assert_eq!((places.len(), places.last().unwrap().as_str()), (PLACES, "r/5"));
        assert_eq!(places.iter().filter(|place| *place == "r/5").count(), 1);
    }
}
