//! WorkerService: the spool stream. Bytes are readable as they arrive, and acknowledged once they are durable.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use archyard_model::convert::{attempt_from_proto, attempt_to_proto};
use archyard_model::{AttemptId, Invalid, limits};
use archyard_proto::v1 as proto;
use proto::spool_upload::Message;
use tokio::time::Instant;
use tonic::Streaming;

use super::Shared;
use super::fate::Fate;
use super::stream::{Gone, Sink, Stop, Stream, fed_by};
use crate::disk;
use crate::spools::Spool;

/// Acknowledgements that wait for a slow worker.
const DEPTH: usize = 64;
/// Bytes wait at most this long to be made durable: one sync serves all that arrived meanwhile.
const SYNC_EVERY: Duration = Duration::from_millis(100);
/// And no more of them than this.
const SYNC_BYTES: usize = 4 * 1024 * 1024;
/// Spools that one stream keeps open.
const OPEN: usize = 4 * limits::WORKER_SLOTS as usize;

/// One worker's spool stream.
struct Receiving {
    shared: Shared,
    sink: Sink<proto::SpoolAck>,
    open: HashMap<AttemptId, Arc<Spool>>,
    /// Appended to and not yet synced.
    dirty: HashMap<AttemptId, Arc<Spool>>,
    dirty_bytes: usize,
    sync_at: Option<Instant>,
}

/// Takes what a worker sends until it stops.
pub(super) fn receive(shared: &Shared, uploads: Streaming<proto::SpoolUpload>) -> Stream<proto::SpoolAck> {
    let owned = shared.clone();
    fed_by(shared, DEPTH, |sink| async move {
        let mut receiving = Receiving {
            shared: owned,
            sink,
            open: HashMap::new(),
            dirty: HashMap::new(),
            dirty_bytes: 0,
            sync_at: None,
        };
        match receiving.run(uploads).await {
            Ok(()) => Ok(()),
            Err(Stop::Gone) => Err(Gone),
            Err(Stop::Failed(status)) => receiving.sink.fail(status).await,
        }
    })
}

impl Receiving {
    async fn run(&mut self, mut uploads: Streaming<proto::SpoolUpload>) -> Result<(), Stop> {
        loop {
            let sync_at = self.sync_at;
            let upload = tokio::select! {
                upload = uploads.message() => upload?,
                () = until(sync_at) => {
                    self.sync().await?;
                    continue;
                }
            };
            let Some(upload) = upload else { return self.sync().await };
            let attempt = attempt_from_proto(upload.attempt)?;
            match upload.message {
                Some(Message::Open(proto::SpoolOpen {})) => self.open(attempt).await?,
                Some(Message::Data(data)) => self.data(attempt, data).await?,
                None => return Err(Invalid::new("message", "", "it is empty; upgrade the scheduler").into()),
            }
        }
    }

    async fn open(&mut self, attempt: AttemptId) -> Result<(), Stop> {
        let fate = self.shared.fate(attempt).await?;
        let removed = self.shared.retention.removed(attempt.job.build).is_some();
        if removed || matches!(fate, Fate::Unknown | Fate::Lost) {
            self.open.remove(&attempt);
            return Ok(self.acknowledge(attempt, 0, true).await?);
        }
        if self.open.len() >= OPEN && !self.open.contains_key(&attempt) {
            return Err(Invalid::new("open", attempt, format!("a stream opens at most {OPEN} spools")).into());
        }
        let spools = Arc::clone(&self.shared.spools);
        let spool = self.shared.blocking(move || spools.get(attempt)).await?;
        let held = spool.progress().bytes;
        self.open.insert(attempt, spool);
        Ok(self.acknowledge(attempt, held, false).await?)
    }

    async fn data(&mut self, attempt: AttemptId, data: proto::SpoolData) -> Result<(), Stop> {
        if data.data.len() > limits::LOG_CHUNK_BYTES {
            let problem = format!("a message holds at most {} bytes of a log", limits::LOG_CHUNK_BYTES);
            return Err(Invalid::new("data.data", format!("{} bytes", data.data.len()), problem).into());
        }
        let Some(spool) = self.open.get(&attempt).cloned() else {
            return Err(
                Invalid::new("attempt", attempt, "its spool is not open; send SpoolOpen first").into()
            );
        };
        let (last, length) = (data.last, data.data.len());
        let writer = Arc::clone(&spool);
        self.shared.blocking(move || writer.append(data.offset, &data.data, data.last)).await?;
        self.dirty.insert(attempt, spool);
        self.dirty_bytes += length;
        self.sync_at.get_or_insert_with(|| Instant::now() + SYNC_EVERY);
        if last || self.dirty_bytes >= SYNC_BYTES {
            self.sync().await?;
        }
        if last {
            self.open.remove(&attempt);
        }
        Ok(())
    }

    /// Makes everything durable that arrived, then says so.
    async fn sync(&mut self) -> Result<(), Stop> {
        self.sync_at = None;
        self.dirty_bytes = 0;
        let dirty = std::mem::take(&mut self.dirty);
        let synced = self
            .shared
            .blocking(move || {
                let sync = |(attempt, spool): (AttemptId, Arc<Spool>)| {
                    // What arrives while it syncs is the next one's.
                    let held = spool.progress().bytes;
                    spool.sync().map(|()| (attempt, held))
                };
                dirty.into_iter().map(sync).collect::<Result<Vec<_>, disk::Error>>()
            })
            .await?;
        for (attempt, held) in synced {
            self.acknowledge(attempt, held, false).await?;
        }
        Ok(())
    }

    async fn acknowledge(&self, attempt: AttemptId, held: u64, refused: bool) -> Result<(), Gone> {
        let attempt = Some(attempt_to_proto(attempt));
        self.sink.send(proto::SpoolAck { attempt, received_bytes: held, refused }).await
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
