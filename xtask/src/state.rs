//! What was started, on disk before it is started: whatever happens to us, the
//! next run finds it and takes down that and nothing else. Holds no secrets.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::farm::Daemon;
use crate::images::Platform;
use crate::oci;
use crate::process;
use crate::registry::Registry;
use crate::workspace;

/// Grows when an older file could not be read any more.
const FORMAT: u32 = 1;

/// Where an environment lives. Two places never share a folder, bridge or socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its state file, images and logs.
    pub dir: PathBuf,
    /// Its sockets.
    pub run_dir: PathBuf,
    /// Eight hexadecimal digits that stand for `dir` where names must be short.
    pub id: String,
}

impl Place {
    /// An environment in this folder.
    #[must_use]
    pub fn at(dir: PathBuf) -> Self {
        let digest = oci::digest(dir.as_os_str().as_encoded_bytes());
        let id = digest["sha256:".len()..][..8].to_owned();
        Self { run_dir: workspace::runtime_home().join(&id), dir, id }
    }

    /// The farm that a newcomer starts: one a user.
    ///
    /// # Errors
    /// When the user has no home.
    pub fn quickstart() -> Result<Self> {
        Ok(Self::at(workspace::state_home()?.join("archyard/quickstart")))
    }

    /// A named one of this checkout's.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::at(workspace::target().join("xtask/env").join(name))
    }

    /// Folder of those that tests make for themselves.
    #[must_use]
    pub fn scratch_home() -> PathBuf {
        workspace::target().join("xtask/scratch")
    }

    fn file(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    /// Takes the place for ourselves: until dropped, no other run of xtask changes
    /// what is there.
    ///
    /// # Errors
    /// When another run has it.
    pub fn lock(&self) -> Result<Lock> {
        let home = workspace::runtime_home();
        create_private(&home)?;
        let path = home.join(format!("{}.lock", self.id));
        loop {
            let file = File::options().create(true).truncate(false).write(true).open(&path);
            let file = file.with_context(|| format!("cannot open {}", path.display()))?;
            if file.try_lock().is_err() {
                bail!("another run of xtask is at work on {}: wait for its end", self.dir.display());
            }
            // The one before us may have removed the file between our two steps.
            if fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|ours| ours.ino() == now.ino()))
            {
                return Ok(Lock { path, _file: file });
            }
        }
    }
}

/// Held by the run that may change a place.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked: nobody who opens it now gets past the comparison in `lock`.
        if let Err(error) = fs::remove_file(&self.path) {
            eprintln!("xtask: warning: cannot remove {}: {error}", self.path.display());
        }
    }
}

/// A folder that only we may enter, or one that is ours already: a name in `/tmp`
/// may be somebody else's trap.
fn create_private(dir: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o711).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot create {}", dir.display()));
        }
        _ => {}
    }
    let meta = fs::symlink_metadata(dir).with_context(|| format!("cannot look at {}", dir.display()))?;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        bail!("{} is not a folder that only you may write: remove it", dir.display());
    }
    Ok(())
}

/// The base image of an environment: one index over several platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// `127.0.0.1:PORT/base/busybox:1`.
    pub reference: String,
    /// The index's digest.
    pub digest: String,
    /// What it offers.
    pub platforms: Vec<Platform>,
}

/// All that is in a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    format: u32,
    boot_id: String,
    /// The Engines.
    pub engines: Vec<Engine>,
    /// The registry.
    pub registry: Option<Registry>,
    /// The base image in it.
    pub base: Option<Base>,
    /// Archyard's own processes, in the order they were started.
    pub farm: Vec<Daemon>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            format: FORMAT,
            boot_id: process::boot_id(),
            engines: Vec::new(),
            registry: None,
            base: None,
            farm: Vec::new(),
        }
    }
}

impl State {
    /// What is in a place; nothing when nothing was started there.
    ///
    /// # Errors
    /// When the file cannot be read or is not ours.
    pub fn load(place: &Place) -> Result<Option<Self>> {
        let path = place.file();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let mut state: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a state file of xtask", path.display()))?;
        if state.format != FORMAT {
            bail!(
                "{} is of format {}, this xtask knows {FORMAT}: use the one that wrote it",
                path.display(),
                state.format
            );
        }
        if state.boot_id != process::boot_id() {
            state.forget_processes();
        }
        Ok(Some(state))
    }

    /// The machine was started anew: the numbers are other processes' now.
    fn forget_processes(&mut self) {
        self.boot_id = process::boot_id();
        for engine in &mut self.engines {
            (engine.containerd, engine.dockerd) = (None, None);
        }
        if let Some(registry) = &mut self.registry {
            registry.process = None;
        }
        self.farm.clear();
    }

    /// Writes it whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, place: &Place) -> Result<()> {
        let path = place.file();
        let write = || -> Result<()> {
            fs::create_dir_all(&place.dir)?;
            let mut file = tempfile::NamedTempFile::new_in(&place.dir)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.persist(&path)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether anything of it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let engines = self.engines.iter().flat_map(|engine| [engine.dockerd, engine.containerd]);
        let registry = self.registry.iter().map(|registry| registry.process);
        let farm = self.farm.iter().map(|daemon| Some(daemon.process));
        engines.chain(registry).chain(farm).flatten().any(|process| process.is_alive())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;

    fn place() -> (tempfile::TempDir, Place) {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::at(dir.path().join("env"));
        (dir, place)
    }

    #[test]
    fn state_comes_back_as_it_was_saved() {
        let (_dir, place) = place();
        assert!(State::load(&place).unwrap().is_none());
        let process = Process::of(std::process::id()).unwrap();
        let state = State { farm: vec![Daemon { name: "scheduler".into(), process }], ..State::default() };
        state.save(&place).unwrap();
        assert_eq!(State::load(&place).unwrap().unwrap(), state);
        assert!(state.is_alive());
    }

    #[test]
    fn processes_of_another_boot_are_forgotten() {
        let (_dir, place) = place();
        let process = Process::of(std::process::id()).unwrap();
        let farm = vec![Daemon { name: "scheduler".into(), process }];
        State { boot_id: "another".into(), farm, ..State::default() }.save(&place).unwrap();
        assert!(!State::load(&place).unwrap().unwrap().is_alive());
    }

    #[test]
    fn a_file_of_another_format_is_refused() {
        let (_dir, place) = place();
        State { format: 99, ..State::default() }.save(&place).unwrap();
        assert!(State::load(&place).unwrap_err().to_string().contains("format 99"));
        fs::write(place.file(), "{").unwrap();
        assert!(State::load(&place).unwrap_err().to_string().contains("not a state file"));
    }

    #[test]
    fn a_place_is_taken_once() {
        let (_dir, place) = place();
        let lock = place.lock().unwrap();
        assert!(place.lock().unwrap_err().to_string().contains("another run"));
        drop(lock);
        drop(place.lock().unwrap());
    }

    #[test]
    fn places_have_names_of_their_own() {
        let (one, two) = (Place::at("/a".into()), Place::at("/b".into()));
        assert!(one.id != two.id && one.run_dir != two.run_dir && one.id.len() == 8);
    }
}
