//! Locks that are resolved while their build is still on its way into the journal.
//!
//! Registries are asked when a submission arrives, and the answer is there, or nearly, when the build is durable and
//! asks for it. Nothing depends on it: what is not found here is resolved when it is asked for. Only plans without
//! credentials are resolved ahead, for those of the others belong to a build that does not exist yet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use archyard_model::{Failure, Lock, Plan};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Resolved, resolve};
use crate::registry::Registry;

/// Plans that are resolved ahead at a time; more are not.
const AT_ONCE: usize = 16;
/// A submission that was refused never asks.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// What is being resolved.
#[derive(Debug)]
pub struct Ahead {
    tasks: TaskTracker,
    stopping: CancellationToken,
    begun: Mutex<Vec<Begun>>,
}

#[derive(Debug)]
struct Begun {
    plan: Arc<Plan>,
    since: Instant,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    /// None: the scheduler stops.
    Running(JoinHandle<Option<Outcome>>),
    Done(Box<Outcome>),
}

type Outcome = Result<Resolved, Failure>;

impl Ahead {
    /// Nothing is. What is begun runs among these tasks, until the scheduler stops.
    pub fn new(tasks: TaskTracker, stopping: CancellationToken) -> Self {
        Self { tasks, stopping, begun: Mutex::default() }
    }

    /// Begins to resolve this very plan. To be called on a runtime.
    pub fn begin(&self, registry: Registry, plan: &Arc<Plan>, patience: Duration) {
        if !plan.credential_hosts.is_empty() || plan.bases.is_empty() || self.is_full() {
            return;
        }
        let resolving = Arc::clone(plan);
        self.run(plan, async move { resolve(&registry, &resolving, patience).await });
    }

    fn run(&self, plan: &Arc<Plan>, work: impl Future<Output = Outcome> + Send + 'static) {
        let stopping = self.stopping.clone();
        let task = self.tasks.spawn(async move { stopping.run_until_cancelled_owned(work).await });
        self.keep(plan, Progress::Running(task));
    }

    /// The lock of this very plan, if it is there in time and all of the plan can be had; whatever else comes of it is
    /// kept for [`take`](Self::take).
    pub async fn lock_within(&self, plan: &Arc<Plan>, patience: Duration) -> Option<Arc<Lock>> {
        if plan.bases.is_empty() && plan.credential_hosts.is_empty() {
            return Some(Arc::default());
        }
        let Progress::Running(mut task) = self.remove(plan)? else { return None };
        match tokio::time::timeout(patience, &mut task).await {
            Ok(Ok(Some(Ok(Resolved { lock, refused, incomplete: None }))))
                if refused.is_empty() && !lock.is_unlocked() =>
            {
                return Some(Arc::new(lock));
            }
            Ok(Ok(Some(outcome))) => self.keep(plan, Progress::Done(outcome.into())),
            Err(_) => self.keep(plan, Progress::Running(task)),
            // It broke or was stopped: whoever asks resolves it.
            Ok(Ok(None) | Err(_)) => {}
        }
        None
    }

    /// The outcome for this very plan, once it is there. None: nobody began.
    pub async fn take(&self, plan: &Arc<Plan>) -> Option<Outcome> {
        match self.remove(plan)? {
            Progress::Running(task) => task.await.ok().flatten(),
            Progress::Done(outcome) => Some(*outcome),
        }
    }

    /// Nobody will ask.
    pub fn forget(&self, plan: &Arc<Plan>) {
        if let Some(Progress::Running(task)) = self.remove(plan) {
            task.abort();
        }
    }

    fn is_full(&self) -> bool {
        let mut begun = self.lock();
        begun.retain(|each| each.since.elapsed() < FORGOTTEN);
        begun.len() >= AT_ONCE
    }

    fn keep(&self, plan: &Arc<Plan>, progress: Progress) {
        self.lock().push(Begun { plan: Arc::clone(plan), since: Instant::now(), progress });
    }

    fn remove(&self, plan: &Arc<Plan>) -> Option<Progress> {
        let mut begun = self.lock();
        let at = begun.iter().position(|each| Arc::ptr_eq(&each.plan, plan))?;
        Some(begun.swap_remove(at).progress)
    }

    /// Nothing in here can be half done when a holder panics.
    fn lock(&self) -> MutexGuard<'_, Vec<Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use archyard_model::FailureClass;

    use super::*;
    use crate::testing;

    fn based() -> Arc<Plan> {
        let image: archyard_model::Reference = "debian:12".parse().unwrap();
        let uses = vec![archyard_model::BaseUse { job: 0, image, platform: None }];
        let kind = archyard_model::BaseKind::From;
        let base = archyard_model::Base { kind, line: 1, span: 0..1, token: "d".to_owned(), uses };
        Arc::new(Plan { bases: vec![base], ..testing::plan() })
    }

    fn ahead() -> Ahead {
        Ahead::new(TaskTracker::new(), CancellationToken::new())
    }

    fn resolved() -> Outcome {
        Ok(Resolved { lock: Lock::default(), refused: BTreeMap::new(), incomplete: None })
    }

    #[tokio::test]
    async fn what_is_there_in_time_is_given_once() {
        let (ahead, plan) = (ahead(), based());
        ahead.run(&plan, async { resolved() });
        assert!(ahead.lock_within(&plan, Duration::from_secs(5)).await.is_some());
        assert!(ahead.take(&plan).await.is_none());
    }

    #[tokio::test]
    async fn what_is_late_or_refused_is_kept_for_whoever_asks() {
        let (ahead, slow, bad) = (ahead(), based(), based());
        ahead.run(&slow, async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            resolved()
        });
        ahead.run(&bad, async { Err(Failure::new(FailureClass::User, "base_not_found", "x")) });
        assert!(ahead.lock_within(&slow, Duration::from_millis(1)).await.is_none());
        assert!(ahead.lock_within(&bad, Duration::from_secs(5)).await.is_none());
        assert_eq!(ahead.take(&slow).await.unwrap(), resolved());
        assert_eq!(ahead.take(&bad).await.unwrap().unwrap_err().code, "base_not_found");
    }

    #[tokio::test]
    async fn another_plan_with_the_same_words_is_another() {
        let (ahead, plan) = (ahead(), based());
        ahead.run(&plan, async { resolved() });
        assert!(ahead.take(&based()).await.is_none());
        ahead.forget(&plan);
        assert!(ahead.take(&plan).await.is_none());
    }

    #[tokio::test]
    async fn without_bases_there_is_nothing_to_wait_for() {
        let ahead = ahead();
        let plan = Arc::new(testing::plan());
        assert!(ahead.lock_within(&plan, Duration::ZERO).await.is_some());
        let attached = Arc::new(Plan { credential_hosts: vec!["r".to_owned()], ..testing::plan() });
        assert!(ahead.lock_within(&attached, Duration::ZERO).await.is_none());
    }
}
