//! Remembers digests from one scan to the next, so that a tree that has not changed is not read again.
//!
//! One file a context, in walking order: a BLAKE3 of what follows, then a protobuf message. What is damaged,
//! of another version or not there is as an empty cache, and a cache that cannot be written is no error.
//!
//! A file written to within the clock's grain of the moment it was hashed may hold other bytes under the same
//! stamp, so a stamp is remembered only once it is older than that: the file is read again next time.

use std::cmp::Ordering;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use archyard_model::context::walk_order;
use archyard_model::{Blake3, Inputs};
use bytes::Bytes;
use prost::Message as _;

use super::hash::Hashed;
use super::stamp::Stamp;
use super::walk::Found;

const VERSION: u32 = 2;
/// How old a change must be before its time tells it from a later one. The kernel's clock for files ticks
/// every 1 to 10 ms.
const GRAIN: Duration = Duration::from_millis(100);
/// The same where the file system keeps whole seconds, or two.
const COARSE_GRAIN: Duration = Duration::from_secs(3);

/// What earlier scans of one context found.
pub(super) struct Cache {
    file: Option<PathBuf>,
    entries: Vec<Entry>,
    next: usize,
    worth_saving: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Saved {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(bytes = "bytes", tag = "1")]
    path: Bytes,
    #[prost(uint64, tag = "2")]
    dev: u64,
    #[prost(uint64, tag = "3")]
    ino: u64,
    #[prost(uint64, tag = "4")]
    size: u64,
    #[prost(uint32, tag = "5")]
    mode: u32,
    #[prost(sfixed64, tag = "6")]
    modified_s: i64,
    #[prost(fixed32, tag = "7")]
    modified_ns: u32,
    #[prost(sfixed64, tag = "8")]
    changed_s: i64,
    #[prost(fixed32, tag = "9")]
    changed_ns: u32,
    #[prost(bytes = "bytes", tag = "10")]
    digest: Bytes,
    #[prost(message, repeated, tag = "11")]
    xattrs: Vec<Xattr>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Xattr {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl Cache {
    /// What is known of this part of the context at `root`, which is looked up under its real path. Builds of one
    /// directory that read different parts of it do not push each other's digests out.
    pub(super) fn load(directory: Option<&Path>, root: &Path, inputs: &Inputs) -> Self {
        let file = directory.and_then(|directory| {
            let real = root.canonicalize().ok()?;
            let mut key = real.into_os_string().into_vec();
            for path in inputs.paths() {
                key.push(0);
                key.extend_from_slice(path.as_bytes());
            }
            let name = Blake3::of(&key).hex();
            Some(directory.join(&name[..32]))
        });
        let entries = file.as_deref().and_then(read).unwrap_or_default();
        Self { file, entries, next: 0, worth_saving: false }
    }

    /// The digest of the file at `path`, if it was hashed when it had this very stamp. Paths must be asked for
    /// in walking order.
    pub(super) fn find(&mut self, path: &[u8], stamp: &Stamp) -> Option<Hashed> {
        while let Some(entry) = self.entries.get_mut(self.next) {
            match walk_order(&entry.path, path) {
                Ordering::Less => self.next += 1,
                Ordering::Greater => return None,
                Ordering::Equal => {
                    self.next += 1;
                    return entry.stamp().same_content(stamp).then(|| entry.hashed(*stamp)).flatten();
                }
            }
        }
        None
    }

    /// Takes note that a file had to be read.
    pub(super) fn note(&mut self, stamp: &Stamp, started: SystemTime) {
        self.worth_saving |= is_settled(stamp, started);
    }

    /// Writes what is known now, if that is more than before.
    pub(super) fn save<'a>(
        self,
        started: SystemTime,
        files: impl Iterator<Item = (&'a Found, &'a Option<Hashed>)>,
    ) {
        let Some(file) = self.file.filter(|_| self.worth_saving) else { return };
        let entries = files
            .filter_map(|(found, hashed)| {
                let hashed = hashed.as_ref().filter(|hashed| is_settled(&hashed.stamp, started))?;
                Some(Entry::new(&found.path, hashed))
            })
            .collect();
        if let Err(error) = write(&file, &Saved { version: VERSION, entries }) {
            tracing::debug!(file = %file.display(), %error, "digests of this context are not remembered");
        }
    }
}

impl Entry {
    fn new(path: &[u8], hashed: &Hashed) -> Self {
        let stamp = &hashed.stamp;
        Self {
            path: Bytes::copy_from_slice(path),
            dev: stamp.dev,
            ino: stamp.ino,
            size: stamp.size,
            mode: stamp.mode,
            modified_s: stamp.modified_s,
            modified_ns: stamp.modified_ns,
            changed_s: stamp.changed_s,
            changed_ns: stamp.changed_ns,
            digest: Bytes::copy_from_slice(hashed.digest.as_bytes()),
            xattrs: hashed.xattrs.iter().cloned().map(|(name, value)| Xattr { name, value }).collect(),
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp {
            dev: self.dev,
            ino: self.ino,
            size: self.size,
            mode: self.mode,
            links: 0,
            modified_s: self.modified_s,
            modified_ns: self.modified_ns,
            changed_s: self.changed_s,
            changed_ns: self.changed_ns,
        }
    }

    fn hashed(&mut self, stamp: Stamp) -> Option<Hashed> {
        let digest = Blake3::try_from(&self.digest[..]).ok()?;
        let xattrs = std::mem::take(&mut self.xattrs).into_iter().map(|x| (x.name, x.value)).collect();
        Some(Hashed { stamp, digest, xattrs })
    }
}

/// Whether a later write would show in the change time.
fn is_settled(stamp: &Stamp, started: SystemTime) -> bool {
    let coarse = stamp.changed_ns == 0 && stamp.modified_ns == 0;
    let grain = if coarse { COARSE_GRAIN } else { GRAIN };
    let Ok(seconds) = u64::try_from(stamp.changed_s) else { return true };
    let changed = UNIX_EPOCH + Duration::new(seconds, stamp.changed_ns);
    changed.checked_add(grain).is_some_and(|settled| settled < started)
}

fn read(file: &Path) -> Option<Vec<Entry>> {
    let mut bytes = Bytes::from(fs::read(file).ok()?);
    let sum = (bytes.len() > 32).then(|| bytes.split_to(32))?;
    if Blake3::of(&bytes).as_bytes() != &sum[..] {
        return None;
    }
    let saved = Saved::decode(bytes).ok()?;
    (saved.version == VERSION).then_some(saved.entries)
}

fn write(file: &Path, saved: &Saved) -> io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let body = saved.encode_to_vec();
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    temporary.write_all(Blake3::of(&body).as_bytes())?;
    temporary.write_all(&body)?;
    temporary.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(seconds: i64, ns: u32) -> Stamp {
        Stamp { changed_s: seconds, changed_ns: ns, ..Stamp::default() }
    }

