//! Every attempt of this worker: running, or not yet told of to the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use archyard_model::AttemptId;
use tokio::sync::watch;

use super::attempt::Attempt;

/// The attempts, and word of every change among them. Whoever waits for a change looks at all of them
/// afterwards, so no word can be missed.
#[derive(Debug)]
pub(super) struct Attempts {
    all: Mutex<BTreeMap<AttemptId, Arc<Attempt>>>,
    changed: watch::Sender<()>,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { all: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Attempts {
    pub(super) fn insert(&self, attempt: Arc<Attempt>) {
        self.lock().insert(attempt.id, attempt);
        self.tell();
    }

    pub(super) fn get(&self, id: AttemptId) -> Option<Arc<Attempt>> {
        self.lock().get(&id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Attempt>> {
        self.lock().values().cloned().collect()
    }

    /// The first slot of `slots` that no running attempt has.
    pub(super) fn free_slot(&self, slots: u32) -> Option<u32> {
        let all = self.lock();
        let running = all.values().filter(|attempt| attempt.is_running());
        let taken: BTreeSet<u32> = running.map(|attempt| attempt.slot).collect();
        // Attempts adopted from a larger worker count as well.
        let room = taken.len() < slots as usize;
        (0..slots).find(|slot| room && !taken.contains(slot))
    }

    /// Says that an attempt changed; one that is over is forgotten, and its folder removed.
    pub(super) fn update(&self, attempt: &Attempt) {
        if attempt.is_over() && self.lock().remove(&attempt.id).is_some() {
            if let Err(error) = attempt.dir.remove() {
                let folder = attempt.dir.path().display();
                tracing::warn!(%folder, %error, "an attempt that is over stays on disk");
            }
            tracing::debug!(build = %attempt.id.job.build, job = attempt.id.job.index, attempt = attempt.id.token.0, "is over");
        }
        self.tell();
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits until all attempts together are so.
    pub(super) async fn until(&self, mut so: impl FnMut(&[Arc<Attempt>]) -> bool) {
        let mut changes = self.changes();
        while !so(&self.all()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn tell(&self) {
        self.changed.send_replace(());
    }

    /// Nothing in here can be half done when a holder panics.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Arc<Attempt>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::{Assignment, AttemptDir};
    use archyard_model::{BuildId, FencingToken, JobId};

    fn attempt(folder: &std::path::Path, token: u64, slot: u32) -> Arc<Attempt> {
        let job = JobId { build: BuildId::from_parts(5, 7), index: 0 };
        let id = AttemptId { job, token: FencingToken(token) };
        let dir = AttemptDir::create(folder, id, &Assignment::default()).unwrap();
        Arc::new(Attempt::new(id, dir, slot))
    }

    #[test]
    fn slots_are_free_once_there_is_a_result() {
        let folder = tempfile::tempdir().unwrap();
        let attempts = Attempts::default();
        assert_eq!(attempts.free_slot(2), Some(0));
        let (one, two) = (attempt(folder.path(), 1, 0), attempt(folder.path(), 2, 1));
        attempts.insert(one.clone());
        attempts.insert(two.clone());
        assert_eq!(attempts.free_slot(2), None);
        one.finish(Default::default());
        assert_eq!(attempts.free_slot(2), Some(0));
        assert_eq!(attempts.free_slot(1), None, "one attempt runs already");
    }

    #[test]
    fn a_folder_stays_until_result_and_log_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let attempts = Attempts::default();
        let one = attempt(folder.path(), 1, 0);
        attempts.insert(one.clone());
        let steps: [fn(&Attempt); 4] = [
            |attempt| attempt.finish(Default::default()),
            Attempt::set_acked,
            Attempt::set_exited,
            Attempt::set_spooled,
        ];
        for step in steps {
            assert!(one.dir.path().exists());
            step(&one);
            attempts.update(&one);
        }
        assert!(!one.dir.path().exists() && attempts.all().is_empty());
    }

    #[test]
    fn what_nobody_wants_goes_with_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let attempts = Attempts::default();
        let one = attempt(folder.path(), 1, 0);
        attempts.insert(one.clone());
        one.discard();
        attempts.update(&one);
        assert!(one.canceled().is_cancelled() && one.dir.path().exists() && one.is_running());
        one.set_exited();
        attempts.update(&one);
        assert!(!one.dir.path().exists());
    }
}
