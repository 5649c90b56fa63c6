//! Blobs from the scheduler, which may be away for a while: a restart of it does not end a build.

use std::time::{Duration, Instant};

use archyard_model::{Blake3, limits};
use archyard_net::{Outlook, TlsFault, outlook};
use archyard_proto::v1::DownloadRequest;
use archyard_proto::v1::context_service_client::ContextServiceClient;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::receive::{ReceiveError, mark_grown, receive};
use super::{Cache, CacheError};
use crate::backoff::Backoff;
use crate::scheduler::Scheduler;

/// How long nothing may arrive before the attempt is given up.
const PATIENCE: Duration = Duration::from_secs(300);
/// A blob that is damaged this often is damaged at its source.
const CORRUPT_TRIES: u32 = 3;
/// Messages of up to 1 MiB between network and disk.
const QUEUE: usize = 4;

/// Brings blobs. Connects when the first one is missing, and not before.
#[derive(Debug)]
pub struct Downloads {
    scheduler: Scheduler,
    client: Option<ContextServiceClient<Channel>>,
    patience: Duration,
    cancel: CancellationToken,
}

/// How one request ended.
enum Trouble {
    /// Asking again may help.
    Passing(String),
    Corrupt(Blake3),
    Final(CacheError),
}

impl Downloads {
    /// Downloads from `scheduler`, until `cancel` fires.
    pub fn new(scheduler: Scheduler, cancel: CancellationToken) -> Self {
        Self { scheduler, client: None, patience: PATIENCE, cancel }
    }

    /// The same, giving up after another time without progress.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Brings those of `wanted` that are not in the cache. Returns how many those were.
    ///
    /// # Errors
    /// When they cannot be had, after the patience where waiting may help.
    pub(super) async fn fetch(&mut self, cache: &Cache, wanted: Vec<Blake3>) -> Result<u64, CacheError> {
        let mut missing = missing(cache, wanted).await?;
        let mut backoff = Backoff::new();
        let mut last_progress = Instant::now();
        let mut corrupt = 0;
        let mut fetched = 0;
        while !missing.is_empty() {
            let batch = &missing[..missing.len().min(limits::BLOB_DIGESTS)];
            let outcome = tokio::select! {
                outcome = Self::request(&mut self.client, &self.scheduler, cache, batch) => outcome,
                () = self.cancel.cancelled() => return Err(CacheError::Canceled),
            };
            let before = missing.len();
            missing = self::missing(cache, missing).await?;
            let arrived = before - missing.len();
            fetched += arrived as u64;
            if arrived > 0 {
                last_progress = Instant::now();
                backoff = Backoff::new();
            }
            let reason = match outcome {
                Ok(()) if arrived > 0 => continue,
                Ok(()) => "it sent none of the blobs asked for".to_owned(),
                Err(Trouble::Passing(reason)) => reason,
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Corrupt(digest)) => {
                    corrupt += 1;
                    if corrupt >= CORRUPT_TRIES {
                        return Err(CacheError::Corrupt { digest });
                    }
                    format!("blob {digest} arrived with other content")
                }
            };
            self.client = None;
            let waited = last_progress.elapsed();
            if waited >= self.patience {
                return Err(CacheError::SchedulerAway { waited, reason });
            }
            tracing::warn!(missing = missing.len(), reason, "the context is not complete yet; asking again");
            tokio::select! {
                () = backoff.wait() => {}
                () = self.cancel.cancelled() => return Err(CacheError::Canceled),
            }
        }
        if fetched > 0 {
            mark_grown(cache).map_err(|error| CacheError::disk(&cache.root, error))?;
        }
        Ok(fetched)
    }

    /// One request, to its end.
    async fn request(
        client: &mut Option<ContextServiceClient<Channel>>,
        scheduler: &Scheduler,
        cache: &Cache,
        digests: &[Blake3],
    ) -> Result<(), Trouble> {
        let client = match client {
            Some(client) => client,
            None => {
                let channel = scheduler.connect().await.map_err(|error| of_connection(&error))?;
                client.insert(
                    ContextServiceClient::new(channel).max_decoding_message_size(limits::MESSAGE_BYTES),
                )
            }
        };
        let digests = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
        let mut stream = client
            .download(DownloadRequest { digests })
            .await
            .map_err(|status| of_status(&status))?
            .into_inner();
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = {
            let cache = cache.clone();
            tokio::task::spawn_blocking(move || receive(&cache, receiver))
        };
        let mut end = Ok(());
        loop {
            match stream.message().await {
                Ok(Some(response)) => {
                    // A writer that is gone says below why.
                    if sender.send(response).await.is_err() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(status) => {
                    end = Err(of_status(&status));
                    break;
                }
            }
        }
        drop(sender);
        let written = writer.await.map_err(|error| Trouble::Passing(error.to_string()))?;
        written.map_err(|error| match error {
            ReceiveError::Disk(error) => Trouble::Final(CacheError::disk(&cache.root, error)),
            ReceiveError::Corrupt(digest) => Trouble::Corrupt(digest),
            ReceiveError::Protocol(message) => Trouble::Passing(message),
        })?;
        end
    }
}

/// Those that are not in the cache, each once.
async fn missing(cache: &Cache, mut digests: Vec<Blake3>) -> Result<Vec<Blake3>, CacheError> {
    let cache = cache.clone();
    let root = cache.root.clone();
    let filter = move || {
        digests.sort_unstable();
        digests.dedup();
        digests.retain(|digest| !cache.has(digest));
        digests
    };
    tokio::task::spawn_blocking(filter)
        .await
        .map_err(|error| CacheError::disk(root, std::io::Error::other(error)))
}

fn of_connection(error: &archyard_net::Error) -> Trouble {
    let reason = error.to_string();
    match outlook(error) {
        Outlook::Permanent => Trouble::Final(CacheError::SchedulerRefused { reason }),
        Outlook::Transient | Outlook::Unclear => Trouble::Passing(reason),
    }
}

fn of_status(status: &tonic::Status) -> Trouble {
    let message = status.message().to_owned();
    match (status.code(), outlook(status)) {
        (tonic::Code::NotFound, _) => Trouble::Final(CacheError::Missing { message }),
        (_, Outlook::Permanent) => {
            let reason = TlsFault::of(status).map_or(message, |fault| fault.to_string());
            Trouble::Final(CacheError::SchedulerRefused { reason })
        }
        (code, _) => Trouble::Passing(format!("{code}: {message}")),
    }
}
