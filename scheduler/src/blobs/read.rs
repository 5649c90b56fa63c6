//! One download: blobs in the order asked for, small ones together, large ones in pieces.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use archyard_model::{Blake3, limits};
use archyard_proto::v1 as proto;
use bytes::Bytes;

use super::{Error, Store};

/// What a part costs beside its data, so that a message of many empty files stays small too.
const PART_BYTES: usize = 64;

/// A download under way; each call reads one message's worth.
#[derive(Debug)]
pub struct Reader {
    store: Arc<Store>,
    wanted: std::vec::IntoIter<Blake3>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    digest: Blake3,
    file: File,
    size: u64,
    sent: u64,
}

impl Reader {
    /// A download of these blobs.
    pub fn new(store: Arc<Store>, wanted: Vec<Blake3>) -> Self {
        Self { store, wanted: wanted.into_iter(), open: None }
    }

    /// The next message; none after the last.
    pub fn read(&mut self) -> Result<Option<proto::DownloadResponse>, Error> {
        let mut parts = Vec::new();
        let mut room = limits::BLOB_MESSAGE_BYTES;
        while room > PART_BYTES {
            let Some(mut open) = self.next_open()? else { break };
            let left = usize::try_from(open.size - open.sent).unwrap_or(usize::MAX);
            let mut data = vec![0; left.min(room - PART_BYTES)];
            open.file
                .read_exact(&mut data)
                .map_err(|source| self.store.wrong(&self.store.path(open.digest), source))?;
            let first = open.sent == 0;
            open.sent += data.len() as u64;
            room -= data.len() + PART_BYTES;
            let last = open.sent == open.size;
            parts.push(proto::BlobPart {
                digest: Bytes::copy_from_slice(open.digest.as_bytes()),
                size_bytes: if first { open.size } else { 0 },
                data: data.into(),
                last,
            });
            if !last {
                self.open = Some(open);
            }
        }
        Ok((!parts.is_empty()).then_some(proto::DownloadResponse { parts }))
    }

    fn next_open(&mut self) -> Result<Option<Open>, Error> {
        if let Some(open) = self.open.take() {
            return Ok(Some(open));
        }
        let Some(digest) = self.wanted.next() else { return Ok(None) };
        let (file, size) = self.store.open_blob(digest)?;
        Ok(Some(Open { digest, file, size, sent: 0 }))
    }
}
