//! Where a worker keeps what, under its data folder.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::lock::{Lock, Mode};
use crate::machine;

/// A worker's data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The folder at `root`, there or not.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// One folder per attempt.
    pub fn attempts(&self) -> PathBuf {
        self.root.join("attempts")
    }

    /// Contexts and other blobs.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Compressed layers.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// What is known of layers and images that were inspected.
    pub fn inspected(&self) -> PathBuf {
        self.root.join("inspected")
    }

    /// What the Engine was sent.
    pub fn sent(&self) -> PathBuf {
        self.root.join("sent")
    }

    /// Which images attempts left in the Engine.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Makes the folders. What is in them (sources, build arguments) is nobody else's to read.
    pub(crate) fn create(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
        for folder in [self.attempts(), self.cache(), self.layers(), self.images()] {
            fs::create_dir_all(folder)?;
        }
        Ok(())
    }

    /// Claims the folder; none when another agent has it.
    pub(crate) fn lock_agent(&self) -> io::Result<Option<Lock>> {
        Lock::try_open(&self.root.join("agent.lock"), Mode::Exclusive)
    }

    /// Which folder this is: written once, by the first agent that claims it.
    pub(crate) fn instance_id(&self) -> io::Result<String> {
        let path = self.root.join("instance-id");
        match fs::read_to_string(&path) {
            Ok(id) if !id.trim().is_empty() => return Ok(id.trim().chars().take(64).collect()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (id, new) = (machine::random_id(), self.root.join(".instance-id.new"));
        fs::write(&new, &id)?;
        fs::rename(&new, &path)?;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn one_agent_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::at(folder.path());
        layout.create().unwrap();
        let lock = layout.lock_agent().unwrap();
        assert!(lock.is_some() && layout.lock_agent().unwrap().is_none());
        drop(lock);
        assert!(layout.lock_agent().unwrap().is_some());
    }

    #[test]
    fn a_folder_keeps_its_id_and_no_two_have_the_same() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = Layout::at(one.path()).instance_id().unwrap();
        assert_eq!(Layout::at(one.path()).instance_id().unwrap(), id);
        assert_ne!(Layout::at(two.path()).instance_id().unwrap(), id);
        // A power cut may leave an empty file.
        fs::write(one.path().join("instance-id"), "").unwrap();
        assert!(!Layout::at(one.path()).instance_id().unwrap().is_empty());
    }

    #[test]
    fn a_new_folder_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::at(folder.path().join("a/b"));
        layout.create().unwrap();
        let mode = fs::metadata(layout.root()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
