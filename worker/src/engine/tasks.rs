//! The tasks of one connection, which end with it.
//!
//! hyper asks for an executor and gives no handle back; every task it starts here stops when the owner is
//! dropped.

use std::future::Future;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Owns tasks; dropping it stops them at their next await.
#[derive(Debug)]
pub(super) struct Tasks {
    spawner: Spawner,
    _stop: DropGuard,
}

/// Starts tasks that stop when their [`Tasks`] is dropped.
#[derive(Debug, Clone)]
pub(super) struct Spawner {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    pub(super) fn new() -> Self {
        let stop = CancellationToken::new();
        Self {
            spawner: Spawner { tracker: TaskTracker::new(), stop: stop.clone() },
            _stop: stop.drop_guard(),
        }
    }

    pub(super) fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }
}

impl Spawner {
    /// Starts a task; its output is dropped.
    pub(super) fn spawn<F>(&self, task: F)
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let stop = self.stop.clone();
        // The handle only reports; the tracker and the token own the task.
        drop(self.tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = task => {}
            }
        }));
    }
}

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn tasks_end_with_their_owner() {
        let tasks = Tasks::new();
        let (alive, mut ended) = tokio::sync::mpsc::channel::<()>(1);
        tasks.spawner().spawn(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        drop(tasks);
        let end = tokio::time::timeout(Duration::from_secs(5), ended.recv()).await;
        assert_eq!(end, Ok(None));
    }
}
