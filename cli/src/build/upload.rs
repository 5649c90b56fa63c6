//! Brings a context to the farm: asks what is missing, and streams only that.
//!
//! Files are read as they are sent, hashed on the way, and never held in memory. One that changed since it was planned
//! ends the upload, and the farm forgets what it has of it.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use archyard_model::{Blake3, limits};
use archyard_plan::{Planned, Snapshot};
use archyard_proto::v1 as proto;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::build::Updates;
use crate::build::retry::{BEFORE_SUBMISSION, persist};
use crate::farm::Farm;
use crate::progress::Update;
use crate::status::is_transient;

/// Messages read ahead of the network.
const AHEAD: usize = 4;
/// What is left of a message is not worth opening another file for.
const FULL: usize = limits::BLOB_MESSAGE_BYTES - 4 * 1024;
/// Between two updates of what was sent.
const TELL: Duration = Duration::from_millis(100);
/// Uploads in a row that break off before the farm counts as unavailable.
const TRIES: usize = 5;

/// A blob that the farm lacks.
#[derive(Debug, Clone)]
enum Missing {
    /// The manifest or the Dockerfile.
    Memory(Blake3, Bytes),
    /// Of the context.
    File(Blake3),
}

/// What is brought to the farm. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Cargo {
    pub(crate) snapshot: Arc<Snapshot>,
    /// None: the farm has it.
    pub(crate) dockerfile: Option<(Blake3, Bytes)>,
}

impl Cargo {
    /// All that a plan names.
    pub(crate) fn of(planned: &Planned) -> Self {
        let dockerfile = (planned.plan.dockerfile, Bytes::copy_from_slice(&planned.dockerfile));
        Self { snapshot: Arc::clone(&planned.snapshot), dockerfile: Some(dockerfile) }
    }
}

/// Returns when the farm has all of it.
pub(crate) async fn upload(farm: &Farm, cargo: &Cargo, updates: &Updates) -> Result<()> {
    let mut tries = 0;
    loop {
        let missing = missing(farm, cargo, updates).await?;
        if missing.is_empty() {
            return Ok(());
        }
        match send(farm, cargo, missing, updates).await {
            // The scheduler restarts, perhaps: what it has by then is not sent again.
            Err(error) if tries < TRIES && error.downcast_ref::<Status>().is_some_and(is_transient) => {
                tries += 1;
            }
            Err(error) => return Err(error.context("the context could not be uploaded")),
            Ok(()) => return Ok(()),
        }
    }
}

/// What the farm lacks, asking first for the manifest, which answers for all that it names.
async fn missing(farm: &Farm, cargo: &Cargo, updates: &Updates) -> Result<Vec<Missing>> {
    let context = &cargo.snapshot.reference;
    let dockerfile = cargo.dockerfile.as_ref();
    let small: Vec<Blake3> =
        dockerfile.map(|(digest, _)| *digest).into_iter().chain([context.manifest_digest]).collect();
    let lacking = find_missing(farm, &small, updates).await?;
    let mut missing = Vec::new();
    if lacking.contains(&context.manifest_digest) {
        let digests: Vec<Blake3> = cargo.snapshot.blobs().map(|blob| blob.digest).collect();
        for digests in digests.chunks(limits::BLOB_DIGESTS) {
            let lacking = find_missing(farm, digests, updates).await?;
            missing
                .extend(digests.iter().filter(|digest| lacking.contains(digest)).copied().map(Missing::File));
        }
    }
    if let Some((digest, bytes)) = dockerfile.filter(|(digest, _)| lacking.contains(digest)) {
        missing.push(Missing::Memory(*digest, bytes.clone()));
    }
    // Last: whoever sees the manifest may count on its files.
    if lacking.contains(&context.manifest_digest) {
        let encoded = Bytes::copy_from_slice(&cargo.snapshot.encoded);
        missing.push(Missing::Memory(context.manifest_digest, encoded));
    }
    Ok(missing)
}

async fn find_missing(farm: &Farm, digests: &[Blake3], updates: &Updates) -> Result<HashSet<Blake3>> {
    let request = proto::FindMissingRequest {
        digests: digests.iter().map(|digest| digest.as_bytes().to_vec()).collect(),
    };
    let answer = persist(updates, Some(BEFORE_SUBMISSION), || {
        let (mut client, request) = (farm.contexts(), request.clone());
        async move { client.find_missing(request).await }
    });
    let digests = answer.await?.into_inner().digests;
    let digests: Result<_, _> = digests.iter().map(|digest| Blake3::try_from(digest.as_slice())).collect();
    digests.context("the farm answered with what is no digest")
}

