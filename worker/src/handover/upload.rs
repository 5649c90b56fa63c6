//! One blob on its way to the scheduler.

use archyard_model::{Artifact, AttemptId, convert, limits};
use archyard_proto::v1 as proto;
use bytes::Bytes;
use proto::artifact_service_client::ArtifactServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::Blob;
use super::error::Trouble;

/// Messages between disk and network. The network takes the next when it has sent one: a slow scheduler slows the disk.
const AHEAD: usize = 2;
/// Data in one message: less than the limit, for the rest of it takes room too.
const MESSAGE_BYTES: usize = limits::BLOB_MESSAGE_BYTES / 2;

/// Sends it, whole. Tells `sent` of each piece.
pub(super) async fn upload(
    client: &mut ArtifactServiceClient<Channel>,
    attempt: AttemptId,
    blob: &Blob,
    artifact: &Artifact,
    mut sent: impl FnMut(u64),
) -> Result<(), Trouble> {
    let (messages, stream) = mpsc::channel(AHEAD);
    let call = client.upload(ReceiverStream::new(stream));
    let feed = async {
        let mut offset = 0;
        loop {
            let left = usize::try_from(artifact.size - offset).unwrap_or(usize::MAX);
            let length = left.min(MESSAGE_BYTES);
            let content = blob.content.clone();
            let data = tokio::task::spawn_blocking(move || content.read(offset, length)).await;
            let data = data
                .unwrap_or_else(|error| Err(std::io::Error::other(error)))
                .map_err(|error| Trouble::Final(blob.wrong(error)))?;
            let first = offset == 0;
            offset += length as u64;
            let last = offset == artifact.size;
            let part = proto::BlobPart {
                digest: Bytes::copy_from_slice(artifact.blob.as_bytes()),
                size_bytes: if first { artifact.size } else { 0 },
                data,
                last,
            };
            let attempt = Some(convert::attempt_to_proto(attempt));
            let message = proto::UploadArtifactsRequest { attempt, parts: vec![part] };
            if messages.send(message).await.is_err() {
                // The call knows why.
                return std::future::pending().await;
            }
            sent(length as u64);
            if last {
                drop(messages);
                return Ok(());
            }
        }
    };
    let answered = async { call.await.map(drop).map_err(Trouble::from) };
    tokio::pin!(feed, answered);
    tokio::select! {
        biased;
        answered = &mut answered => answered,
        // Only a blob that cannot be read ends the call: a stream that just ends would tell the scheduler that all is well.
        fed = &mut feed => match fed {
            Ok(()) => answered.await,
            Err(trouble) => Err(trouble),
        },
    }
}
