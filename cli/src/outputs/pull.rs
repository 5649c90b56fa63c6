//! Brings artifacts from the farm, one after the other, to whoever writes them.
//!
//! A task reads the network, a thread writes the disk, a few messages wait between them. Every blob is verified before
//! the next begins, and the writer learns that all of them were: until then it must not give its file a name. When the
//! farm goes away the rest is asked for once it is back.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use archyard_model::{Artifact, Blake3, Sha256};
use archyard_proto::v1 as proto;
use bytes::{Buf as _, Bytes};
use sha2::Digest as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::build::Updates;
use crate::build::retry::Backoff;
use crate::exit::Refusal;
use crate::farm::Farm;
use crate::progress::Update;
use crate::status::is_transient;

/// Messages between network and disk, of up to 1 MiB.
const AHEAD: usize = 4;
/// How long nothing may arrive before it is given up.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two updates of what arrived.
const TELL: Duration = Duration::from_millis(100);

/// What is to be brought.
#[derive(Debug, Clone)]
pub(crate) struct Pull {
    pub(crate) farm: Farm,
    pub(crate) build: String,
    /// In this order.
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) updates: Updates,
    /// Ends it.
    pub(crate) stop: CancellationToken,
}

/// The bytes of all artifacts, one after the other.
#[derive(Debug)]
pub(crate) struct Incoming {
    messages: mpsc::Receiver<Message>,
    rest: Bytes,
    ended: bool,
}

/// `Ok(None)`: all of it was sent, and is what it should be.
type Message = io::Result<Option<Bytes>>;

impl Pull {
    /// Brings everything to `work`, which runs on a thread of its own. Returns once both are done.
    pub(crate) async fn through<T: Send + 'static>(
        self,
        work: impl FnOnce(&mut Incoming) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, messages) = mpsc::channel(AHEAD);
        let working = tokio::task::spawn_blocking(move || {
            work(&mut Incoming { messages, rest: Bytes::new(), ended: false })
        });
        let sent = self.send(&sender).await;
        let end = match &sent {
            Ok(()) => Ok(None),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        // A writer that is gone says below why.
        sender.send(end).await.ok();
        drop(sender);
        let done = working.await.context("writing was cut short")?;
        sent.and(done)
    }

    async fn send(&self, sender: &mpsc::Sender<Message>) -> Result<()> {
        let mut progress = Progress::new(&self.artifacts);
        for artifact in &self.artifacts {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    let build = &self.build;
                    return Err(Refusal::canceled(format!(
                        "canceled while the result was on its way; to have it after all: archyard fetch {build} -o ..."
                    )));
                }
                sent = self.artifact(artifact, sender, &mut progress) => if !sent? {
                    return Ok(());
                },
            }
        }
        Ok(())
    }

    /// Sends one artifact. `false`: nobody reads any more.
    async fn artifact(
        &self,
        artifact: &Artifact,
        sender: &mpsc::Sender<Message>,
        progress: &mut Progress,
    ) -> Result<bool> {
        let mut arrived = Arrived::default();
        let (mut backoff, mut last) = (Backoff::new(), Instant::now());
        loop {
            let before = arrived.bytes;
            match self.ask(artifact, sender, &mut arrived, progress).await {
                Ok(Asked::Gone) => return Ok(false),
                Ok(Asked::Ended) if arrived.bytes == artifact.size => break,
                Ok(Asked::Ended) => {}
                Err(Failed::Final(error)) => return Err(error),
                Err(Failed::Passing(status)) if last.elapsed() < PATIENCE => {
                    tracing::debug!(%status, "the farm went away while it sent an artifact");
                }
                Err(Failed::Passing(status)) => return Err(status.into()),
            }
            if arrived.bytes > before {
                (backoff, last) = (Backoff::new(), Instant::now());
            }
            self.updates.send(Update::Reachable(false)).await.ok();
            backoff.pause().await;
        }
        if !arrived.is(artifact) {
            anyhow::bail!(
                "{} arrived with other content; the farm's copy is damaged, build again",
                artifact.digest
            );
        }
        Ok(true)
    }

    /// One request, to its end.
    async fn ask(
        &self,
        artifact: &Artifact,
        sender: &mpsc::Sender<Message>,
        arrived: &mut Arrived,
        progress: &mut Progress,
    ) -> Result<Asked, Failed> {
        let request = proto::DownloadArtifactRequest {
            build_id: self.build.clone(),
            blob: artifact.blob.to_string(),
            offset_bytes: arrived.bytes,
        };
        let mut stream = self.farm.artifacts().download(request).await?.into_inner();
        self.updates.send(Update::Reachable(true)).await.ok();
        while let Some(chunk) = stream.message().await? {
            arrived.take(&chunk.data);
            if arrived.bytes > artifact.size {
                let text =
                    format!("{} is longer than its {} bytes; build again", artifact.digest, artifact.size);
                return Err(Failed::Final(anyhow::anyhow!(text)));
            }
            progress.add(chunk.data.len(), &self.updates);
            if sender.send(Ok(Some(chunk.data))).await.is_err() {
                return Ok(Asked::Gone);
            }
        }
        Ok(Asked::Ended)
    }
}

enum Asked {
    Ended,
    /// Nobody reads any more.
    Gone,
}

enum Failed {
    Passing(Status),
    Final(anyhow::Error),
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        if is_transient(&status) { Self::Passing(status) } else { Self::Final(status.into()) }
    }
}

/// What is known of an artifact's bytes so far.
#[derive(Default)]
struct Arrived {
    bytes: u64,
    blake3: blake3::Hasher,
    sha256: sha2::Sha256,
}

impl Arrived {
    fn take(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        self.blake3.update(data);
        self.sha256.update(data);
    }

    fn is(self, artifact: &Artifact) -> bool {
        Blake3::from(self.blake3.finalize()) == artifact.blob
            && Sha256::from_bytes(self.sha256.finalize().into()) == artifact.digest
    }
}

/// How far all of it is.
struct Progress {
    received_bytes: u64,
    total_bytes: u64,
    told: Option<Instant>,
}

impl Progress {
    fn new(artifacts: &[Artifact]) -> Self {
        let total_bytes = artifacts.iter().map(|artifact| artifact.size).sum();
        Self { received_bytes: 0, total_bytes, told: None }
    }

    fn add(&mut self, bytes: usize, updates: &Updates) {
        self.received_bytes += bytes as u64;
        let (received_bytes, total_bytes) = (self.received_bytes, self.total_bytes);
        if received_bytes == total_bytes || self.told.is_none_or(|told| told.elapsed() >= TELL) {
            self.told = Some(Instant::now());
            // A screen that lags behind misses one.
            updates.try_send(Update::Fetching { received_bytes, total_bytes }).ok();
        }
    }
}

impl Incoming {
    /// Returns once everything was sent and found to be right, and nothing is left unread.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        match self.fill()? {
            true => Err(io::Error::other("there is more than what was asked for")),
            false => Ok(()),
        }
    }

    /// Whether there are bytes to read; waits for some.
    fn fill(&mut self) -> io::Result<bool> {
        while self.rest.is_empty() && !self.ended {
            match self.messages.blocking_recv() {
                Some(Ok(Some(data))) => self.rest = data,
                Some(Ok(None)) => self.ended = true,
                Some(Err(error)) => return Err(error),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(!self.rest.is_empty())
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || !self.fill()? {
            return Ok(0);
        }
        let length = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
