//! The driver's bounded inbox: many async senders, one thread that takes everything at once.
//!
//! A whole queue is swapped out under one short lock; senders wait for room without blocking a thread.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

/// A bounded queue that is emptied at once.
#[derive(Debug)]
pub(super) struct Inbox<T> {
    queue: Mutex<Queue<T>>,
    arrived: Condvar,
    room: Semaphore,
}

#[derive(Debug)]
struct Queue<T> {
    messages: Vec<T>,
    /// How many of them took room, which taking them gives back.
    roomed: usize,
    closed: bool,
}

/// The driver takes nothing any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl<T> Inbox<T> {
    pub(super) fn new(bound: usize) -> Self {
        let queue = Mutex::new(Queue { messages: Vec::new(), roomed: 0, closed: false });
        Self { queue, arrived: Condvar::new(), room: Semaphore::new(bound) }
    }

    /// Waits for room, then leaves the message.
    pub(super) async fn push(&self, message: T) -> Result<(), Closed> {
        let permit = self.room.acquire().await.map_err(|_| Closed)?;
        permit.forget();
        self.leave(message, 1)
    }

    /// Leaves a message without waiting for room. Only for what each sender says at most once.
    pub(super) fn push_last(&self, message: T) {
        // Nobody is left to tell if the driver is gone.
        drop(self.leave(message, 0));
    }

    /// Everything that waits; waits itself for the first, but no longer than `patience`. `taken` is emptied.
    pub(super) fn take(&self, taken: &mut Vec<T>, patience: Option<Duration>) {
        taken.clear();
        let mut queue = self.lock();
        if queue.messages.is_empty() && !queue.closed {
            queue = match patience {
                Some(patience) => {
                    self.arrived.wait_timeout(queue, patience).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
        std::mem::swap(&mut queue.messages, taken);
        let roomed = std::mem::take(&mut queue.roomed);
        drop(queue);
        self.room.add_permits(roomed);
    }

    /// Refuses all further messages. What waits can still be taken.
    pub(super) fn close(&self) {
        self.room.close();
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.room.is_closed()
    }

    fn leave(&self, message: T, roomed: usize) -> Result<(), Closed> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(Closed);
        }
        queue.messages.push(message);
        queue.roomed += roomed;
        if queue.messages.len() == 1 {
            self.arrived.notify_one();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn senders_wait_for_room() {
        let inbox = std::sync::Arc::new(Inbox::new(2));
        inbox.push(1).await.unwrap();
        inbox.push(2).await.unwrap();
        let third = {
            let inbox = std::sync::Arc::clone(&inbox);
            async move { inbox.push(3).await }
        };
        let mut taken = Vec::new();
        let late = tokio::time::timeout(Duration::from_millis(20), third).await;
        assert!(late.is_err(), "a third message found room for two");
        inbox.take(&mut taken, None);
        assert_eq!(taken, [1, 2]);
        inbox.push(3).await.unwrap();
        inbox.take(&mut taken, None);
        assert_eq!(taken, [3]);
    }

    #[tokio::test]
    async fn closing_wakes_and_refuses() {
        let inbox = Inbox::<u8>::new(1);
        inbox.close();
        assert_eq!(inbox.push(1).await, Err(Closed));
        let mut taken = vec![9];
        inbox.take(&mut taken, None);
        assert!(taken.is_empty());
    }
}
