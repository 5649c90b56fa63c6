//! Streams that a task feeds: bounded, ended by whoever goes first.

use std::future::Future;

use archyard_model::Invalid;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Shared;
use super::status::{IntoStatus as _, stopping};

/// What a streaming call answers with.
pub(super) type Stream<T> = ReceiverStream<Result<T, Status>>;

/// Where a stream's messages go. Waits while the caller is slow.
#[derive(Debug)]
pub(super) struct Sink<T>(mpsc::Sender<Result<T, Status>>);

/// The caller went away; there is nobody left to tell.
#[derive(Debug)]
pub(super) struct Gone;

/// Why whoever feeds a stream, or reads one, stops early.
#[derive(Debug)]
pub(super) enum Stop {
    Gone,
    Failed(Status),
}

impl From<Gone> for Stop {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

impl From<Invalid> for Stop {
    fn from(invalid: Invalid) -> Self {
        Self::Failed(invalid.into_status())
    }
}

impl<T> Sink<T> {
    pub(super) async fn send(&self, message: T) -> Result<(), Gone> {
        self.0.send(Ok(message)).await.map_err(|_| Gone)
    }

    /// Ends the stream with an error.
    pub(super) async fn fail(&self, status: Status) -> Result<(), Gone> {
        self.0.send(Err(status)).await.map_err(|_| Gone)
    }
}

/// A stream that `feed` fills. It ends when `feed` returns, when the caller leaves, and with UNAVAILABLE when the
/// scheduler stops.
pub(super) fn fed_by<T, F>(shared: &Shared, depth: usize, feed: impl FnOnce(Sink<T>) -> F) -> Stream<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(depth);
    let feeding = feed(Sink(sender.clone()));
    let stop = shared.stopping.clone();
    shared.tasks.spawn(async move {
        tokio::select! {
            biased;
            () = sender.closed() => {}
            // Gone means that nobody reads any more: nothing to do about it.
            Ok(()) | Err(Gone) = feeding => {}
            () = stop.cancelled() => drop(sender.send(Err(stopping())).await),
        }
    });
    ReceiverStream::new(receiver)
}
