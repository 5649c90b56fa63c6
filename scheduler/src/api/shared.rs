//! What all services share.

use std::sync::Arc;
use std::time::Duration;

use archyard_model::{BuildId, Principal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Status};

use super::status::{IntoStatus, no_build};
use crate::artifacts::Artifacts;
use crate::blobs;
use crate::credentials::Credentials;
use crate::driver::Handle;
use crate::lock::Ahead;
use crate::registry::Registries;
use crate::retention::{Retention, What};
use crate::spools::Spools;
use crate::views::Views;

/// Everything a service reaches. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The driver.
    pub driver: Handle,
    /// Contexts.
    pub blobs: Arc<blobs::Store>,
    /// What workers leave for clients.
    pub artifacts: Arc<Artifacts>,
    /// Logs.
    pub spools: Arc<Spools>,
    /// Ended builds.
    pub views: Arc<Views>,
    /// What was removed, and why.
    pub retention: Arc<Retention>,
    /// Credentials, in memory.
    pub credentials: Arc<Credentials>,
    /// The farm's ways to registries.
    pub registries: Arc<Registries>,
    /// Locks that are resolved before their builds ask.
    pub ahead: Arc<Ahead>,
    /// How long resolving one may take.
    pub lock_patience: Duration,
    /// Every task that outlives a call's own future.
    pub tasks: TaskTracker,
    /// The scheduler stops: streams end.
    pub stopping: CancellationToken,
    /// How often workers are to say that they live.
    pub heartbeat: Duration,
    /// Silence after which they are taken for lost.
    pub lease: Duration,
}

impl Shared {
    /// Runs what blocks on the blocking pool.
    pub(super) async fn blocking<T, E>(
        &self,
        work: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, Status>
    where
        T: Send + 'static,
        E: IntoStatus + Send + 'static,
    {
        match tokio::task::spawn_blocking(work).await {
            Ok(outcome) => outcome.map_err(IntoStatus::into_status),
            Err(error) => {
                tracing::error!(%error, "a request's work ended unexpectedly");
                Err(Status::internal("the scheduler failed on this request; its log has the details"))
            }
        }
    }
}

impl Shared {
    /// For a build that neither the core nor the records know: it never was, or retention removed it.
    pub(super) fn no_build(&self, build: BuildId) -> Status {
        match self.retention.removed(build).filter(|note| note.what == What::Record) {
            Some(note) => Status::not_found(format!(
                "the record of build {build} is not kept any more: {}",
                self.retention.explain(note)
            )),
            None => no_build(build),
        }
    }

    /// Refuses to read a log that retention removed.
    pub(super) fn check_log(&self, build: BuildId) -> Result<(), Status> {
        match self.retention.removed(build) {
            Some(note) if !self.spools.has(build) => Err(Status::not_found(format!(
                "the log of build {build} is not kept any more: {}",
                self.retention.explain(note)
            ))),
            _ => Ok(()),
        }
    }
}

/// Who calls, as [`AdmitLayer`](super::AdmitLayer) found out.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Principal, Status> {
    request
        .extensions()
        .get::<Principal>()
        .cloned()
        .ok_or_else(|| Status::unauthenticated("this connection has no principal"))
}
