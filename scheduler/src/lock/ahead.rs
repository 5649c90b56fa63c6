//! Locks that are resolved while their build is still on its way into the journal.
//!
//! Registries are asked when a submission arrives, and the answer is there, or nearly, when the build is durable and
//! asks for it. Nothing depends on it: what is not found here is resolved when it is asked for. Only plans without
//! credentials are resolved ahead, for those of the others belong to a build that does not exist yet.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use archyard_model::{Failure, Lock, Plan};
use tokio::task::JoinHandle;

use super::{Resolved, resolve};
use crate::registry::Registry;

/// Plans that are resolved ahead at a time; more are not.
const AT_ONCE: usize = 16;
/// A submission that was refused never asks.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// What is being resolved.
#[derive(Debug, Default)]
pub struct Ahead(Mutex<Vec<Running>>);

#[derive(Debug)]
struct Running {
    plan: Arc<Plan>,
    since: Instant,
    outcome: JoinHandle<Result<Resolved, Failure>>,
}

impl Ahead {
    /// Begins to resolve this very plan. To be called on a runtime.
    pub fn begin(&self, registry: Registry, plan: &Arc<Plan>, patience: Duration) {
        if !plan.credential_hosts.is_empty() || plan.bases.is_empty() {
            return;
        }
        if self.is_full() {
            return;
        }
        let resolving = Arc::clone(plan);
        self.keep(plan, tokio::spawn(async move { resolve(&registry, &resolving, patience).await }));
    }

    /// The lock of this very plan, if it is there in time and all of the plan can be had; whatever else comes of it is
    /// kept for [`take`](Self::take).
    pub async fn lock_within(&self, plan: &Arc<Plan>, patience: Duration) -> Option<Arc<Lock>> {
        if plan.bases.is_empty() && plan.credential_hosts.is_empty() {
            return Some(Arc::default());
        }
        let mut running = self.remove(plan)?;
        let outcome = tokio::time::timeout(patience, &mut running).await;
        match outcome {
            Ok(Ok(Ok(Resolved { lock, refused }))) if refused.is_empty() && !lock.is_unlocked() => {
                Some(Arc::new(lock))
            }
            Ok(Ok(outcome)) => {
                self.keep(plan, tokio::spawn(std::future::ready(outcome)));
                None
            }
            Ok(Err(_)) => None,
            Err(_) => {
                self.keep(plan, running);
                None
            }
        }
    }

    /// The outcome for this very plan, once it is there. None: nobody began.
    pub async fn take(&self, plan: &Arc<Plan>) -> Option<Result<Resolved, Failure>> {
        self.remove(plan)?.await.ok()
    }

    /// Nobody will ask.
    pub fn forget(&self, plan: &Arc<Plan>) {
        if let Some(outcome) = self.remove(plan) {
            outcome.abort();
        }
    }

    fn is_full(&self) -> bool {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|each| each.since.elapsed() < FORGOTTEN);
        running.len() >= AT_ONCE
    }

    fn keep(&self, plan: &Arc<Plan>, outcome: JoinHandle<Result<Resolved, Failure>>) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.push(Running { plan: Arc::clone(plan), since: Instant::now(), outcome });
    }

    fn remove(&self, plan: &Arc<Plan>) -> Option<JoinHandle<Result<Resolved, Failure>>> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = running.iter().position(|each| Arc::ptr_eq(&each.plan, plan))?;
        Some(running.swap_remove(at).outcome)
    }
}
