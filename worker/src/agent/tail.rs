//! Copying one attempt's log while it grows.

use std::io;
use std::sync::Arc;

use archyard_model::AttemptId;
use archyard_proto::v1 as proto;
use bytes::Bytes;
use proto::spool_upload::Message;
use tokio::sync::{mpsc, watch};

use super::attempt::Attempt;
use crate::spool::Tail;

/// What the scheduler said of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acked {
    /// It holds so many bytes.
    pub(super) bytes: u64,
    /// It wants no more.
    pub(super) refused: bool,
}

/// Copies until the scheduler holds everything, or wants no more. An error ends the connection.
pub(super) async fn tail(
    attempt: Arc<Attempt>,
    up: mpsc::Sender<proto::SpoolUpload>,
    mut acks: watch::Receiver<Option<Acked>>,
) -> Result<AttemptId, String> {
    let mut activity = attempt.activity();
    let say = async |message| {
        let upload = proto::SpoolUpload { attempt: Some(attempt.reference()), message: Some(message) };
        up.send(upload).await.map_err(|_| "the connection is gone".to_owned())
    };
    say(Message::Open(proto::SpoolOpen {})).await?;
    let first = wait_for(&mut acks, |_| true).await?;
    if first.refused {
        return Ok(attempt.id);
    }
    let mut offset = first.bytes;
    let mut spool = None;
    loop {
        activity.mark_unchanged();
        // Asked before reading: after a result nothing is added.
        let is_complete = attempt.result().is_some();
        let (data, is_end) = read(&attempt, &mut spool, offset).await.map_err(|error| error.to_string())?;
        let last = is_complete && is_end;
        if last || !data.is_empty() {
            // What was acknowledged before says nothing of the end.
            acks.mark_unchanged();
            let length = data.len() as u64;
            say(Message::Data(proto::SpoolData { offset, data, last })).await?;
            offset += length;
        }
        if last {
            acks.changed().await.map_err(|error| error.to_string())?;
            wait_for(&mut acks, |acked| acked.refused || acked.bytes >= offset).await?;
            return Ok(attempt.id);
        }
        if is_end {
            tokio::select! {
                changed = activity.changed() => changed.map_err(|error| error.to_string())?,
                refused = wait_for(&mut acks, |acked| acked.refused) => return refused.map(|_| attempt.id),
            }
        }
    }
}

/// The next bytes, and whether they are the last for now.
async fn read(attempt: &Attempt, spool: &mut Option<Arc<Tail>>, offset: u64) -> io::Result<(Bytes, bool)> {
    let tail = match spool {
        Some(tail) => tail.clone(),
        None => match Tail::open(&attempt.dir.spool()) {
            Ok(tail) => spool.insert(Arc::new(tail)).clone(),
            // Its runner has not begun, or never did.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Bytes::new(), true)),
            Err(error) => return Err(error),
        },
    };
    tokio::task::spawn_blocking(move || tail.read(offset)).await.map_err(io::Error::other)?
}

async fn wait_for(
    acks: &mut watch::Receiver<Option<Acked>>,
    so: impl Fn(&Acked) -> bool,
) -> Result<Acked, String> {
    let acked = acks.wait_for(|acked| acked.as_ref().is_some_and(&so)).await;
    match acked.map_err(|error| error.to_string())?.as_ref() {
        Some(acked) => Ok(*acked),
        None => Err("no acknowledgement came".to_owned()),
    }
}
