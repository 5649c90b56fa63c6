//! FileSync: BuildKit asks for a directory by name, learns what is in it, and asks for the files it lacks.

use std::io::{self, Cursor, Read};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use archyard_model::{Blake3, ContextEntry, EntryKind};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::{Status, Streaming};

use super::selection::select;
use super::sender;
use super::wire::{Outgoing, Packet, PacketCodec, itself};
use crate::engine::Source;
use crate::engine::tasks::Spawner;

/// Batches of file content that wait for BuildKit; each holds at most [`sender::BATCH_BYTES`].
const BATCHES: usize = 2;

/// The directories of one build.
pub(in crate::engine) struct Files {
    context: Arc<dyn Source>,
    dockerfile: Arc<Dockerfile>,
    /// BuildKit was handed the whole of what is here, whatever the Dockerfile reads of it.
    handed_over: bool,
    failure: OnceLock<Unserved>,
}

/// Why files could not be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) enum Unserved {
    /// They are not to be read on this machine.
    Unreadable(String),
    /// The context is a part of its source, and BuildKit asks for more.
    Incomplete(String),
}

/// A directory that holds one file.
pub(in crate::engine) struct Dockerfile {
    entry: ContextEntry,
    content: Bytes,
}

/// One directory, or the part of it that was asked for.
pub(super) struct Listing {
    tree: Tree,
    selected: Option<Vec<u32>>,
}

enum Tree {
    Context(Arc<dyn Source>),
    Dockerfile(Arc<Dockerfile>),
}

impl Dockerfile {
    /// A file of this name, which has no `/`, and content.
    pub(in crate::engine) fn new(name: &str, content: Bytes) -> Self {
        let digest = Blake3::of(&content);
        let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
        let entry = ContextEntry {
            path: name.into(),
            mode: 0o644,
            // The time stands for the content, for BuildKit compares nothing else. The frontend reads this directory and
            // nothing copies from it, so no build and no image can see the time. A date that every file system holds.
            modified_s: i64::from(u32::from_le_bytes([a, b, c, d]) >> 2),
            modified_ns: u32::from_le_bytes([e, f, g, h]) % 1_000_000_000,
            xattrs: Vec::new(),
            kind: EntryKind::File { size: content.len() as u64, digest },
        };
        Self { entry, content }
    }
}

impl Files {
    pub(in crate::engine) fn new(
        context: Arc<dyn Source>,
        dockerfile: Dockerfile,
        handed_over: bool,
    ) -> Self {
        Self { context, dockerfile: Arc::new(dockerfile), handed_over, failure: OnceLock::new() }
    }

    /// Why a file could not be served, if that happened: then it is not the Dockerfile's fault that the build
    /// failed.
    pub(in crate::engine) fn failure(&self) -> Option<&Unserved> {
        self.failure.get()
    }

    pub(super) fn fail(&self, reason: &str) {
        // The first reason is the one that failed the build.
        self.failure.get_or_init(|| Unserved::Unreadable(reason.to_owned()));
    }

    /// Refuses a question that a part of the source does not answer: what is left out would silently be missing.
    fn check(&self, patterns: &[Vec<u8>]) -> Result<(), Status> {
        let asked: Vec<String> =
            patterns.iter().map(|pattern| String::from_utf8_lossy(pattern).into_owned()).collect();
        self.context.asked(&asked);
        let inputs = self.context.inputs();
        if self.handed_over || inputs.is_everything() {
            return Ok(());
        }
        let uncovered = match asked.is_empty() {
            true => Some("everything".to_owned()),
            // The client has applied it.
            false => {
                let mut asked = asked.iter().filter(|path| *path != ".dockerignore");
                asked.find(|path| !inputs.covers(path)).map(|path| format!("{path:?}"))
            }
        };
        let Some(path) = uncovered else { return Ok(()) };
        let reason = format!("BuildKit asks for {path}, and the client sent a part of the source without it");
        self.failure.get_or_init(|| Unserved::Incomplete(reason.clone()));
        Err(Status::failed_precondition(reason))
    }

    async fn listing(&self, headers: &HeaderMap) -> Result<Listing, Status> {
        let tree = match headers.get("dir-name").map(http::HeaderValue::as_bytes) {
            Some(b"context") => {
                self.context.known().await.map_err(|reason| {
                    self.fail(&reason);
                    Status::failed_precondition(reason)
                })?;
                Tree::Context(self.context.clone())
            }
            Some(b"dockerfile") => Tree::Dockerfile(self.dockerfile.clone()),
            name => {
                let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
                return Err(Status::not_found(format!("this build has no directory {name:?}")));
            }
        };
        let mut patterns = values(headers, "followpaths", "followpaths-encoded");
        patterns.append(&mut values(headers, "include-patterns", "include-patterns-encoded"));
        if matches!(tree, Tree::Context(_)) {
            self.check(&patterns)?;
        }
        let selected = select(tree.entries(), &patterns);
        Ok(Listing { tree, selected })
    }
}

