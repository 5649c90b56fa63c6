//! One upload of a worker: blobs come in, are verified, and are then kept for its build.

use std::sync::Arc;

use archyard_model::{Blake3, BuildId};
use archyard_proto::v1 as proto;

use super::{Artifacts, Error};
use crate::blobs::{Ingest, Stored};

/// An upload under way. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    artifacts: Arc<Artifacts>,
    build: BuildId,
    ingest: Option<Ingest>,
    digests: Vec<Blake3>,
    reserved: u64,
}

impl Upload {
    /// A new upload, for a build.
    pub fn new(artifacts: Arc<Artifacts>, build: BuildId) -> Self {
        let ingest = Some(Ingest::new(Arc::clone(artifacts.blobs())));
        Self { artifacts, build, ingest, digests: Vec::new(), reserved: 0 }
    }

    /// Takes the parts of one message.
    pub fn take(&mut self, parts: Vec<proto::BlobPart>) -> Result<(), Error> {
        for part in &parts {
            let Ok(digest) = Blake3::try_from(&*part.digest) else { continue };
            if part.size_bytes > 0 && !self.artifacts.blobs().has(digest) {
                self.artifacts.reserve(part.size_bytes)?;
                self.reserved += part.size_bytes;
            }
            if part.last {
                self.digests.push(digest);
            }
        }
        let Some(ingest) = &mut self.ingest else { return Ok(()) };
        Ok(ingest.take(proto::UploadRequest { parts })?)
    }

    /// Makes everything that came durable, and keeps it for the build.
    pub fn finish(mut self) -> Result<Stored, Error> {
        let Some(ingest) = self.ingest.take() else { return Ok(Stored::default()) };
        let stored = ingest.finish()?;
        self.artifacts.settle(std::mem::take(&mut self.reserved), stored.bytes);
        self.artifacts.keep(self.build, &self.digests)?;
        Ok(stored)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.artifacts.settle(self.reserved, 0);
    }
}
