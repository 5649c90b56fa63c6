//! Why something could not be left with the scheduler.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use archyard_model::{Failure, FailureClass};
use archyard_net::{Outlook, TlsFault, outlook};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// What was built is not with the scheduler.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The worker's own disk.
    #[error("what was built cannot be read from {}: {error}", .path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The worker's own disk is full.
    #[error("the worker's disk is full while writing {}: free some space there", .folder.display())]
    DiskFull {
        /// Where.
        folder: PathBuf,
    },
    /// The scheduler's disk is full.
    #[error("{0}")]
    SchedulerFull(String),
    /// The scheduler keeps too much for other clients.
    #[error("{0}")]
    Crowded(String),
    /// The scheduler will not take it.
    #[error("the scheduler does not take what was built: {0}")]
    Refused(String),
    /// The scheduler, or a file that is needed to dial it, refuses this worker: waiting changes nothing.
    #[error("the scheduler does not take what was built: {0}")]
    SchedulerRefused(String),
    /// The scheduler stayed away.
    #[error("the scheduler did not take what was built within {:.0?}: {reason}", .waited)]
    SchedulerAway {
        /// How long it was tried.
        waited: Duration,
        /// What the last try said.
        reason: String,
    },
    /// Stopped on request.
    #[error("the build was canceled while its result was on its way")]
    Canceled,
}

impl HandoverError {
    /// The error of writing in this folder.
    pub fn writing(folder: PathBuf, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { folder },
            _ => Self::Disk { path: folder, error },
        }
    }

    /// The same in the model's words.
    pub fn into_failure(self) -> Failure {
        let (class, code) = match &self {
            Self::Disk { .. } => (FailureClass::Infrastructure, "disk_failed"),
            Self::DiskFull { .. } | Self::SchedulerFull(_) => (FailureClass::Infrastructure, "disk_full"),
            Self::Crowded(_) => (FailureClass::Infrastructure, "artifacts_full"),
            Self::Refused(_) => (FailureClass::Infrastructure, "artifact_refused"),
            Self::SchedulerRefused(_) => (FailureClass::Infrastructure, "scheduler_refused"),
            Self::SchedulerAway { .. } => (FailureClass::Infrastructure, "scheduler_unreachable"),
            Self::Canceled => (FailureClass::Canceled, "canceled"),
        };
        Failure::new(class, code, self.to_string())
    }
}

/// How one try ended.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Asking again may help.
    Passing(String),
    Final(HandoverError),
}

impl From<archyard_net::Error> for Trouble {
    fn from(error: archyard_net::Error) -> Self {
        match outlook(&error) {
            Outlook::Permanent => Self::Final(HandoverError::SchedulerRefused(error.to_string())),
            Outlook::Transient | Outlook::Unclear => Self::Passing(error.to_string()),
        }
    }
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        if let Some(fault) = TlsFault::of(&status) {
            return Self::Final(HandoverError::SchedulerRefused(fault.to_string()));
        }
        let message = status.message().to_owned();
        let reason = status.get_details_error_info().map(|info| info.reason);
        match (status.code(), reason.as_deref()) {
            (Code::ResourceExhausted, Some("artifacts_full")) => Self::Final(HandoverError::Crowded(message)),
            (Code::ResourceExhausted, Some("disk_full")) => {
                Self::Final(HandoverError::SchedulerFull(message))
            }
            (Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented, _) => {
                Self::Final(HandoverError::Refused(message))
            }
            _ if outlook(&status) == Outlook::Permanent => {
                Self::Final(HandoverError::SchedulerRefused(message))
            }
            (code, _) => Self::Passing(format!("{code}: {message}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn every_refusal_has_its_code() {
        let full = |reason: &str| {
            let details = ErrorDetails::with_error_info(reason, "archyard", std::collections::HashMap::new());
            Status::with_error_details(Code::ResourceExhausted, "no room", details)
        };
        for (status, want) in [
            (full("disk_full"), "disk_full"),
            (full("artifacts_full"), "artifacts_full"),
            (Status::failed_precondition("stale"), "artifact_refused"),
            (Status::permission_denied("role client"), "scheduler_refused"),
        ] {
            match Trouble::from(status) {
                Trouble::Final(error) => assert_eq!(error.into_failure().code, want),
                Trouble::Passing(reason) => panic!("{reason}"),
            }
        }
        assert!(matches!(Trouble::from(Status::unavailable("restarting")), Trouble::Passing(_)));
        let error = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(HandoverError::writing("/x".into(), error).into_failure().code, "disk_full");
    }
}
