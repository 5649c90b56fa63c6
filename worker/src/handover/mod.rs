//! What a runner leaves with the scheduler for the build's client: image blobs, or a root file system.
//!
//! By content: the scheduler says what it lacks, and only that is sent. A scheduler that goes away is asked again once it
//! is back; what arrived whole is not sent twice. Nothing is held in memory but the pieces under way. Nothing here builds,
//! and nothing decides whether the attempt is tried again.

mod blob;
mod error;
mod upload;

use std::time::{Duration, Instant};

use archyard_model::{Artifact, AttemptId, Blake3, convert, limits};
use archyard_proto::v1 as proto;
use proto::artifact_service_client::ArtifactServiceClient;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub use blob::{Blob, Content};
pub use error::HandoverError;

use crate::backoff::Backoff;
use crate::scheduler::Scheduler;
use error::Trouble;

/// How long nothing may get through before the attempt is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// A runner's way to leave something.
#[derive(Debug, Clone)]
pub struct Handover {
    scheduler: Scheduler,
    attempt: AttemptId,
    patience: Duration,
    cancel: CancellationToken,
}

impl Handover {
    /// For an attempt, with its scheduler, until `cancel` fires.
    pub fn new(scheduler: Scheduler, attempt: AttemptId, cancel: CancellationToken) -> Self {
        Self { scheduler, attempt, patience: PATIENCE, cancel }
    }

    /// Leaves these blobs. Tells `sent` how many bytes were sent, and how many are to be, whenever that changes. What
    /// it returns is in their order.
    ///
    /// # Errors
    /// When a blob cannot be read, or the scheduler does not take it; after the patience where waiting may help.
    pub async fn leave(
        &self,
        blobs: Vec<Blob>,
        sent: impl Fn(u64, u64),
    ) -> Result<Vec<Artifact>, HandoverError> {
        let mut artifacts = Vec::with_capacity(blobs.len());
        for blob in &blobs {
            let hashed = tokio::select! {
                hashed = blob.hash() => hashed?,
                () = self.cancel.cancelled() => return Err(HandoverError::Canceled),
            };
            artifacts.push(blob.artifact(hashed));
        }
        let both: Vec<(&Blob, &Artifact)> = blobs.iter().zip(&artifacts).collect();
        tokio::select! {
            left = self.send(&both, sent) => left?,
            () = self.cancel.cancelled() => return Err(HandoverError::Canceled),
        }
        Ok(artifacts)
    }

    async fn send(&self, blobs: &[(&Blob, &Artifact)], told: impl Fn(u64, u64)) -> Result<(), HandoverError> {
        let (mut backoff, mut last) = (Backoff::new(), Instant::now());
        let mut total = None;
        let mut done = 0;
        loop {
            let mut progress = |bytes: u64, total: u64| told(bytes.min(total), total);
            let trouble = match self.once(blobs, &mut total, &mut done, &mut last, &mut progress).await {
                Ok(()) => return Ok(()),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(reason)) => reason,
            };
            let waited = last.elapsed();
            if waited >= self.patience {
                return Err(HandoverError::SchedulerAway { waited, reason: trouble });
            }
            if waited < Duration::from_secs(1) {
                backoff = Backoff::new();
            }
            tracing::warn!(reason = trouble, "the scheduler does not take what was built yet; asking again");
            backoff.wait().await;
        }
    }

    /// Asks what is missing, and sends that, blob by blob: each that arrived stays.
    async fn once(
        &self,
        blobs: &[(&Blob, &Artifact)],
        total: &mut Option<u64>,
        done: &mut u64,
        last: &mut Instant,
        told: &mut impl FnMut(u64, u64),
    ) -> Result<(), Trouble> {
        let channel = self.scheduler.connect().await?;
        let mut client = ArtifactServiceClient::new(channel).max_decoding_message_size(limits::MESSAGE_BYTES);
        let missing = self.missing(&mut client, blobs).await?;
        let mut waiting: Vec<_> =
            blobs.iter().filter(|(_, artifact)| missing.contains(&artifact.blob)).collect();
        waiting.sort_by_key(|(_, artifact)| artifact.blob);
        waiting.dedup_by_key(|(_, artifact)| artifact.blob);
        let all = *total.get_or_insert_with(|| waiting.iter().map(|(_, artifact)| artifact.size).sum());
        for (blob, artifact) in waiting {
            let mut sent = *done;
            upload::upload(&mut client, self.attempt, blob, artifact, |bytes| {
                sent += bytes;
                *last = Instant::now();
                told(sent, all);
            })
            .await?;
            *done += artifact.size;
            *last = Instant::now();
        }
        Ok(())
    }

    async fn missing(
        &self,
        client: &mut ArtifactServiceClient<Channel>,
        blobs: &[(&Blob, &Artifact)],
    ) -> Result<Vec<Blake3>, Trouble> {
        let request = proto::FindMissingArtifactsRequest {
            attempt: Some(convert::attempt_to_proto(self.attempt)),
            digests: blobs.iter().map(|(_, artifact)| artifact.blob.as_bytes().to_vec()).collect(),
        };
        let answer = client.find_missing(request).await?.into_inner().digests;
        let digests: Result<_, _> = answer.iter().map(|digest| Blake3::try_from(digest.as_slice())).collect();
        digests.map_err(|error| Trouble::Passing(error.to_string()))
    }
}
