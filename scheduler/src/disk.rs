//! What every store on this disk needs: telling a full disk from other trouble, and files that are whole or absent.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// What went wrong with a file or folder of the scheduler.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// RESOURCE_EXHAUSTED.
    #[error("the scheduler's disk is full: free some space at {}, its data folder, and try again", .0.display())]
    Full(PathBuf),
    /// Anything else; the path is for the operator's log.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        source: io::Error,
    },
}

impl Error {
    /// The error of an operation on `path`, which is somewhere below `data_dir`.
    pub fn at(data_dir: &Path, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(data_dir.to_owned()),
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}

/// Bytes that this process may still write to the disk of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// How large the disk of `path` is, in bytes.
pub fn all_bytes(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_blocks.saturating_mul(disk.f_frsize))
}

/// Creates a folder and those above it.
pub fn create_dir(data_dir: &Path, path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|source| Error::at(data_dir, path, source))
}

/// Makes a folder's list of names durable.
pub fn sync_dir(data_dir: &Path, path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|source| Error::at(data_dir, path, source))
}

/// Puts a file in place, whole and durable, or leaves what was there.
pub fn write_whole(data_dir: &Path, path: &Path, content: &[u8]) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(data_dir);
    let wrong = |source| Error::at(data_dir, path, source);
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(parent).map_err(wrong)?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).map_err(wrong)?;
    file.persist(path).map_err(|error| wrong(error.error))?;
    sync_dir(data_dir, parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_names_the_folder_and_the_remedy() {
        for errno in [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT] {
            let error = Error::at(Path::new("/data"), Path::new("/data/blobs/ab/cd"), errno.into());
            let text = error.to_string();
            assert!(text.contains("/data,") && text.contains("free some space"), "{text}");
        }
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_whole(dir.path(), &path, b"one").unwrap();
        write_whole(dir.path(), &path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file stayed");
    }
}
