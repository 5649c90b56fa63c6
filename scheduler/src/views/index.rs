//! What retention must know of every ended build, in memory: its records are read once after a start.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use archyard_model::{Blake3, BuildId, BuildRecord};
use archyard_proto::v1 as proto;
use jiff::Timestamp;

use super::{Error, Views};
use crate::blobs::Cut;
use crate::disk;
use crate::pace::Pace;

/// An ended build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) project: Arc<str>,
    pub(crate) at: Timestamp,
    pub(crate) manifest: Blake3,
    pub(crate) dockerfile: Blake3,
    /// Of its record, on the disk.
    pub(crate) bytes: u64,
    /// Of its logs, once they do not grow any more and somebody looked.
    pub(crate) log_bytes: OnceLock<u64>,
}

/// All of them, by name.
#[derive(Debug, Default)]
pub(super) struct Index {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    builds: BTreeMap<BuildId, Arc<Ended>>,
    /// Projects that occur, so that their names are held once.
    projects: BTreeMap<Arc<str>, ()>,
    complete: bool,
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn remove(&self, build: BuildId) {
        self.lock().builds.remove(&build);
    }
}

impl Held {
    fn insert(&mut self, build: BuildId, project: &str, rest: impl FnOnce(Arc<str>) -> Ended) {
        let project = match self.projects.get_key_value(project) {
            Some((known, ())) => Arc::clone(known),
            None => {
                let new: Arc<str> = project.into();
                self.projects.insert(Arc::clone(&new), ());
                new
            }
        };
        self.builds.insert(build, Arc::new(rest(project)));
    }
}

impl Views {
    /// Every ended build whose record is kept, oldest first. Reads the records at the first call. Blocks.
    pub(crate) fn ended(&self, pace: &mut Pace) -> Result<Vec<(BuildId, Arc<Ended>)>, Cut> {
        if !self.index.lock().complete {
            self.read_all(pace)?;
        }
        let held = self.index.lock();
        Ok(held.builds.iter().map(|(build, ended)| (*build, Arc::clone(ended))).collect())
    }

    /// Adds a build whose record was just written.
    pub(super) fn note(&self, record: &BuildRecord) {
        let bytes = self.bytes_of(record.id);
        self.index.lock().insert(record.id, record.plan.project.as_str(), |project| Ended {
            project,
            at: record.ended_at.unwrap_or(record.accepted_at),
            manifest: record.plan.context.manifest_digest,
            dockerfile: record.plan.dockerfile,
            bytes,
            log_bytes: OnceLock::new(),
        });
    }

    fn read_all(&self, pace: &mut Pace) -> Result<(), Cut> {
        for build in self.builds()? {
            let known = self.index.lock().builds.contains_key(&build);
            if !known {
                match self.record(build) {
                    Ok(Some(record)) => self.note_read(build, &record),
                    Ok(None) => {}
                    Err(Error::Disk(error)) => return Err(error.into()),
                    Err(Error::Corrupt { .. }) => self.note_damaged(build),
                }
            }
            pace.step()?;
        }
        self.index.lock().complete = true;
        Ok(())
    }

    fn note_read(&self, build: BuildId, record: &proto::BuildRecord) {
        let Some(plan) = &record.plan else { return self.note_damaged(build) };
        let manifest = plan.context.as_ref().and_then(|context| context.manifest_digest.parse().ok());
        let (Some(manifest), Ok(dockerfile)) = (manifest, plan.dockerfile_digest.parse()) else {
            return self.note_damaged(build);
        };
        let time = record.ended_at.or(record.accepted_at);
        let at = archyard_model::convert::time_from_proto("ended_at", time).unwrap_or_else(|_| made(build));
        let bytes = self.bytes_of(build);
        self.index.lock().insert(build, &plan.project, |project| Ended {
            project,
            at,
            manifest,
            dockerfile,
            bytes,
            log_bytes: OnceLock::new(),
        });
    }

    /// A record that cannot be read is bounded like any other: its build's name says when it was.
    fn note_damaged(&self, build: BuildId) {
        tracing::warn!(%build, "the record of an ended build cannot be read; retention goes by the build's name");
        let (bytes, nothing) = (self.bytes_of(build), Blake3::of(b""));
        self.index.lock().insert(build, "", |project| Ended {
            project,
            at: made(build),
            manifest: nothing,
            dockerfile: nothing,
            bytes,
            log_bytes: OnceLock::new(),
        });
    }

    fn bytes_of(&self, build: BuildId) -> u64 {
        std::fs::symlink_metadata(self.path(build)).map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// Removes a build's record. Doing it again is no error: after a power cut it may be back. Blocks.
    pub(crate) fn remove(&self, build: BuildId) -> Result<(), disk::Error> {
        let path = self.path(build);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(self.wrong(&path, error));
            }
            _ => {}
        }
        self.index.remove(build);
        // Only empty folders go. A record that is written into one at this moment is written again.
        let folders = path.ancestors().skip(1).take_while(|folder| *folder != self.root);
        for folder in folders {
            if std::fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn made(build: BuildId) -> Timestamp {
    i64::try_from(build.unix_ms())
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or_default()
}
