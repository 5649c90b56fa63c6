//! One mailbox per worker stream: what goes down is merged until the stream takes it.
//!
//! A slow stream never makes the driver wait and never makes it hoard: acknowledgements of heartbeats replace each
//! other, and leases, cancels and results are bounded by the worker's slots.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::inbox::Inbox;
use super::message::Message;
use crate::core::{ConnectionId, Downstream, Parting};

/// What waits for one stream.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: Vec<Downstream>,
    heard: Option<u64>,
    closed: bool,
    parting: Option<Parting>,
}

/// The stream's end of its mailbox. Dropping it says that the stream broke.
#[derive(Debug)]
pub struct Messages {
    connection: ConnectionId,
    mailbox: Arc<Mailbox>,
    inbox: Arc<Inbox<Message>>,
}

impl Mailbox {
    pub(super) fn leave(&self, message: Downstream) {
        let mut waiting = self.lock();
        match message {
            Downstream::HeartbeatAck { sequence } => waiting.heard = Some(sequence),
            Downstream::Drain { .. } => {
                waiting.messages.retain(|other| !matches!(other, Downstream::Drain { .. }));
                waiting.messages.push(message);
            }
            message @ (Downstream::Welcome { .. }
            | Downstream::Lease { .. }
            | Downstream::Cancel { .. }
            | Downstream::ResultAck { .. }) => {
                if !waiting.messages.contains(&message) {
                    waiting.messages.push(message);
                }
            }
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// What waits can still be read; then the stream ends. None: the scheduler stops.
    pub(super) fn close(&self, parting: Option<Parting>) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.parting = waiting.parting.or(parting);
        drop(waiting);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Messages {
    pub(super) fn new(connection: ConnectionId, mailbox: Arc<Mailbox>, inbox: Arc<Inbox<Message>>) -> Self {
        Self { connection, mailbox, inbox }
    }

    /// Why the stream has ended. None: it has not, or the scheduler stops.
    pub fn parting(&self) -> Option<Parting> {
        self.mailbox.lock().parting
    }

    /// All that waits, in order; waits for the first. None: the stream has ended.
    ///
    /// Cancel-safe: what was not returned is still there.
    pub async fn next(&mut self) -> Option<Vec<Downstream>> {
        loop {
            {
                let mut waiting = self.mailbox.lock();
                let mut batch = std::mem::take(&mut waiting.messages);
                batch.extend(waiting.heard.take().map(|sequence| Downstream::HeartbeatAck { sequence }));
                if !batch.is_empty() {
                    return Some(batch);
                }
                if waiting.closed {
                    return None;
                }
            }
            self.mailbox.changed.notified().await;
        }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.inbox.push_last(Message::Disconnected(self.connection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn merges_what_a_slow_stream_has_not_taken() {
        let inbox = Arc::new(Inbox::new(4));
        let mailbox = Arc::new(Mailbox::default());
        let mut messages = Messages::new(ConnectionId(1), Arc::clone(&mailbox), Arc::clone(&inbox));
        for sequence in 0..100 {
            mailbox.leave(Downstream::HeartbeatAck { sequence });
            mailbox.leave(Downstream::Drain { draining: sequence % 2 == 0 });
        }
        assert_eq!(
            messages.next().await.unwrap(),
            [Downstream::Drain { draining: false }, Downstream::HeartbeatAck { sequence: 99 }]
        );
        assert_eq!(messages.parting(), None);
        mailbox.close(Some(Parting::Reconnected));
        assert_eq!(messages.next().await, None);
        assert_eq!(messages.parting(), Some(Parting::Reconnected));
        drop(messages);
        let mut taken = Vec::new();
        inbox.take(&mut taken, None);
        assert!(matches!(taken[..], [Message::Disconnected(ConnectionId(1))]));
    }
}