async fn send(farm: &Farm, cargo: &Cargo, missing: Vec<Missing>, updates: &Updates) -> Result<()> {
    let (messages, stream) = mpsc::channel(AHEAD);
    let snapshot = Arc::clone(&cargo.snapshot);
    let updates = updates.clone();
    let reader = tokio::task::spawn_blocking(move || {
        let mut batch = Batch::new(messages, updates, total(&snapshot, &missing));
        let outcome =
            missing.iter().try_for_each(|blob| batch.blob(&snapshot, blob)).and_then(|()| batch.flush());
        // The channel goes along: a stream that just ends would tell the farm that all is well.
        outcome.map_err(|stop| Box::new((stop, batch)))
    });
    let mut client = farm.contexts();
    let call = client.upload(ReceiverStream::new(stream));
    tokio::pin!(call);
    tokio::pin!(reader);
    let mut done = false;
    loop {
        tokio::select! {
            answer = &mut call => return answer.map(drop).map_err(anyhow::Error::from),
            outcome = &mut reader, if !done => match outcome.context("reading the context was cut short")? {
                Err(stopped) => match *stopped {
                    (Stop::Plan(error), _open) => return Err(error.into()),
                    // The call knows why.
                    (Stop::Refused, _) => done = true,
                },
                Ok(()) => done = true,
            },
        }
    }
}

fn total(snapshot: &Snapshot, missing: &[Missing]) -> u64 {
    let size = |blob: &Missing| match blob {
        Missing::Memory(_, bytes) => bytes.len() as u64,
        Missing::File(digest) => snapshot.blob(*digest).map_or(0, |blob| blob.size),
    };
    missing.iter().map(size).sum()
}

/// Why reading stopped.
enum Stop {
    /// A file changed, or cannot be read any more.
    Plan(archyard_plan::Error),
    /// Nobody takes messages any more.
    Refused,
}

/// Many small blobs go in one message; a large one in several.
struct Batch {
    messages: mpsc::Sender<proto::UploadRequest>,
    parts: Vec<proto::BlobPart>,
    size: usize,
    updates: Updates,
    sent_bytes: u64,
    total_bytes: u64,
    told: Instant,
}

impl Batch {
    fn new(messages: mpsc::Sender<proto::UploadRequest>, updates: Updates, total_bytes: u64) -> Self {
        Self {
            messages,
            parts: Vec::new(),
            size: 0,
            updates,
            sent_bytes: 0,
            total_bytes,
            told: Instant::now(),
        }
    }

    fn blob(&mut self, snapshot: &Snapshot, blob: &Missing) -> Result<(), Stop> {
        match blob {
            Missing::Memory(digest, bytes) => self.memory(*digest, bytes.clone()),
            Missing::File(digest) => self.file(snapshot, *digest),
        }
    }

    fn memory(&mut self, digest: Blake3, mut rest: Bytes) -> Result<(), Stop> {
        let size = rest.len() as u64;
        let mut first = true;
        loop {
            let data = rest.split_to(rest.len().min(self.room()));
            let last = rest.is_empty();
            self.part(digest, first.then_some(size), data, last)?;
            if last {
                return Ok(());
            }
            first = false;
        }
    }

    fn file(&mut self, snapshot: &Snapshot, digest: Blake3) -> Result<(), Stop> {
        let Some(blob) = snapshot.blob(digest) else { return Ok(()) };
        let mut reader = snapshot.open(blob).map_err(Stop::Plan)?;
        let mut first = true;
        loop {
            let wanted = usize::try_from(reader.remaining()).unwrap_or(usize::MAX).min(self.room());
            let data = read(&mut reader, wanted, blob.path)?;
            let last = reader.remaining() == 0;
            self.part(digest, first.then_some(blob.size), data, last)?;
            if last {
                return Ok(());
            }
            first = false;
        }
    }

    fn room(&self) -> usize {
        limits::BLOB_MESSAGE_BYTES - self.size
    }

    fn part(&mut self, digest: Blake3, size: Option<u64>, data: Bytes, last: bool) -> Result<(), Stop> {
        self.size += data.len();
        self.sent_bytes += data.len() as u64;
        self.parts.push(proto::BlobPart {
            digest: digest.as_bytes().to_vec().into(),
            size_bytes: size.unwrap_or_default(),
            data,
            last,
        });
        // Empty files are parts too.
        if self.size >= FULL || self.parts.len() >= 4096 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Stop> {
        if !self.parts.is_empty() {
            let parts = std::mem::take(&mut self.parts);
            self.size = 0;
            self.messages.blocking_send(proto::UploadRequest { parts }).map_err(|_| Stop::Refused)?;
        }
        let (sent_bytes, total_bytes) = (self.sent_bytes, self.total_bytes);
        if sent_bytes == total_bytes || self.told.elapsed() >= TELL {
            self.told = Instant::now();
            // A screen that lags behind misses one.
            self.updates.try_send(Update::Uploading { sent_bytes, total_bytes }).ok();
        }
        Ok(())
    }
}

fn read(reader: &mut archyard_plan::BlobReader, wanted: usize, path: &Path) -> Result<Bytes, Stop> {
    let mut data = vec![0; wanted];
    let mut filled = 0;
    while filled < wanted {
        let read = reader.read(&mut data[filled..]);
        match read.map_err(|error| Stop::Plan(archyard_plan::Error::from_read(error, path)))? {
            0 => break,
            read => filled += read,
        }
    }
    data.truncate(filled);
    Ok(data.into())
}
