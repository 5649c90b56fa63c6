//! Folders of files that several runners share, and that are cleaned by when each file was last used.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One file.
pub(crate) struct Kept {
    pub(crate) path: PathBuf,
    size_bytes: u64,
    pub(crate) used: SystemTime,
}

/// What is in a folder of files.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<Kept>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Gone since it was listed: somebody else is cleaning too.
        let Ok(metadata) = entry.metadata() else { continue };
        files.push(Kept { path: entry.path(), size_bytes: metadata.len(), used: metadata.modified()? });
    }
    Ok(files)
}

/// Drops the longest unused, until at most `bytes` in at most `count` files are left.
pub(crate) fn drop_oldest(folder: &Path, mut bytes: u64, mut count: usize) -> io::Result<()> {
    let mut files = list(folder)?;
    files.sort_by_key(|file| std::cmp::Reverse(file.used));
    for file in files {
        match (bytes.checked_sub(file.size_bytes), count.checked_sub(1)) {
            (Some(left), Some(fewer)) => (bytes, count) = (left, fewer),
            _ => remove(&file.path)?,
        }
    }
    Ok(())
}

/// Removes a file; one that is gone is no error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Marks a file as used now. Where that fails it is only dropped sooner.
pub(crate) fn touch(path: &Path) {
    if let Ok(file) = File::open(path) {
        file.set_modified(SystemTime::now()).ok();
    }
}
