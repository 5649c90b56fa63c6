//! Why a context could not be brought to this machine.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use archyard_model::{Blake3, Failure, FailureClass, Invalid};

/// A context, or a blob, that is not here.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// No room.
    #[error(
        "the worker's disk is full while bringing the context to {}: free some space there, or lower --cache-size",
        .folder.display()
    )]
    DiskFull {
        /// The cache's folder.
        folder: PathBuf,
    },
    /// The disk said something else.
    #[error("the worker's cache at {} failed: {error}", .folder.display())]
    Disk {
        /// The cache's folder.
        folder: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The scheduler does not have it either.
    #[error("the scheduler has no blob of this build any more: {message}; submit the build again")]
    Missing {
        /// What the scheduler said.
        message: String,
    },
    /// The scheduler stayed away.
    #[error("the scheduler did not send the context within {:.0?}: {reason}", .waited)]
    SchedulerAway {
        /// How long it was asked.
        waited: Duration,
        /// What the last try said.
        reason: String,
    },
    /// The scheduler, or a file that is needed to dial it, refuses this worker: waiting changes nothing.
    #[error("the scheduler does not send the context: {reason}")]
    SchedulerRefused {
        /// Why, and the remedy.
        reason: String,
    },
    /// Bytes that are not what they are called.
    #[error("blob {digest} arrived with other content again and again; the scheduler's copy is damaged")]
    Corrupt {
        /// As asked for.
        digest: Blake3,
    },
    /// A manifest that no client of this version makes.
    #[error("the build's context is malformed: {0}")]
    Malformed(#[from] Invalid),
    /// Stopped on request.
    #[error("the build was canceled while its context was on its way")]
    Canceled,
}

impl CacheError {
    /// The error of a disk operation in this folder.
    pub(crate) fn disk(folder: impl Into<PathBuf>, error: io::Error) -> Self {
        let folder = folder.into();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { folder },
            _ => Self::Disk { folder, error },
        }
    }

    /// The same in the model's words.
    pub fn into_failure(self) -> Failure {
        let (class, code) = match &self {
            Self::DiskFull { .. } => (FailureClass::Infrastructure, "disk_full"),
            Self::Disk { .. } => (FailureClass::Infrastructure, "disk_failed"),
            Self::Missing { .. } => (FailureClass::Infrastructure, "context_missing"),
            Self::SchedulerAway { .. } => (FailureClass::Infrastructure, "scheduler_unreachable"),
            Self::SchedulerRefused { .. } => (FailureClass::Infrastructure, "scheduler_refused"),
            Self::Corrupt { .. } => (FailureClass::Infrastructure, "context_corrupt"),
            Self::Malformed(_) => (FailureClass::User, "context_malformed"),
            Self::Canceled => (FailureClass::Canceled, "canceled"),
        };
        Failure::new(class, code, self.to_string())
    }
}
