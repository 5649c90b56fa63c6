//! What is made once and kept: a folder of the cache is there whole or not at all,
//! and of several runs at a time one makes it while the others wait.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::interrupt;
use crate::workspace;

/// How long others may take to make it.
const PATIENCE: Duration = Duration::from_secs(1200);

/// The folder `name` (a path) of the cache. Where it is missing, `make` makes it: it
/// is given an empty work folder, and returns the folder therein that is to be kept.
///
/// # Errors
/// What `make` failed with, or when somebody else is at it for twenty minutes.
pub fn once(name: &str, make: impl FnOnce(&Path) -> Result<PathBuf>) -> Result<PathBuf> {
    let cache = workspace::cache();
    let folder = cache.join(name);
    if folder.is_dir() {
        return Ok(folder);
    }
    let parent = folder.parent().unwrap_or(&cache);
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let _lock = lock(&cache.join(format!("{}.lock", name.replace('/', "-"))))?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let work = tempfile::tempdir_in(&cache).context("cannot create a work folder")?;
    let made = make(work.path())?;
    fs::rename(&made, &folder).with_context(|| format!("cannot keep it in {}", folder.display()))?;
    Ok(folder)
}

/// Held until the file is closed.
fn lock(path: &Path) -> Result<File> {
    let lock = File::create(path).with_context(|| format!("cannot open {}", path.display()))?;
    let locked = interrupt::wait_for(PATIENCE, || match lock.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(false),
        result => result.map(|()| true).with_context(|| format!("cannot lock {}", path.display())),
    })?;
    if !locked {
        bail!(
            "another run of xtask holds {} for {} minutes already: look after it",
            path.display(),
            PATIENCE.as_secs() / 60
        );
    }
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_once_and_a_failure_leaves_none() {
        let name = format!("test-{}/folder", std::process::id());
        let made = |work: &Path| {
            fs::create_dir(work.join("x"))?;
            Ok(work.join("x"))
        };
        assert!(once(&name, |_| bail!("no")).unwrap_err().to_string().contains("no"));
        let folder = once(&name, made).unwrap();
        assert_eq!(once(&name, |_| bail!("twice")).unwrap(), folder);
        fs::remove_dir_all(folder.parent().unwrap()).unwrap();
        fs::remove_file(workspace::cache().join(format!("{}.lock", name.replace('/', "-")))).unwrap();
    }
}
