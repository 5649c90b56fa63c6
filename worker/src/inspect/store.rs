//! What is known of layers and images that were inspected before, so that none is read twice.
//!
//! A folder that every runner of a machine may use at once: files are written under another name and renamed,
//! never changed, and may vanish at any time. Each begins with a checksum of the rest, for a power cut may leave
//! half of one, and half of a layer looks like a smaller layer.
//!
//! ```text
//! indexes/HEX    by diff id: an `Index`
//! configs/HEX    by what the Engine calls an image: its config
//! answers/HEX    by a question about an image: what was found, in words of whoever asked
//! tmp/           what is being written
//! ```

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use archyard_model::{Sha256, limits};
use tempfile::NamedTempFile;

use super::folder::sees_overlays;
use super::index::Index;
use crate::kept::{drop_oldest, list, remove, touch};

const INDEXES: &str = "indexes";
const CONFIGS: &str = "configs";
const ANSWERS: &str = "answers";
const TMP: &str = "tmp";
/// One answer in 64 is followed by a cleaning.
const SHRINKING: u8 = 4;
const CHECKSUM_BYTES: usize = blake3::OUT_LEN;
/// What a killed runner was writing is dropped after this.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// The folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the folder, making it if need be.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        for folder in [INDEXES, CONFIGS, ANSWERS, TMP] {
            fs::create_dir_all(root.join(folder))?;
        }
        Ok(Self { root })
    }

    /// What a layer holds, where it is known.
    pub fn index(&self, diff_id: Sha256) -> Option<Index> {
        Index::from_bytes(self.read(INDEXES, diff_id)?).ok()
    }

    /// Remembers what a layer holds.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep_index(&self, diff_id: Sha256, index: &Index) -> io::Result<()> {
        self.write(INDEXES, diff_id, index.as_bytes())
    }

    /// Whether [`Index::read_folder`] is told all that it has to know here.
    pub fn sees_overlays(&self) -> bool {
        sees_overlays(&self.root.join(TMP))
    }

    /// Forgets what was kept of a layer.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget_index(&self, diff_id: Sha256) -> io::Result<()> {
        remove(&self.path(INDEXES, diff_id))
    }

    /// The config of an image, where it is known.
    pub fn config(&self, image: Sha256) -> Option<Vec<u8>> {
        self.read(CONFIGS, image)
    }

    /// Remembers the config of an image.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep_config(&self, image: Sha256, config: &[u8]) -> io::Result<()> {
        self.write(CONFIGS, image, config)
    }

    /// What was found when this was asked before, where that is known.
    pub fn answer(&self, question: Sha256) -> Option<Vec<u8>> {
        self.read(ANSWERS, question)
    }

    /// Remembers what was found; every so often also [`shrink`](Self::shrink)s, for nothing else may be kept.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep_answer(&self, question: Sha256, answer: &[u8]) -> io::Result<()> {
        self.write(ANSWERS, question, answer)?;
        if question.as_bytes()[0] < SHRINKING { self.shrink() } else { Ok(()) }
    }

    /// Drops the longest unused, until what is kept is within its limits.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn shrink(&self) -> io::Result<()> {
        for folder in [INDEXES, CONFIGS, ANSWERS] {
            drop_oldest(&self.root.join(folder), limits::INSPECT_KEPT_BYTES, limits::INSPECT_KEPT)?;
        }
        let now = SystemTime::now();
        for file in list(&self.root.join(TMP))? {
            if now.duration_since(file.used).is_ok_and(|age| age > ABANDONED) {
                remove(&file.path)?;
            }
        }
        Ok(())
    }

    /// A file that is whole; none is as good as one that is not.
    fn read(&self, folder: &str, name: Sha256) -> Option<Vec<u8>> {
        let path = self.path(folder, name);
        let mut bytes = fs::read(&path).ok()?;
        let body = bytes.get(CHECKSUM_BYTES..)?;
        if blake3::hash(body).as_bytes().as_slice() != &bytes[..CHECKSUM_BYTES] {
            return None;
        }
        bytes.drain(..CHECKSUM_BYTES);
        touch(&path);
        Some(bytes)
    }

    fn write(&self, folder: &str, name: Sha256, bytes: &[u8]) -> io::Result<()> {
        let mut file = NamedTempFile::new_in(self.root.join(TMP))?;
        file.write_all(blake3::hash(bytes).as_bytes())?;
        file.write_all(bytes)?;
        file.persist(self.path(folder, name)).map_err(|error| error.error)?;
        Ok(())
    }

    fn path(&self, folder: &str, name: Sha256) -> PathBuf {
        self.root.join(folder).join(name.hex())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::super::testing::{AMD64, Layer};
    use super::*;

    fn id(byte: u8) -> Sha256 {
        Sha256::from_bytes([byte; 32])
    }

    #[test]
    fn what_is_damaged_is_not_known() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let index = Layer::default().program("app", AMD64).index();
        store.keep_index(id(1), &index).unwrap();
        assert_eq!(store.index(id(1)), Some(index));
        assert_eq!(store.index(id(2)), None);
        let path = store.path(INDEXES, id(1));
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(store.index(id(1)), None, "{length} bytes");
        }
        fs::write(&path, vec![0; whole.len()]).unwrap();
        assert_eq!(store.index(id(1)), None);
        store.forget_index(id(1)).unwrap();
        store.forget_index(id(1)).unwrap();
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for byte in [1, 2] {
            store.keep_config(id(byte), &[byte]).unwrap();
        }
        let old = File::open(store.path(CONFIGS, id(1))).unwrap();
        old.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        drop_oldest(&folder.path().join(CONFIGS), u64::MAX, 1).unwrap();
        assert_eq!((store.config(id(1)), store.config(id(2))), (None, Some(vec![2])));
        store.shrink().unwrap();
        assert_eq!(store.config(id(2)), Some(vec![2]));
    }
}
