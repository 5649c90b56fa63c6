//! One upload: parts come in, blobs are hashed and staged, and at the end all of them appear.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use archyard_model::sparse::{Run, runs};
use archyard_model::{Blake3, Invalid, limits};
use archyard_proto::v1 as proto;

use super::{Error, Holds, Store};
use crate::disk;

/// What an upload added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    /// Blobs that were new.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// An upload under way. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Ingest {
    store: Arc<Store>,
    /// Made with the first blob that is new.
    folder: Option<tempfile::TempDir>,
    staged: Vec<Staged>,
    open: Option<Open>,
    stored: Stored,
}

/// A verified blob that waits for the end of its upload.
#[derive(Debug)]
struct Staged {
    digest: Blake3,
    /// It begins as a context's manifest does: it may appear only after its files.
    manifest: bool,
}

/// The blob whose parts are coming in.
#[derive(Debug)]
struct Open {
    digest: Blake3,
    size: u64,
    received: u64,
    head: Vec<u8>,
    hasher: blake3::Hasher,
    /// None: it is here already, and is only checked.
    file: Option<Writing>,
}

/// A new blob's file.
#[derive(Debug)]
struct Writing {
    file: File,
    path: PathBuf,
    /// Its length by what was written to it: zeros are skipped.
    length: u64,
}

impl Ingest {
    /// A new upload.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, folder: None, staged: Vec::new(), open: None, stored: Stored::default() }
    }

    /// Takes the parts of one message.
    pub fn take(&mut self, message: proto::UploadRequest) -> Result<(), Error> {
        let data: usize = message.parts.iter().map(|part| part.data.len()).sum();
        if data > limits::BLOB_MESSAGE_BYTES {
            return Err(Invalid::new(
                "parts",
                format!("{data} bytes"),
                format!("a message holds at most {} bytes of data", limits::BLOB_MESSAGE_BYTES),
            )
            .into());
        }
        message.parts.into_iter().try_for_each(|part| self.take_part(&part))
    }

    fn take_part(&mut self, part: &proto::BlobPart) -> Result<(), Error> {
        let digest = Blake3::try_from(&*part.digest).map_err(|error| error.of("parts.digest"))?;
        let mut open = match self.open.take() {
            Some(open) if open.digest == digest => open,
            Some(open) => {
                return Err(Invalid::new(
                    "parts.digest",
                    digest,
                    format!("the parts of {} have not ended yet; send one blob after the other", open.digest),
                )
                .into());
            }
            None => self.begin(digest, part.size_bytes)?,
        };
        open.take(&self.store, &part.data)?;
        if part.last {
            self.end(&open)
        } else {
            self.open = Some(open);
            Ok(())
        }
    }

    fn begin(&mut self, digest: Blake3, size: u64) -> Result<Open, Error> {
        let (most, remedy) = self.store.holds.longest();
        if size > most || self.stored.bytes.saturating_add(size) > 2 * most {
            let problem = format!("{most} bytes are the limit: {remedy}");
            return Err(Invalid::new("parts.size_bytes", size, problem).into());
        }
        if self.staged.len() > limits::CONTEXT_ENTRIES {
            return Err(Invalid::new(
                "parts",
                format!("{} blobs", self.staged.len()),
                format!("a context has at most {} entries; use a .dockerignore", limits::CONTEXT_ENTRIES),
            )
            .into());
        }
        let file = self.stage(digest)?;
        Ok(Open { digest, size, received: 0, head: Vec::new(), hasher: blake3::Hasher::new(), file })
    }

    /// The file a new blob is written to; none if it is here, or staged, already.
    fn stage(&mut self, digest: Blake3) -> Result<Option<Writing>, Error> {
        if self.store.missing(&[digest]).is_empty() {
            return Ok(None);
        }
        let folder = match &self.folder {
            Some(folder) => folder.path(),
            None => {
                let incoming = self.store.incoming();
                let made = tempfile::tempdir_in(&incoming).map_err(|e| self.store.wrong(&incoming, e))?;
                self.folder.insert(made).path()
            }
        };
        let path = folder.join(digest.hex());
        match File::create_new(&path) {
            Ok(file) => Ok(Some(Writing { file, path, length: 0 })),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(None),
            Err(source) => Err(self.store.wrong(&path, source).into()),
        }
    }

    fn end(&mut self, open: &Open) -> Result<(), Error> {
        if open.received != open.size {
            return Err(Invalid::new(
                "parts.size_bytes",
                open.size,
                format!("{} ended after {} bytes", open.digest, open.received),
            )
            .into());
        }
        let found = Blake3::from(open.hasher.finalize());
        if found != open.digest {
            return Err(Invalid::new(
                "parts.digest",
                open.digest,
                format!("the bytes that came have {found}; the file changed while it was sent, build again"),
            )
            .into());
        }
        if let Some(writing) = &open.file {
            writing.end(&self.store, open.size)?;
            let manifest = self.store.holds == Holds::Contexts
                && open.head.starts_with(&super::manifest::HEAD)
                && open.size <= limits::CONTEXT_MANIFEST_BYTES;
            self.staged.push(Staged { digest: open.digest, manifest });
            self.stored.blobs += 1;
            self.stored.bytes += open.size;
        }
        Ok(())
    }

    /// Makes everything that came durable and visible: files first, then the manifests that name them.
    pub fn finish(self) -> Result<Stored, Error> {
        if let Some(open) = &self.open {
            return Err(Invalid::new(
                "parts.last",
                open.digest,
                format!("the upload ended after {} of {} bytes", open.received, open.size),
            )
            .into());
        }
        let Some(folder) = &self.folder else { return Ok(self.stored) };
        let staged = |digest: Blake3| folder.path().join(digest.hex());
        let files: Vec<PathBuf> = self.staged.iter().map(|blob| staged(blob.digest)).collect();
        self.store.sync_content(&files)?;
        let (manifests, plain): (Vec<&Staged>, Vec<&Staged>) =
            self.staged.iter().partition(|blob| blob.manifest);
        self.publish(&plain.iter().map(|blob| blob.digest).collect::<Vec<_>>(), staged)?;
        for manifest in manifests {
            self.store.place_manifest(&staged(manifest.digest), manifest.digest)?;
        }
        Ok(self.stored)
    }

    fn publish(&self, digests: &[Blake3], staged: impl Fn(Blake3) -> PathBuf) -> Result<(), disk::Error> {
        digests.iter().try_for_each(|digest| self.store.place(&staged(*digest), *digest))?;
        self.store.sync_names(digests)
    }
}

