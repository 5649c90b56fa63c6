//! What callers are told when something fails: the one place where errors become gRPC statuses.
//!
//! A user's mistake names field, value and remedy. The scheduler's own trouble goes to its log in full, and to the
//! caller as one sentence.

use archyard_model::{BuildId, Invalid};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::core::Refusal;
use crate::core::heritage::Unfit;
use crate::{artifacts, blobs, disk, driver, retention, spools, views};

/// An error that a caller can be told.
pub(super) trait IntoStatus {
    /// The status that says it.
    fn into_status(self) -> Status;
}

/// For ids that never were, or that retention removed.
pub(super) fn no_build(build: BuildId) -> Status {
    Status::not_found(format!("no build {build} on this farm; `archyard ps --all` lists those it knows"))
}

/// The scheduler goes down.
pub(super) fn stopping() -> Status {
    Status::unavailable("the scheduler is stopping; try again")
}

impl IntoStatus for Status {
    fn into_status(self) -> Status {
        self
    }
}

impl IntoStatus for Invalid {
    fn into_status(self) -> Status {
        let details = ErrorDetails::with_bad_request_violation(self.field.clone(), self.problem.clone());
        Status::with_error_details(Code::InvalidArgument, self.to_string(), details)
    }
}

impl IntoStatus for Unfit {
    fn into_status(self) -> Status {
        Status::failed_precondition(self.to_string())
    }
}

impl IntoStatus for driver::Error {
    fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::Refused(refusal) => match refusal {
                Refusal::UnknownBuild(build) => no_build(build),
                Refusal::UnknownWorker(_) => Status::not_found(message),
                Refusal::NotCancelable { .. }
                | Refusal::NotPublishing { .. }
                | Refusal::TagsForgotten { .. }
                | Refusal::Late(_) => Status::failed_precondition(message),
                Refusal::Full { .. } => Status::resource_exhausted(message),
                Refusal::StaleConnection => Status::aborted(message),
            },
            Self::Stopped => Status::unavailable(message),
            Self::DiskFull => Status::resource_exhausted(message),
        }
    }
}

impl IntoStatus for disk::Error {
    fn into_status(self) -> Status {
        tracing::error!(error = %self, "a store of the scheduler failed");
        match &self {
            Self::Full(_) => Status::resource_exhausted(self.to_string()),
            Self::Io { .. } => {
                Status::internal("the scheduler's data folder is in trouble; its log has the details")
            }
        }
    }
}

impl IntoStatus for blobs::Error {
    fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::Invalid(invalid) => invalid.into_status(),
            Self::Missing { first, .. } => {
                let details = ErrorDetails::with_precondition_failure_violation(
                    "MISSING_BLOB",
                    first.to_string(),
                    message.clone(),
                );
                Status::with_error_details(Code::FailedPrecondition, message, details)
            }
            Self::NotFound(_) => Status::not_found(message),
            Self::Disk(error) => error.into_status(),
        }
    }
}

impl IntoStatus for artifacts::Error {
    fn into_status(self) -> Status {
        let message = self.to_string();
        // Two ways to have no room, with two remedies: the worker must be able to tell them apart.
        let no_room = |reason: &str| {
            let details = ErrorDetails::with_error_info(reason, "archyard", std::collections::HashMap::new());
            Status::with_error_details(Code::ResourceExhausted, message.clone(), details)
        };
        match self {
            Self::Full { .. } => no_room("artifacts_full"),
            Self::Blobs(blobs::Error::Disk(disk::Error::Full(_))) => no_room("disk_full"),
            Self::Blobs(error) => error.into_status(),
            Self::Raced => Status::unavailable(message),
        }
    }
}

impl IntoStatus for retention::Error {
    fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::Disk(error) => error.into_status(),
            Self::Driver(error) => error.into_status(),
            Self::Stopped => Status::unavailable(message),
            Self::Settling { .. } => Status::failed_precondition(message),
        }
    }
}

impl IntoStatus for spools::Error {
    fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::Gap { .. } => Status::out_of_range(message),
            Self::TooLong(_) => Status::resource_exhausted(message),
            Self::Disk(error) => error.into_status(),
        }
    }
}

impl IntoStatus for views::Error {
    fn into_status(self) -> Status {
        match self {
            Self::Disk(error) => error.into_status(),
            Self::Corrupt { build, .. } => {
                tracing::error!(%build, error = %self, "a record cannot be read");
                Status::data_loss(format!(
                    "the record of build {build} is damaged; the scheduler's log has the details"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_names_its_field_for_people_and_for_programs() {
        let status =
            Invalid::new("plan.tags[0]", "UPPER/x", "a repository's name is lowercase").into_status();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("UPPER/x"), "{status:?}");
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "plan.tags[0]");
    }

    #[test]
    fn a_full_disk_is_told_and_other_trouble_is_not() {
        let full = disk::Error::Full("/data".into()).into_status();
        assert_eq!(full.code(), Code::ResourceExhausted);
        assert!(full.message().contains("/data"), "{full:?}");
        let io =
            disk::Error::Io { path: "/data/secret/path".into(), source: std::io::ErrorKind::Other.into() };
        let io = io.into_status();
        assert_eq!(io.code(), Code::Internal);
        assert!(!io.message().contains("secret"), "{io:?}");
    }
}
