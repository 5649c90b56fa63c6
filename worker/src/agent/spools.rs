//! The logs' way to the scheduler, on a connection of its own: bulk never delays a heartbeat.
//!
//! Per attempt the scheduler says how many bytes it holds, and the copy goes on from there; so a broken stream
//! loses and doubles nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use archyard_model::{AttemptId, convert, limits};
use archyard_proto::v1 as proto;
use proto::worker_service_client::WorkerServiceClient;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Shared;
use super::tail::{Acked, tail};
use crate::backoff::Backoff;

/// Chunks of up to 256 KiB between the disk and the connection, over all attempts.
const QUEUE: usize = 4;
/// How long the scheduler may take to open the stream.
const PATIENCE: Duration = Duration::from_secs(10);

/// Copies for as long as the agent lives.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::new();
    loop {
        let ended = tokio::select! {
            ended = copy(&shared, &mut backoff) => ended,
            () = shared.stop.cancelled() => return,
        };
        if let Err(reason) = ended {
            // The control connection says the same, louder.
            tracing::debug!(reason, "logs are not copied");
        }
        tokio::select! {
            () = backoff.wait() => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

/// One connection, until it is lost. It is made as soon as there is a log to copy.
async fn copy(shared: &Arc<Shared>, backoff: &mut Backoff) -> Result<(), String> {
    let any = shared.attempts.until(|all| all.iter().any(|attempt| attempt.is_unspooled()));
    any.await;
    let channel = shared.config.scheduler.connect().await.map_err(|error| error.to_string())?;
    let mut client = WorkerServiceClient::new(channel).max_decoding_message_size(limits::MESSAGE_BYTES);
    let (up, messages) = mpsc::channel(QUEUE);
    let mut copying = Copying { shared: shared.clone(), up, tails: JoinSet::new(), open: BTreeMap::new() };
    let mut changes = shared.attempts.changes();
    // A server may wait for the first message before it answers.
    copying.open_all();
    let opened = tokio::time::timeout(PATIENCE, client.spool(ReceiverStream::new(messages))).await;
    let mut acks = opened
        .map_err(|_| "the scheduler does not open the stream".to_owned())?
        .map_err(|status| status.to_string())?
        .into_inner();
    *backoff = Backoff::new();
    loop {
        tokio::select! {
            ack = next(&mut acks) => copying.acked(&ack?),
            _ = changes.changed() => copying.open_all(),
            Some(done) = copying.tails.join_next(), if !copying.tails.is_empty() => {
                copying.done(done.map_err(|error| error.to_string())??);
            }
        }
    }
}

async fn next(acks: &mut Streaming<proto::SpoolAck>) -> Result<proto::SpoolAck, String> {
    match acks.message().await {
        Ok(Some(ack)) => Ok(ack),
        Ok(None) => Err("the scheduler closed the stream".to_owned()),
        Err(status) => Err(status.to_string()),
    }
}

/// What is copied on one connection.
struct Copying {
    shared: Arc<Shared>,
    up: mpsc::Sender<proto::SpoolUpload>,
    tails: JoinSet<Result<AttemptId, String>>,
    open: BTreeMap<AttemptId, watch::Sender<Option<Acked>>>,
}

impl Copying {
    /// Begins with every log that is not begun with.
    fn open_all(&mut self) {
        for attempt in self.shared.attempts.all() {
            if attempt.is_unspooled() && !self.open.contains_key(&attempt.id) {
                let (acked, acks) = watch::channel(None);
                self.open.insert(attempt.id, acked);
                self.tails.spawn(tail(attempt, self.up.clone(), acks));
            }
        }
    }

    fn acked(&mut self, ack: &proto::SpoolAck) {
        let Ok(id) = convert::attempt_from_proto(ack.attempt.clone()) else {
            tracing::warn!("the scheduler acknowledged a log of no attempt");
            return;
        };
        if let Some(acked) = self.open.get(&id) {
            let (bytes, refused) = (ack.received_bytes, ack.refused);
            acked.send_replace(Some(Acked { bytes, refused }));
        }
    }

    fn done(&mut self, id: AttemptId) {
        if let Some(attempt) = self.shared.attempts.get(id) {
            attempt.set_spooled();
            self.shared.attempts.update(&attempt);
        }
        self.open.remove(&id);
    }
}
