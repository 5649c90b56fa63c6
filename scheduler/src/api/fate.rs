//! What became of an attempt, asked of the driver while its build runs and of the record afterwards.

use std::sync::Arc;

use archyard_model::AttemptId;
use archyard_proto::v1 as proto;
use tonic::Status;

use super::Shared;
use super::status::IntoStatus;

/// How an attempt stands, as far as its log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nobody knows of it.
    Unknown,
    /// It goes on.
    Running,
    /// It is over, and its log has so many bytes.
    Ended(u64),
    /// It is over without a word on its log: its worker was lost, or a newer attempt took its place.
    Lost,
}

impl Shared {
    /// How an attempt stands.
    pub(super) async fn fate(&self, attempt: AttemptId) -> Result<Fate, Status> {
        if let Some(status) = self.driver.attempt(attempt).await.map_err(IntoStatus::into_status)? {
            return Ok(match (status.ended, status.log_bytes) {
                (false, _) => Fate::Running,
                (true, Some(bytes)) => Fate::Ended(bytes),
                (true, None) => Fate::Lost,
            });
        }
        let views = Arc::clone(&self.views);
        let record = self.blocking(move || views.record(attempt.job.build)).await?;
        Ok(record.map_or(Fate::Unknown, |record| of_record(&record, attempt)))
    }
}

fn of_record(record: &proto::BuildRecord, attempt: AttemptId) -> Fate {
    let job = record.jobs.iter().find(|job| job.index == u32::from(attempt.job.index));
    let found = job.and_then(|job| job.attempts.iter().find(|found| found.token == attempt.token.0));
    match found {
        None => Fate::Unknown,
        Some(found) if found.log_bytes > 0 => Fate::Ended(found.log_bytes),
        Some(_) => Fate::Lost,
    }
}