    #[test]
    fn a_fresh_change_is_not_trusted() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        assert!(is_settled(&changed(999, 1), now));
        assert!(!is_settled(&changed(999, 950_000_000), now));
        assert!(!is_settled(&changed(1_001, 1), now), "a clock that runs ahead");
        assert!(!is_settled(&changed(998, 0), now), "a file system of whole seconds");
        assert!(is_settled(&changed(996, 0), now));
    }

    #[test]
    fn what_is_damaged_is_as_empty() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("deep/er/c");
        let hashed = Hashed { stamp: changed(1, 1), digest: Blake3::of(b"x"), xattrs: Vec::new() };
        let saved = Saved { version: VERSION, entries: vec![Entry::new(b"a", &hashed)] };
        write(&file, &saved).unwrap();
        assert_eq!(read(&file).unwrap(), saved.entries);
        let good = fs::read(&file).unwrap();
        for cut in 0..good.len() {
            fs::write(&file, &good[..cut]).unwrap();
            assert!(read(&file).is_none());
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&file, bad).unwrap();
            assert!(read(&file).is_none());
        }
        write(&file, &Saved { version: VERSION + 1, ..saved }).unwrap();
        assert!(read(&file).is_none());
        assert!(read(Path::new("/nowhere/at/all")).is_none());
    }
}
