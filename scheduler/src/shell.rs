//! The driver's hands: resolving locks, publishing, keeping records, each in a task of its own.

use std::sync::Arc;
use std::time::Duration;

use archyard_model::{BuildId, Failure, FailureClass, Plan, Reference, Sha256};
use tokio::runtime;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::core::{EndedBuild, PublishOrder, policy};
use crate::credentials::Credentials;
use crate::driver::{Handle, Shell};
use crate::lock::{self, Ahead, Resolved};
use crate::publish::{self, Failed, Ledger};
use crate::registry;
use crate::registry::Registries;
use crate::views::Views;

/// Locks resolved at a time, publishings and promotions, each.
const AT_ONCE: usize = 16;
/// Records written at a time: they wait for one disk.
const WRITERS: usize = 4;
/// How often a promotion asks whether its build still wants it: one that brings large blobs must not outlive its cancel.
const STILL_WANTED: Duration = Duration::from_secs(2);
/// The first pause after a record could not be written; each later one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What the hands reach.
#[derive(Debug, Clone)]
pub(crate) struct Hands {
    /// The tasks, waited for when the scheduler stops.
    pub(crate) tasks: TaskTracker,
    /// What they run on: the driver's thread is none of it.
    pub(crate) runtime: runtime::Handle,
    pub(crate) stopping: CancellationToken,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) registries: Arc<Registries>,
    pub(crate) views: Arc<Views>,
    pub(crate) lock_patience: Duration,
    /// Locks that are resolved already, perhaps.
    pub(crate) ahead: Arc<Ahead>,
}

/// [`Hands`] with the driver they answer to.
#[derive(Debug, Clone)]
pub(crate) struct Effects {
    hands: Hands,
    driver: Handle,
    locks: Arc<Semaphore>,
    publishings: Arc<Semaphore>,
    /// Apart, for they may take long.
    promotions: Arc<Semaphore>,
    writers: Arc<Semaphore>,
}

