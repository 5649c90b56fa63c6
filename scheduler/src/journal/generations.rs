//! A folder of generations, and the one file that says which of them counts.
//!
//! Deleting from the store frees nothing, so a snapshot begins a new generation in a folder of its own. `CURRENT` is
//! replaced once that is durable; a crash at any moment leaves either the old generation or the new, whole.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::Error;

const CURRENT: &str = "CURRENT";
const LOCK: &str = "LOCK";
const PREFIX: &str = "generation-";

/// A locked folder of generations.
#[derive(Debug)]
pub(super) struct Generations {
    folder: PathBuf,
    current: u64,
    /// Held as long as this lives; the kernel lets go when the process ends.
    _lock: File,
}

impl Generations {
    /// Locks the folder, made if need be, and finds the generation that counts; 0 in an empty folder.
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
        let path = folder.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|error| Error::io(&path, error))?;
        match rustix::fs::flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::InUse(folder.to_owned())),
            Err(error) => return Err(Error::io(&path, error.into())),
        }
        let mut generations = Self { folder: folder.to_owned(), current: 0, _lock: lock };
        generations.current = generations.read_current()?;
        generations.sweep()?;
        Ok(generations)
    }

    /// The generation that counts.
    pub(super) fn current(&self) -> u64 {
        self.current
    }

    /// The folder of a generation.
    pub(super) fn path(&self, generation: u64) -> PathBuf {
        self.folder.join(format!("{PREFIX}{generation:08}"))
    }

    /// From here on, durably, this generation counts. All in it must be durable already.
    pub(super) fn switch(&mut self, generation: u64) -> Result<(), Error> {
        let (path, temporary) = (self.folder.join(CURRENT), self.folder.join("CURRENT.tmp"));
        let written = File::create(&temporary).and_then(|mut file| {
            writeln!(file, "{generation}")?;
            file.sync_all()
        });
        written.map_err(|error| Error::io(&temporary, error))?;
        fs::rename(&temporary, &path).map_err(|error| Error::io(&path, error))?;
        sync_folder(&self.folder)?;
        self.current = generation;
        Ok(())
    }

    /// Removes every generation but the one that counts.
    pub(super) fn sweep(&self) -> Result<(), Error> {
        for name in self.names()? {
            let path = self.folder.join(&name);
            if name.starts_with(PREFIX) && path != self.path(self.current) {
                fs::remove_dir_all(&path).map_err(|error| Error::io(&path, error))?;
            }
        }
        Ok(())
    }

    fn read_current(&self) -> Result<u64, Error> {
        let path = self.folder.join(CURRENT);
        let damaged = |problem: String| Error::Corrupt { path: path.clone(), problem };
        match fs::read_to_string(&path) {
            Ok(text) => {
                let generation = text.trim().parse().map_err(|_| damaged(format!("it holds {text:?}")))?;
                if !self.path(generation).is_dir() {
                    return Err(damaged(format!("{} is missing", self.path(generation).display())));
                }
                Ok(generation)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // The first generation is not yet named while it is being made, and holds nothing then.
                match self.names()?.into_iter().find(|name| name.starts_with(PREFIX)) {
                    Some(name) if self.folder.join(&name) != self.path(1) => {
                        Err(damaged(format!("it is missing, and {name} is there")))
                    }
                    _ => Ok(0),
                }
            }
            Err(error) => Err(Error::io(&path, error)),
        }
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let entries = fs::read_dir(&self.folder).map_err(|error| Error::io(&self.folder, error))?;
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
        };
        entries.map(name).collect::<Result<_, _>>().map_err(|error| Error::io(&self.folder, error))
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| Error::io(folder, error))
}

/// Makes a folder durable with all files directly in it.
pub(super) fn sync_files(folder: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(|error| Error::io(folder, error))? {
        let path = entry.map_err(|error| Error::io(folder, error))?.path();
        if path.is_file() {
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|error| Error::io(&path, error))?;
        }
    }
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_scheduler_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = Generations::open(folder.path()).unwrap();
        assert!(matches!(Generations::open(folder.path()), Err(Error::InUse(_))));
        drop(first);
        Generations::open(folder.path()).unwrap();
    }

    #[test]
    fn leftovers_go_and_a_missing_pointer_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let mut generations = Generations::open(folder.path()).unwrap();
        for generation in [1, 2] {
            fs::create_dir(generations.path(generation)).unwrap();
        }
        generations.switch(2).unwrap();
        generations.sweep().unwrap();
        assert!(!generations.path(1).exists() && generations.path(2).exists());
        drop(generations);
        fs::remove_file(folder.path().join(CURRENT)).unwrap();
        let error = Generations::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("CURRENT"), "{error}");
    }
}