impl Tree {
    fn entries(&self) -> &[ContextEntry] {
        match self {
            Self::Context(source) => source.entries(),
            Self::Dockerfile(file) => std::slice::from_ref(&file.entry),
        }
    }
}

impl Listing {
    /// How many entries are announced, and so one more than the largest number.
    pub(super) fn len(&self) -> u32 {
        let length = self.selected.as_ref().map_or(self.tree.entries().len(), Vec::len);
        u32::try_from(length).unwrap_or(u32::MAX)
    }

    /// The entry announced under this number.
    pub(super) fn entry(&self, id: u32) -> Option<&ContextEntry> {
        let at = match &self.selected {
            Some(selected) => *selected.get(id as usize)?,
            None => id,
        };
        self.tree.entries().get(at as usize)
    }

    /// This entry, or the file that it is a further name of.
    pub(super) fn itself<'a>(&'a self, entry: &'a ContextEntry) -> &'a ContextEntry {
        itself(self.tree.entries(), entry)
    }

    /// The content of the file announced under this number, and its length in bytes. Blocks.
    pub(super) fn open(&self, id: u32) -> io::Result<(Box<dyn Read + Send>, u64)> {
        let Some(EntryKind::File { digest, size }) = self.entry(id).map(|entry| &entry.kind) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("entry {id} is no file")));
        };
        match &self.tree {
            Tree::Context(source) => Ok((Box::new(source.open(digest)?), *size)),
            Tree::Dockerfile(file) => Ok((Box::new(Cursor::new(file.content.clone())), *size)),
        }
    }
}

/// Answers one call of the FileSync service.
pub(super) async fn serve(files: Arc<Files>, spawner: Spawner, request: Request<Incoming>) -> Response<Body> {
    if !request.uri().path().eq_ignore_ascii_case("/moby.filesync.v1.FileSync/DiffCopy") {
        return Status::unimplemented("only DiffCopy is served").into_http();
    }
    let listing = match files.listing(request.headers()).await {
        Ok(listing) => Arc::new(listing),
        Err(status) => return status.into_http(),
    };
    let mut server = tonic::server::Grpc::new(PacketCodec(listing.clone()));
    let service = tower::service_fn(move |request: tonic::Request<Streaming<Packet>>| {
        let (batches, data) = mpsc::channel(BATCHES);
        let outbound = Outbound { next: 0, length: listing.len(), batch: Vec::new().into_iter(), data };
        spawner.spawn(sender::run(listing.clone(), files.clone(), request.into_inner(), batches));
        std::future::ready(Ok(tonic::Response::new(outbound)))
    });
    server.streaming(service, request).await
}

/// The listing, then whatever content was asked for.
struct Outbound {
    next: u32,
    length: u32,
    batch: std::vec::IntoIter<Outgoing>,
    data: mpsc::Receiver<Vec<Outgoing>>,
}

impl Stream for Outbound {
    type Item = Result<Outgoing, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.next <= self.length {
            let id = self.next;
            self.next += 1;
            let item = if id < self.length { Outgoing::Stat(id) } else { Outgoing::EndOfStats };
            return Poll::Ready(Some(Ok(item)));
        }
        loop {
            if let Some(item) = self.batch.next() {
                return Poll::Ready(Some(Ok(item)));
            }
            match ready!(self.data.poll_recv(context)) {
                Some(batch) => self.batch = batch.into_iter(),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// A header's values; newer BuildKits escape those that are not plain ASCII, and say so.
fn values(headers: &HeaderMap, name: &str, encoded: &str) -> Vec<Vec<u8>> {
    let escaped = headers.get(encoded).is_some_and(|value| value == "1");
    let values = headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
    values.map(|value| if escaped { unescape(value) } else { value.to_vec() }).collect()
}

/// Undoes `%2F` and `+`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let mut byte = [0];
        rest = tail;
        match first {
            b'%' if tail.len() >= 2 && hex::decode_to_slice(&tail[..2], &mut byte).is_ok() => {
                plain.push(byte[0]);
                rest = &tail[2..];
            }
            b'+' => plain.push(b' '),
            other => plain.push(*other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_values_are_read_back() {
        assert_eq!(unescape("a%C3%A4+b%2F%".as_bytes()), "aä b/%".as_bytes());
        let mut headers = HeaderMap::new();
        headers.append("followpaths", "a+b".parse().unwrap());
        headers.append("followpaths", "c".parse().unwrap());
        assert_eq!(values(&headers, "followpaths", "followpaths-encoded"), [b"a+b".to_vec(), b"c".to_vec()]);
        headers.append("followpaths-encoded", "1".parse().unwrap());
        assert_eq!(values(&headers, "followpaths", "followpaths-encoded"), [b"a b".to_vec(), b"c".to_vec()]);
    }
}
