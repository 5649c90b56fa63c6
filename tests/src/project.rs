//! Small projects to build, each in a folder that goes away.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Coordinates;

/// A folder with a Dockerfile.
#[derive(Debug)]
pub struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    /// An empty folder with this Dockerfile; `BASE` in it becomes the base image's reference.
    pub fn new(dockerfile: &str) -> Self {
        let project = Self { dir: tempfile::Builder::new().prefix("project").tempdir().unwrap() };
        project
            .file("Dockerfile", &dockerfile.replace("BASE", &Coordinates::from_env().unwrap().base.reference))
    }

    /// With one more file; folders are made as needed.
    #[must_use]
    pub fn file(self, path: &str, content: &str) -> Self {
        self.write(path, content.as_bytes());
        self
    }

    /// Writes a file now.
    pub fn write(&self, path: &str, content: &[u8]) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in its folder.
    pub fn join(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }
}

/// Text that no other test, and no earlier run, has used: cache busters, repository names, process markers.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{prefix}-{}-{nanos:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
