//! What the file system says of a file without opening it: equal stamps mean equal content, with the guard of
//! the cache for files written to a moment ago.

use rustix::fs::{FileType, Stat};

/// A file's identity, length and times. Its change time moves with every write, whatever the writer does to
/// the modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stamp {
    pub(super) dev: u64,
    pub(super) ino: u64,
    /// Bytes.
    pub(super) size: u64,
    /// Type and permissions.
    pub(super) mode: u32,
    pub(super) links: u64,
    pub(super) modified_s: i64,
    pub(super) modified_ns: u32,
    pub(super) changed_s: i64,
    pub(super) changed_ns: u32,
}

impl Stamp {
    /// Permissions with setuid, setgid and sticky.
    pub(super) fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    pub(super) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Whether content may be taken for the same. A further name elsewhere changes the change time too, so the
    /// number of names need not be compared.
    pub(super) fn same_content(&self, other: &Self) -> bool {
        Self { links: 0, ..*self } == Self { links: 0, ..*other }
    }
}

// The fields' types differ between architectures.
#[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
impl From<Stat> for Stamp {
    fn from(stat: Stat) -> Self {
        Self {
            dev: stat.st_dev.into(),
            ino: stat.st_ino.into(),
            size: stat.st_size.try_into().unwrap_or(0),
            mode: stat.st_mode,
            links: stat.st_nlink.into(),
            modified_s: stat.st_mtime.into(),
            modified_ns: stat.st_mtime_nsec.try_into().unwrap_or(0),
            changed_s: stat.st_ctime.into(),
            changed_ns: stat.st_ctime_nsec.try_into().unwrap_or(0),
        }
    }
}
