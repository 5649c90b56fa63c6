//! The attempt's log, from whoever has something to say to the spool.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use archyard_model::{Failure, FailureClass};
use archyard_proto::v1::LogFrame;
use archyard_proto::v1::log_frame::{Frame, PhaseStarted};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::spool::Writer;

/// Frames between the Engine and the disk.
const QUEUE: usize = 256;
/// How long a frame may wait for others: nobody who reads along notices. The end of the log waits for nothing.
const GATHERING: Duration = Duration::from_millis(20);

/// Takes frames, and has them on disk soon after.
#[derive(Debug)]
pub(super) struct Log {
    sender: mpsc::Sender<LogFrame>,
    writer: JoinSet<io::Result<Option<String>>>,
}

impl Log {
    /// A new spool at `path`. Fires `cancel` when it cannot be written any more: a build without a log is not
    /// worth its end.
    pub(super) fn create(path: &Path, cancel: CancellationToken) -> io::Result<Self> {
        let writer = Writer::create(path)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let written = write(writer, receiver).await;
            if written.is_err() {
                cancel.cancel();
            }
            written
        });
        Ok(Self { sender, writer: tasks })
    }

    /// For frames, in order.
    pub(super) fn sender(&self) -> mpsc::Sender<LogFrame> {
        self.sender.clone()
    }

    /// Says what begins now.
    pub(super) async fn phase(&self, name: &str, detail: String) {
        tracing::info!(phase = name, detail, "begins");
        let frame = Frame::Phase(PhaseStarted { name: name.to_owned(), detail });
        let frame = LogFrame { at: Some(SystemTime::now().into()), frame: Some(frame) };
        if self.sender.send(frame).await.is_err() {
            tracing::debug!("the log is closed");
        }
    }

    /// Waits until everything is on disk. Returns why the log is not whole, where it is not.
    pub(super) async fn close(self) -> io::Result<Option<String>> {
        let Self { sender, mut writer } = self;
        drop(sender);
        match writer.join_next().await {
            Some(Ok(written)) => written,
            Some(Err(error)) => Err(io::Error::other(error)),
            None => Ok(None),
        }
    }
}

/// A log that could not be written, as a failure.
pub(super) fn failure(spool: &Path, error: &io::Error) -> Failure {
    let spool = spool.display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::new(
            FailureClass::Infrastructure,
            "disk_full",
            format!("the worker's disk is full while writing the log {spool}: free some space there"),
        ),
        _ => Failure::new(
            FailureClass::Infrastructure,
            "disk_failed",
            format!("the log {spool} cannot be written: {error}"),
        ),
    }
}

/// Writes until every sender is gone. What comes within a moment is written together: each write wakes the agent,
/// the scheduler and every reader, on processors that the build needs.
async fn write(mut writer: Writer, mut frames: mpsc::Receiver<LogFrame>) -> io::Result<Option<String>> {
    while let Some(frame) = frames.recv().await {
        writer.append(frame)?;
        let flush_at = Instant::now() + GATHERING;
        while let Ok(Some(frame)) = timeout_at(flush_at, frames.recv()).await {
            writer.append(frame)?;
        }
        writer.flush()?;
    }
    Ok(writer.warning())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Frames;
    use std::fs::File;

    #[tokio::test]
    async fn everything_said_is_on_disk_when_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let log = Log::create(&path, CancellationToken::new()).unwrap();
        log.phase("context", "1 file".to_owned()).await;
        let sender = log.sender();
        for _ in 0..1_000 {
            sender.send(LogFrame::default()).await.unwrap();
        }
        drop(sender);
        assert_eq!(log.close().await.unwrap(), None);
        assert_eq!(Frames::new(File::open(&path).unwrap()).count(), 1_001);
    }

    #[tokio::test]
    async fn a_full_disk_cancels_the_attempt() {
        let cancel = CancellationToken::new();
        let log = Log::create(Path::new("/dev/full/spool"), cancel.clone());
        assert!(log.is_err());
        let error = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(failure(Path::new("/x/spool"), &error).code, "disk_full");
    }
}
