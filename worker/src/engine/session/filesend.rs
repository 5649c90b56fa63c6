//! FileSend: BuildKit sends what it built, as one stream of bytes. Its messages would be others for its `local`
//! exporter, under the same name; this session is never asked for that.

use std::pin::Pin;

use bollard_buildkit_proto::moby::filesync::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSend;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming, async_trait};

/// Where the bytes go; none where nothing was asked for. Waits while the receiver is slow.
#[derive(Debug, Clone)]
pub(super) struct Sent(pub(super) Option<mpsc::Sender<Bytes>>);

#[async_trait]
impl FileSend for Sent {
    type DiffCopyStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let Some(sink) = self.0.clone() else {
            return Err(Status::failed_precondition("this build sends no files"));
        };
        // Nothing is ever answered; the end of the answer says that all has arrived.
        let answer =
            stream::once(take(request.into_inner(), sink)).filter_map(async |taken| taken.err().map(Err));
        Ok(Response::new(Box::pin(answer)))
    }
}

async fn take(mut messages: Streaming<BytesMessage>, sink: mpsc::Sender<Bytes>) -> Result<(), Status> {
    while let Some(message) = messages.message().await? {
        if sink.send(message.data.into()).await.is_err() {
            return Err(Status::aborted("nobody takes the files any more"));
        }
    }
    Ok(())
}