impl Open {
    fn take(&mut self, store: &Store, data: &[u8]) -> Result<(), Error> {
        let received = self.received.saturating_add(data.len() as u64);
        if received > self.size {
            return Err(Invalid::new(
                "parts.data",
                format!("{received} bytes"),
                format!("{} was announced with {} bytes", self.digest, self.size),
            )
            .into());
        }
        if self.head.len() < super::manifest::HEAD.len() {
            let wanted = super::manifest::HEAD.len() - self.head.len();
            self.head.extend_from_slice(&data[..wanted.min(data.len())]);
        }
        self.hasher.update(data);
        if let Some(writing) = &mut self.file {
            writing.write(store, self.received, data)?;
        }
        self.received = received;
        Ok(())
    }
}

impl Writing {
    /// Writes what belongs at `offset`; zeros become holes, and need no room on the disk.
    fn write(&mut self, store: &Store, mut offset: u64, data: &[u8]) -> Result<(), disk::Error> {
        for run in runs(offset, data) {
            if let Run::Data(data) = run {
                store.spare(data.len() as u64)?;
                self.file.write_all_at(data, offset).map_err(|source| store.wrong(&self.path, source))?;
                self.length = offset + data.len() as u64;
            }
            offset += run.bytes() as u64;
        }
        Ok(())
    }

    /// Gives the file its length, where it ends in a hole.
    fn end(&self, store: &Store, size: u64) -> Result<(), disk::Error> {
        if self.length == size {
            return Ok(());
        }
        self.file.set_len(size).map_err(|source| store.wrong(&self.path, source))
    }
}
