//! The folder of records: `records/<4 characters>/<2 more>/<build>`.
//!
//! A build's name begins with its time, so a folder of the second level spans a quarter of an hour.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use archyard_model::BuildId;
use archyard_proto::v1 as proto;

use super::Error;
use super::file::{Entry, encode};
use super::index::Index;
use crate::core::EndedBuild;
use crate::disk;

/// Characters of a build's name that name its folder, and the folder in that.
const SHARDS: (usize, usize) = (4, 6);

/// Records of ended builds.
#[derive(Debug)]
pub struct Views {
    data_dir: PathBuf,
    pub(super) root: PathBuf,
    pub(super) index: Index,
}

impl Views {
    /// Opens `records/` in the data folder.
    pub fn open(data_dir: &Path) -> Result<Self, disk::Error> {
        let root = data_dir.join("records");
        disk::create_dir(data_dir, &root)?;
        Ok(Self { data_dir: data_dir.to_owned(), root, index: Index::default() })
    }

    /// Keeps an ended build, durably. Doing it twice leaves one record. Blocks.
    pub fn archive(&self, ended: &EndedBuild) -> Result<(), disk::Error> {
        let path = self.path(ended.record.id);
        let folder = path.parent().unwrap_or(&self.root);
        if !folder.exists() {
            disk::create_dir(&self.data_dir, folder)?;
            for above in folder.ancestors().skip(1).take_while(|above| above.starts_with(&self.root)) {
                disk::sync_dir(&self.data_dir, above)?;
            }
        }
        disk::write_whole(&self.data_dir, &path, &encode(ended))?;
        self.note(&ended.record);
        Ok(())
    }

    /// The record of an ended build, if it is here. Blocks.
    pub fn record(&self, build: BuildId) -> Result<Option<proto::BuildRecord>, Error> {
        let Some(mut entry) = self.entry(build)? else { return Ok(None) };
        self.next::<proto::BuildSummary>(build, &mut entry)?;
        self.next(build, &mut entry)
    }

    /// Events of an ended build after number `after`, if it is here. Blocks.
    pub fn events(&self, build: BuildId, after: u64) -> Result<Option<Vec<proto::BuildEvent>>, Error> {
        let Some(mut entry) = self.entry(build)? else { return Ok(None) };
        self.next::<proto::BuildSummary>(build, &mut entry)?;
        self.next::<proto::BuildRecord>(build, &mut entry)?;
        let mut events = Vec::new();
        while let Some(event) = self.next::<proto::BuildEvent>(build, &mut entry)? {
            if event.seq > after {
                events.push(event);
            }
        }
        Ok(Some(events))
    }

    pub(super) fn summary(&self, build: BuildId) -> Result<Option<proto::BuildSummary>, Error> {
        let Some(mut entry) = self.entry(build)? else { return Ok(None) };
        self.next(build, &mut entry)
    }

    fn entry(&self, build: BuildId) -> Result<Option<Entry>, Error> {
        let path = self.path(build);
        match Entry::open(&path) {
            Ok(entry) => Ok(Some(entry)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(disk::Error::at(&self.data_dir, &path, source).into()),
        }
    }

    fn next<M: prost::Message + Default>(
        &self,
        build: BuildId,
        entry: &mut Entry,
    ) -> Result<Option<M>, Error> {
        entry.next().map_err(|source| match source.kind() {
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => Error::Corrupt {
                build,
                path: self.path(build).display().to_string(),
                problem: source.to_string(),
            },
            _ => disk::Error::at(&self.data_dir, &self.path(build), source).into(),
        })
    }

    pub(super) fn path(&self, build: BuildId) -> PathBuf {
        let name = build.to_string();
        self.root.join(&name[..SHARDS.0]).join(&name[SHARDS.0..SHARDS.1]).join(name)
    }

    pub(super) fn wrong(&self, path: &Path, source: std::io::Error) -> disk::Error {
        disk::Error::at(&self.data_dir, path, source)
    }
}
