//! ArtifactService: workers leave what was built, clients fetch it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use archyard_model::convert::{attempt_from_proto, build_state_from_proto};
use archyard_model::{AttemptId, Blake3, BuildState, Invalid, limits};
use archyard_proto::v1 as proto;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use proto::artifact_service_server::ArtifactService;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::Shared;
use super::builds::build_id;
use super::fate::Fate;
use super::status::{IntoStatus, stopping};
use crate::artifacts::Upload;
use crate::{blobs, disk};

#[async_trait]
impl ArtifactService for Shared {
    type DownloadStream = BoxStream<'static, Result<proto::ArtifactChunk, Status>>;

    async fn find_missing(
        &self,
        request: Request<proto::FindMissingArtifactsRequest>,
    ) -> Result<Response<proto::FindMissingArtifactsResponse>, Status> {
        let message = request.into_inner();
        let attempt = self.current(message.attempt).await?;
        if message.digests.len() > limits::ARTIFACTS {
            let problem = format!("a platform leaves at most {} blobs", limits::ARTIFACTS);
            return Err(Invalid::new("digests", message.digests.len(), problem).into_status());
        }
        let parse = |digest: &Vec<u8>| Blake3::try_from(digest.as_slice());
        let digests: Result<Vec<_>, _> = message.digests.iter().map(parse).collect();
        let digests = digests.map_err(|error| error.of("digests").into_status())?;
        let artifacts = Arc::clone(&self.artifacts);
        let missing = self.blocking(move || artifacts.missing(attempt.job.build, &digests)).await?;
        let digests = missing.iter().map(|digest| digest.as_bytes().to_vec()).collect();
        Ok(Response::new(proto::FindMissingArtifactsResponse { digests }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<proto::UploadArtifactsRequest>>,
    ) -> Result<Response<proto::UploadArtifactsResponse>, Status> {
        let mut messages = request.into_inner();
        let mut receiving: Option<(AttemptId, Receiving)> = None;
        loop {
            let message = tokio::select! {
                message = messages.message() => message?,
                () = self.stopping.cancelled() => return Err(stopping()),
            };
            let Some(message) = message else { break };
            let (attempt, mut upload) = match receiving.take() {
                Some((attempt, upload)) => {
                    if message.attempt != Some(archyard_model::convert::attempt_to_proto(attempt)) {
                        let problem = "an upload is one attempt's; open a stream for each";
                        return Err(Invalid::new("attempt", attempt, problem).into_status());
                    }
                    (attempt, upload)
                }
                None => {
                    let attempt = self.current(message.attempt).await?;
                    let upload = Upload::new(Arc::clone(&self.artifacts), attempt.job.build);
                    (attempt, Receiving(Some(upload)))
                }
            };
            upload = self.blocking(move || upload.take(message.parts).map(|()| upload)).await?;
            receiving = Some((attempt, upload));
        }
        let Some((attempt, upload)) = receiving else {
            return Err(Invalid::new("parts", "", "the upload held nothing").into_status());
        };
        // The attempt may have lost its job while its bytes came.
        self.current(Some(archyard_model::convert::attempt_to_proto(attempt))).await?;
        let stored = self.blocking(move || upload.finish()).await?;
        Ok(Response::new(proto::UploadArtifactsResponse { stored: stored.blobs, stored_bytes: stored.bytes }))
    }

    async fn download(
        &self,
        request: Request<proto::DownloadArtifactRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let message = request.into_inner();
        let build = build_id(&message.build_id)?;
        let blob: Blake3 = message.blob.parse().map_err(|error: Invalid| error.of("blob").into_status())?;
        let record = self.record(build).await?.ok_or_else(|| self.no_build(build))?;
        let mut left =
            record.jobs.iter().filter_map(|job| job.result.as_ref()).flat_map(|image| &image.artifacts);
        if !left.any(|artifact| artifact.blob == message.blob) {
            return Err(Status::not_found(format!("build {build} left no artifact {blob}")));
        }
        let artifacts = Arc::clone(&self.artifacts);
        let opened = self.blocking(move || {
            artifacts.blobs().open_blob(blob).map_err(|error| match error {
                blobs::Error::NotFound(_) => Status::not_found(format!(
                    "what build {build} left is not kept any more: it was fetched, or its time was over; build again"
                )),
                other => other.into_status(),
            })
        });
        let (file, size) = opened.await?;
        if message.offset_bytes > size {
            let problem = format!("the artifact has {size} bytes");
            return Err(Invalid::new("offset_bytes", message.offset_bytes, problem).into_status());
        }
        let sending = Sending { file: Arc::new(file), offset: message.offset_bytes, size, blob };
        // Read when asked for: a slow client holds one message, not one thread.
        let chunks = stream::try_unfold((self.clone(), sending), |(shared, mut sending)| async move {
            if shared.stopping.is_cancelled() {
                return Err(stopping());
            }
            let Some((reader, length)) = sending.next() else { return Ok(None) };
            let data = shared.blocking(reader).await?;
            sending.offset += length as u64;
            Ok(Some((proto::ArtifactChunk { data: data.into() }, (shared, sending))))
        });
        Ok(Response::new(chunks.boxed()))
    }

    async fn release(
        &self,
        request: Request<proto::ReleaseArtifactsRequest>,
    ) -> Result<Response<proto::ReleaseArtifactsResponse>, Status> {
        let build = build_id(&request.get_ref().build_id)?;
        let record = self.record(build).await?.ok_or_else(|| self.no_build(build))?;
        if !build_state_from_proto(record.state()).is_ok_and(BuildState::is_terminal) {
            let text = format!("build {build} has not ended; what it leaves is kept until then");
            return Err(Status::failed_precondition(text));
        }
        let artifacts = Arc::clone(&self.artifacts);
        self.blocking(move || artifacts.release(build)).await?;
        Ok(Response::new(proto::ReleaseArtifactsResponse {}))
    }
}

impl Shared {
    /// The attempt, if it holds its job's current token and goes on.
    async fn current(&self, attempt: Option<proto::AttemptRef>) -> Result<AttemptId, Status> {
        let attempt = attempt_from_proto(attempt).map_err(IntoStatus::into_status)?;
        match self.fate(attempt).await? {
            Fate::Running => Ok(attempt),
            Fate::Unknown | Fate::Ended(_) | Fate::Lost => Err(Status::failed_precondition(format!(
                "attempt {attempt} is not the current one of its job; nothing more is taken from it"
            ))),
        }
    }
}

/// An upload whose remains are removed on the blocking pool, however it ends.
struct Receiving(Option<Upload>);

impl Receiving {
    fn take(&mut self, parts: Vec<proto::BlobPart>) -> Result<(), crate::artifacts::Error> {
        self.0.as_mut().map_or(Ok(()), |upload| upload.take(parts))
    }

    fn finish(mut self) -> Result<blobs::Stored, crate::artifacts::Error> {
        self.0.take().map_or_else(|| Ok(blobs::Stored::default()), Upload::finish)
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let Some(upload) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(upload));
        }
    }
}

/// A download under way.
struct Sending {
    file: Arc<File>,
    offset: u64,
    size: u64,
    blob: Blake3,
}

impl Sending {
    /// What reads the next message's bytes, and how many those are; none at the end.
    fn next(&self) -> Option<(impl FnOnce() -> Result<Vec<u8>, Status> + Send + 'static, usize)> {
        let left = usize::try_from(self.size - self.offset).unwrap_or(usize::MAX);
        let length = left.min(limits::BLOB_MESSAGE_BYTES);
        let (file, offset, blob) = (Arc::clone(&self.file), self.offset, self.blob);
        let read = move || {
            let mut data = vec![0; length];
            file.read_exact_at(&mut data, offset)
                .map_err(|source| disk::Error::Io { path: blob.to_string().into(), source }.into_status())?;
            Ok(data)
        };
        (length > 0).then_some((read, length))
    }
}
