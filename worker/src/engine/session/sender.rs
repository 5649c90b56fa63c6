//! The sending half of FileSync: answers requests for files with their bytes, in the order asked.
//!
//! Requests are read whether or not BuildKit takes what is sent: it stops reading us while its requests wait.

use std::collections::{HashSet, VecDeque};
use std::future::pending;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tonic::Streaming;

use super::filesync::{Files, Listing};
use super::wire::{DATA, ERROR, FIN, Outgoing, Packet, REQUEST, STAT};

/// Content of one packet; BuildKit takes at most 4 MiB.
const CHUNK_BYTES: usize = 256 * 1024;
/// Content read ahead at a time.
pub(super) const BATCH_BYTES: usize = 1024 * 1024;

/// Serves one listing's content until BuildKit says that it has everything, or goes away.
pub(super) async fn run(
    listing: Arc<Listing>,
    files: Arc<Files>,
    mut requests: Streaming<Packet>,
    batches: mpsc::Sender<Vec<Outgoing>>,
) {
    let mut sender = Sender::new(listing);
    loop {
        sender.start_reading();
        tokio::select! {
            packet = requests.message() => match packet {
                Ok(Some(packet)) => match sender.take(&packet) {
                    Step::Continue => {}
                    Step::Finish => return send_last(&batches, Outgoing::Fin).await,
                    Step::Fail(reason) => {
                        tracing::warn!(reason, "FileSync ended by BuildKit");
                        return send_last(&batches, Outgoing::Failed(reason)).await;
                    }
                },
                // BuildKit hung up: nobody is left to be told.
                Ok(None) | Err(_) => return,
            },
            batch = sender.read() => match batch {
                Ok(batch) => sender.ready = Some(batch),
                Err(reason) => {
                    files.fail(&reason);
                    return send_last(&batches, Outgoing::Failed(reason)).await;
                }
            },
            permit = batches.reserve(), if sender.ready.is_some() => match permit {
                Ok(permit) => permit.send(sender.ready.take().unwrap_or_default()),
                Err(_) => return,
            },
        }
    }
}

/// The receiver is gone only when BuildKit is.
async fn send_last(batches: &mpsc::Sender<Vec<Outgoing>>, last: Outgoing) {
    batches.send(vec![last]).await.ok();
}

/// File content, or why there is none.
type Batch = Result<Vec<Outgoing>, String>;

enum Step {
    Continue,
    Finish,
    Fail(String),
}

struct Sender {
    listing: Arc<Listing>,
    /// Each number is asked for at most once, which bounds `wanted`.
    asked: HashSet<u32>,
    wanted: VecDeque<u32>,
    idle: Option<Reader>,
    reading: Option<JoinHandle<(Reader, Batch)>>,
    ready: Option<Vec<Outgoing>>,
}

impl Sender {
    fn new(listing: Arc<Listing>) -> Self {
        let reader = Reader { listing: listing.clone(), wanted: VecDeque::new(), open: None };
        Self {
            listing,
            asked: HashSet::new(),
            wanted: VecDeque::new(),
            idle: Some(reader),
            reading: None,
            ready: None,
        }
    }

    fn take(&mut self, packet: &Packet) -> Step {
        match packet.kind {
            REQUEST if packet.id >= self.listing.len() => {
                Step::Fail(format!("entry {} was never announced", packet.id))
            }
            REQUEST if !self.asked.insert(packet.id) => {
                Step::Fail(format!("entry {} was asked for twice", packet.id))
            }
            REQUEST => {
                self.wanted.push_back(packet.id);
                Step::Continue
            }
            FIN => Step::Finish,
            ERROR => Step::Fail(String::from_utf8_lossy(&packet.data).into_owned()),
            STAT | DATA => Step::Fail("a receiver sends no files".to_owned()),
            // What a later version may say beside this.
            _ => Step::Continue,
        }
    }

    /// Reads ahead by one batch, on a thread where blocking is allowed.
    fn start_reading(&mut self) {
        let has_work = |reader: &Reader| reader.open.is_some() || !self.wanted.is_empty();
        if self.ready.is_some() || self.reading.is_some() || !self.idle.as_ref().is_some_and(has_work) {
            return;
        }
        if let Some(mut reader) = self.idle.take() {
            reader.wanted.append(&mut self.wanted);
            self.reading = Some(spawn_blocking(move || {
                let batch = reader.read_batch();
                (reader, batch)
            }));
        }
    }

    /// The batch that is being read; never ready while there is none.
    async fn read(&mut self) -> Batch {
        let Some(reading) = &mut self.reading else { return pending().await };
        let read = reading.await;
        self.reading = None;
        let (mut reader, batch) = read.map_err(|error| format!("reading the context failed: {error}"))?;
        // What it had no room for comes first again.
        reader.wanted.append(&mut self.wanted);
        std::mem::swap(&mut self.wanted, &mut reader.wanted);
        self.idle = Some(reader);
        batch
    }
}

/// Reads files, one after the other.
struct Reader {
    listing: Arc<Listing>,
    wanted: VecDeque<u32>,
    open: Option<Open>,
}

struct Open {
    id: u32,
    file: Box<dyn Read + Send>,
    left_bytes: u64,
}

impl Reader {
    /// At most [`BATCH_BYTES`], and what is left for the next time stays.
    fn read_batch(&mut self) -> Batch {
        let mut batch = Vec::new();
        let mut room = BATCH_BYTES;
        while room > 0 {
            if self.open.is_none() {
                let Some(id) = self.wanted.pop_front() else { break };
                let (file, left_bytes) = self.listing.open(id).map_err(|error| self.problem(id, &error))?;
                self.open = Some(Open { id, file, left_bytes });
            }
            let Some(open) = &mut self.open else { break };
            let id = open.id;
            let chunk = open.read(room.min(CHUNK_BYTES));
            let chunk = chunk.map_err(|error| self.problem(id, &error))?;
            // An empty chunk costs something too.
            room = room.saturating_sub(chunk.len().max(256));
            if chunk.is_empty() {
                self.open = None;
            }
            batch.push(Outgoing::Data(id, chunk));
        }
        Ok(batch)
    }

    fn problem(&self, id: u32, error: &std::io::Error) -> String {
        let path = self.listing.entry(id).map(|entry| String::from_utf8_lossy(&entry.path));
        format!("cannot read {} of the context on the worker: {error}", path.unwrap_or_default())
    }
}

impl Open {
    /// Up to `limit` bytes; none at the end. A file shorter than announced is an error.
    fn read(&mut self, limit: usize) -> std::io::Result<Bytes> {
        let length = usize::try_from(self.left_bytes).map_or(limit, |left| left.min(limit));
        let mut buffer = vec![0; length];
        self.file.read_exact(&mut buffer)?;
        self.left_bytes -= length as u64;
        Ok(buffer.into())
    }
}