impl Effects {
    pub(crate) fn new(hands: Hands, driver: Handle) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self {
            hands,
            driver,
            locks: semaphore(AT_ONCE),
            publishings: semaphore(AT_ONCE),
            promotions: semaphore(AT_ONCE),
            writers: semaphore(WRITERS),
        }
    }

    /// Runs a task until it is done or the scheduler stops: all of this is done again after a restart.
    fn start(
        &self,
        permits: &Arc<Semaphore>,
        span: tracing::Span,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let (stopping, permits) = (self.hands.stopping.clone(), Arc::clone(permits));
        let task = async move {
            let work = async {
                // The semaphore is never closed.
                let _permit = permits.acquire().await;
                work.await;
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                () = work => {}
            }
        };
        self.hands.tasks.spawn_on(task.instrument(span), &self.hands.runtime);
    }

    /// Binds credentials to their build: this may run before the submission's own answer does.
    async fn bind_credentials(&self, build: BuildId) {
        if let Ok(Some(record)) = self.driver.record(build).await {
            self.hands.credentials.bind(&record.principal, &record.request_id, build);
        }
    }

    async fn resolve(self, build: BuildId, plan: Arc<Plan>) {
        if !plan.credential_hosts.is_empty() {
            self.bind_credentials(build).await;
        }
        let outcome = match self.hands.ahead.take(&plan).await {
            Some(outcome) => outcome,
            None => match self.hands.registries.of(&plan, self.hands.credentials.of(build)) {
                Ok(registry) => lock::resolve(&registry, &plan, self.hands.lock_patience).await,
                Err(error) => Err(no_client(&error)),
            },
        };
        let answered = match outcome {
            Ok(Resolved { incomplete: Some(reason), .. }) => {
                tracing::info!(%build, "the whole context is needed: {reason}");
                self.driver.context_incomplete(build, reason).await
            }
            Ok(Resolved { lock, refused, incomplete: None }) => {
                for (job, failure) in refused {
                    tracing::info!(%build, job, code = failure.code, "not on trial after all: {failure}");
                    if let Err(error) = self.driver.trial_refused(build, job, failure).await {
                        return tracing::debug!(%build, %error, "the lock came too late");
                    }
                }
                for (image, locked) in &lock.images {
                    if let Some(warning) = &locked.warning {
                        tracing::warn!(%build, %image, warning, "an image is not locked");
                    }
                }
                self.driver.lock_resolved(build, lock).await
            }
            Err(failure) => {
                tracing::info!(%build, code = failure.code, "the lock failed: {failure}");
                self.driver.lock_failed(build, failure).await
            }
        };
        if let Err(error) = answered {
            tracing::debug!(%build, %error, "the lock came too late");
        }
    }

    /// One try at publishing. It ends before the core gives it up and orders another, so that no two tries of one build
    /// push at the same time.
    async fn publish(self, order: PublishOrder, deadline: Instant) {
        let build = order.build;
        let beside = order.promotion.as_ref().map(|promotion| promotion.staging.as_str());
        let registry = self.hands.registries.reaching(&order.plan, beside, self.hands.credentials.of(build));
        let outcome = match registry {
            Ok(registry) => {
                let journaled = Journaled(&self.driver);
                let publishing = timeout_at(deadline, publish::publish(&registry, &order, &journaled));
                tokio::select! {
                    done = publishing => done.unwrap_or_else(|_| Err(too_slow(&order))),
                    () = self.unwanted(&order) => Ok(false),
                }
            }
            Err(error) => Err(Failed { failure: no_client(&error), retryable: true }),
        };
        let answered = match outcome {
            Ok(true) => self.driver.publish_done(build).await,
            Ok(false) => return tracing::info!(%build, "publishing was told to stop"),
            Err(Failed { failure, retryable }) => {
                tracing::warn!(%build, attempt = order.attempt, retryable, code = failure.code, "publishing failed: {failure}");
                self.driver.publish_failed(build, failure, retryable).await
            }
        };
        if let Err(error) = answered {
            tracing::debug!(%build, %error, "the publisher came too late");
        }
    }

    /// Returns when a promotion's build has ended meanwhile. Other publishing is short, and hears it from the journal.
    async fn unwanted(&self, order: &PublishOrder) {
        if order.promotion.is_none() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(STILL_WANTED).await;
            match self.driver.record(order.build).await {
                Ok(Some(record)) if !record.state.is_terminal() => {}
                _ => return,
            }
        }
    }

    async fn archive(self, ended: EndedBuild) {
        let build = ended.record.id;
        let ended = Arc::new(ended);
        let mut pause = PAUSE;
        loop {
            let (views, ended) = (Arc::clone(&self.hands.views), Arc::clone(&ended));
            let error = match tokio::task::spawn_blocking(move || views.archive(&ended)).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            tracing::error!(%build, error, retry_s = pause.as_secs(), "an ended build's record cannot be written");
            tokio::time::sleep(pause).await;
            pause = PAUSE_MAX.min(pause * 2);
        }
        if let Err(error) = self.driver.archived(build).await {
            tracing::debug!(%build, %error, "archived twice");
        }
    }
}

impl Shell for Effects {
    fn resolve(&mut self, build: BuildId, plan: Arc<Plan>) {
        let span = tracing::info_span!("lock", %build);
        self.start(&self.locks, span, self.clone().resolve(build, plan));
    }

    fn publish(&mut self, order: PublishOrder) {
        let span = tracing::info_span!("publish", build = %order.build);
        let is_promotion = order.promotion.is_some();
        let deadline = Instant::now() + policy::publish_patience(is_promotion);
        let permits = if is_promotion { &self.promotions } else { &self.publishings };
        self.start(permits, span, self.clone().publish(order, deadline));
    }

    fn archive(&mut self, ended: EndedBuild) {
        let build = ended.record.id;
        // It needs them no more, however long its record takes to be written.
        self.hands.credentials.forget(build);
        let span = tracing::info_span!("archive", %build);
        self.start(&self.writers, span, self.clone().archive(ended));
    }
}

/// The driver as the publisher sees it.
struct Journaled<'h>(&'h Handle);

impl Ledger for Journaled<'_> {
    async fn prepared(&self, build: BuildId, index: Sha256, size: u64) -> bool {
        self.0.index_prepared(build, index, size).await.is_ok()
    }

    async fn moved(&self, build: BuildId, tag: Reference) -> bool {
        self.0.tag_moved(build, tag).await.is_ok()
    }
}

fn too_slow(order: &PublishOrder) -> Failed {
    let message = format!(
        "the registry was too slow: publishing took longer than {} s; build again when it is faster",
        policy::publish_patience(order.promotion.is_some()).as_secs()
    );
    Failed { failure: Failure::new(FailureClass::Infrastructure, "registry_slow", message), retryable: true }
}

fn no_client(error: &registry::Error) -> Failure {
    Failure::new(FailureClass::Infrastructure, "registry_client", error.to_string())
}
