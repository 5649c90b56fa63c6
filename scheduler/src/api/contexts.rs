//! ContextService: which blobs are missing, upload, download.

use std::sync::Arc;

use archyard_model::{Blake3, Invalid, limits};
use archyard_proto::v1 as proto;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use proto::context_service_server::ContextService;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::Shared;
use super::status::{IntoStatus, stopping};
use crate::blobs::{Ingest, Reader};

#[async_trait]
impl ContextService for Shared {
    type DownloadStream = BoxStream<'static, Result<proto::DownloadResponse, Status>>;

    async fn find_missing(
        &self,
        request: Request<proto::FindMissingRequest>,
    ) -> Result<Response<proto::FindMissingResponse>, Status> {
        let wanted = digests(&request.get_ref().digests)?;
        let blobs = Arc::clone(&self.blobs);
        let missing = self.blocking(move || Ok::<_, Status>(blobs.missing(&wanted))).await?;
        let digests = missing.iter().map(|digest| digest.as_bytes().to_vec()).collect();
        Ok(Response::new(proto::FindMissingResponse { digests }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<proto::UploadRequest>>,
    ) -> Result<Response<proto::UploadResponse>, Status> {
        let mut parts = request.into_inner();
        let mut upload = Upload(Some(Ingest::new(Arc::clone(&self.blobs))));
        loop {
            let message = tokio::select! {
                message = parts.message() => message?,
                () = self.stopping.cancelled() => return Err(stopping()),
            };
            let Some(message) = message else { break };
            upload =
                self.blocking(move || upload.work(|ingest| ingest.take(message)).map(|()| upload)).await?;
        }
        let stored = self.blocking(move || upload.finish()).await?;
        Ok(Response::new(proto::UploadResponse { stored: stored.blobs, stored_bytes: stored.bytes }))
    }

    async fn download(
        &self,
        request: Request<proto::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let wanted = digests(&request.get_ref().digests)?;
        let reader = Reader::new(Arc::clone(&self.blobs), wanted);
        let shared = self.clone();
        // Read when asked for: a slow worker holds one message, not one thread.
        let messages = stream::try_unfold((shared, reader), |(shared, mut reader)| async move {
            if shared.stopping.is_cancelled() {
                return Err(stopping());
            }
            let (message, reader) =
                shared.blocking(move || reader.read().map(|message| (message, reader))).await?;
            Ok(message.map(|message| (message, (shared, reader))))
        });
        Ok(Response::new(messages.boxed()))
    }
}

/// An upload whose remains are removed on the blocking pool, however it ends.
struct Upload(Option<Ingest>);

impl Upload {
    fn work<E>(&mut self, work: impl FnOnce(&mut Ingest) -> Result<(), E>) -> Result<(), E> {
        self.0.as_mut().map_or(Ok(()), work)
    }

    fn finish(mut self) -> Result<crate::blobs::Stored, crate::blobs::Error> {
        self.0.take().map_or_else(|| Ok(Default::default()), Ingest::finish)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(ingest) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(ingest));
        }
    }
}

fn digests(given: &[impl AsRef<[u8]>]) -> Result<Vec<Blake3>, Status> {
    if given.len() > limits::BLOB_DIGESTS {
        let problem = format!("a call names at most {} digests; ask in several calls", limits::BLOB_DIGESTS);
        return Err(Invalid::new("digests", given.len(), problem).into_status());
    }
    given
        .iter()
        .map(|digest| Blake3::try_from(digest.as_ref()).map_err(|error| error.of("digests").into_status()))
        .collect()
}
