//! A blob that passes through, watched from the side: how far it is, and which of the two registries it waits for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use archyard_net::Meter;
use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt as _, poll_fn};

/// Shared with the stream that it watches.
#[derive(Debug, Clone, Default)]
pub(super) struct Passing {
    pub(super) meter: Meter,
    is_awaited: Arc<AtomicBool>,
    broken: Arc<Mutex<Option<String>>>,
}

impl Passing {
    /// The same blob, piece by piece: none is asked for before somebody wants it.
    pub(super) fn watch(
        &self,
        mut blob: impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin + 'static,
    ) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
        let passing = self.clone();
        poll_fn(move |context| {
            let piece = blob.poll_next_unpin(context);
            passing.is_awaited.store(piece.is_pending(), Ordering::Relaxed);
            if let Poll::Ready(Some(piece)) = &piece {
                passing.note(piece);
            }
            piece
        })
    }

    /// Whether the giver is waited for; else it is the taker.
    pub(super) fn awaits_giver(&self) -> bool {
        self.is_awaited.load(Ordering::Relaxed)
    }

    /// Why the giver gave no more, if it broke off.
    pub(super) fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, piece: &std::io::Result<Bytes>) {
        match piece {
            Ok(piece) => self.meter.add(piece.len()),
            Err(error) => {
                *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
        }
    }
}
