//! FileSend: BuildKit sends what it built. Under one name it speaks two languages: its `tar` exporter sends one stream
//! of bytes, its `local` exporter a tree file by file. A session is asked for one of them.

use std::pin::Pin;

use archyard_model::limits;
use bollard_buildkit_proto::moby::filesync::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::{FileSend, FileSendServer};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::{Status, Streaming, async_trait};
use tower_service::Service as _;

use super::tree::{Tree, end};
use super::wire::{DATA, ERROR, FIN, Packet, Reply, ReplyCodec, STAT};
use crate::engine::Form;
use crate::engine::tasks::Spawner;

/// Replies between us and the connection.
const REPLIES: usize = 64;

/// Where a tar of what was built goes, and how BuildKit is to send it.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Sink {
    pub(in crate::engine) form: Form,
    /// Waits while the receiver is slow.
    pub(in crate::engine) tar: mpsc::Sender<Bytes>,
}

/// The service; without a sink nothing was asked for.
#[derive(Debug, Clone)]
pub(super) struct Sent(pub(super) Option<Sink>);

impl Sent {
    pub(super) async fn serve(self, spawner: Spawner, request: Request<Incoming>) -> Response<Body> {
        match self.0 {
            None => Status::failed_precondition("this build sends no files").into_http(),
            Some(Sink { form: Form::Tar, tar }) => {
                match FileSendServer::new(Plain(tar)).call(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
            Some(Sink { form: Form::Exact, tar }) => serve_tree(tar, spawner, request).await,
        }
    }
}

#[derive(Debug, Clone)]
struct Plain(mpsc::Sender<Bytes>);

#[async_trait]
impl FileSend for Plain {
    type DiffCopyStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn diff_copy(
        &self,
        request: tonic::Request<Streaming<BytesMessage>>,
    ) -> Result<tonic::Response<Self::DiffCopyStream>, Status> {
        // Nothing is ever answered; the end of the answer says that all has arrived.
        let taken = take(request.into_inner(), self.0.clone());
        let answer = stream::once(taken).filter_map(async |taken| taken.err().map(Err));
        Ok(tonic::Response::new(Box::pin(answer)))
    }
}

async fn take(mut messages: Streaming<BytesMessage>, tar: mpsc::Sender<Bytes>) -> Result<(), Status> {
    while let Some(message) = messages.message().await? {
        send(&tar, message.data.into()).await?;
    }
    Ok(())
}

async fn serve_tree(
    tar: mpsc::Sender<Bytes>,
    spawner: Spawner,
    request: Request<Incoming>,
) -> Response<Body> {
    if !request.uri().path().eq_ignore_ascii_case("/moby.filesync.v1.FileSend/DiffCopy") {
        return Status::unimplemented("only DiffCopy is served").into_http();
    }
    let mut server =
        tonic::server::Grpc::new(ReplyCodec).apply_max_message_size_config(Some(limits::MESSAGE_BYTES), None);
    let service = tower::service_fn(move |request: tonic::Request<Streaming<Packet>>| {
        let (replies, answer) = mpsc::channel(REPLIES);
        let tar = tar.clone();
        spawner.spawn(async move {
            if let Err(status) = take_tree(request.into_inner(), &replies, &tar).await {
                // Only BuildKit could hear it, and it may be gone.
                replies.send(Err(status)).await.ok();
            }
        });
        std::future::ready(Ok(tonic::Response::new(ReceiverStream::new(answer))))
    });
    server.streaming(service, request).await
}

/// Takes a tree and sends it on as a tar.
async fn take_tree(
    mut packets: Streaming<Packet>,
    replies: &mpsc::Sender<Result<Reply, Status>>,
    tar: &mpsc::Sender<Bytes>,
) -> Result<(), Status> {
    let reply = async |reply| {
        replies.send(Ok(reply)).await.map_err(|_| Status::aborted("BuildKit takes no answer any more"))
    };
    let mut tree = Tree::default();
    let mut is_finished = false;
    while let Some(packet) = packets.message().await? {
        match packet.kind {
            STAT => tree.list(packet.stat),
            DATA => tree.content(packet.id, packet.data),
            FIN if is_finished => return Ok(()),
            ERROR => return Err(Status::aborted(String::from_utf8_lossy(&packet.data).into_owned())),
            // What a later version may say beside this.
            _ => Ok(()),
        }
        .map_err(|wrong| Status::invalid_argument(wrong.to_string()))?;
        while let Some(id) = tree.ask() {
            reply(Reply::Request(id)).await?;
        }
        for piece in tree.take() {
            send(tar, piece).await?;
        }
        if tree.is_done() && !std::mem::replace(&mut is_finished, true) {
            send(tar, end()).await?;
            reply(Reply::Fin).await?;
        }
    }
    match is_finished {
        true => Ok(()),
        false => Err(Status::aborted("BuildKit hung up before it had sent everything")),
    }
}

async fn send(tar: &mpsc::Sender<Bytes>, piece: Bytes) -> Result<(), Status> {
    tar.send(piece).await.map_err(|_| Status::aborted("nobody takes the files any more"))
}
