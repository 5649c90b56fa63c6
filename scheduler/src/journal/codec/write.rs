//! Facts to records.

use archyard_model::convert::{
    build_state_to_proto, context_to_proto, failure_to_proto, image_to_proto, lock_to_proto, plan_to_proto,
    platform_to_proto, tag_to_proto,
};
use archyard_model::{AttemptId, BuildId, BuildState, Failure, ImageResult, JobId};
use archyard_proto::journal::v1 as proto;
use bytes::Bytes;
use proto::fact::Fact as Record;

use super::{heritage, snapshot};
use crate::core::{Fact, Verdict};

pub(super) fn fact(fact: &Fact) -> Option<Record> {
    Some(match fact {
        Fact::BuildAccepted { build, request_id, principal, plan, pool, heritage } => {
            Record::BuildAccepted(proto::BuildAccepted {
                build: build_id(*build),
                request_id: request_id.to_string(),
                principal: principal.to_string(),
                plan: Some(plan_to_proto(plan)),
                pool: pool.to_string(),
                heritage: heritage.as_deref().map(heritage::write),
            })
        }
        Fact::BuildWaiting { build, reason } => {
            Record::BuildWaiting(proto::BuildWaiting { build: build_id(*build), reason: reason.clone() })
        }
        Fact::ContextMissed { build, reason } => {
            Record::ContextMissed(proto::ContextMissed { build: build_id(*build), reason: reason.clone() })
        }
        Fact::ContextCompleted { build, context } => Record::ContextCompleted(proto::ContextCompleted {
            build: build_id(*build),
            context: Some(context_to_proto(context)),
        }),
        Fact::BuildLocked { build, lock } => Record::BuildLocked(proto::BuildLocked {
            build: build_id(*build),
            lock: Some(lock_to_proto(lock)),
        }),
        Fact::JobWaiting { job: id, reason } => {
            Record::JobWaiting(proto::JobWaiting { job: Some(job(*id)), reason: reason.clone() })
        }
        Fact::JobLeased { attempt: id, worker } => {
            Record::JobLeased(proto::JobLeased { attempt: Some(attempt(*id)), worker: worker.to_string() })
        }
        Fact::AttemptStarted { attempt: id } => {
            Record::AttemptStarted(proto::AttemptStarted { attempt: Some(attempt(*id)) })
        }
        Fact::AttemptEnded { attempt, outcome, log_bytes, log_warning, verdict } => {
            Record::AttemptEnded(attempt_ended(*attempt, outcome, *log_bytes, log_warning.as_ref(), *verdict))
        }
        Fact::JobEnded { job: id, verdict: end, failure } => Record::JobEnded(proto::JobEnded {
            job: Some(job(*id)),
            verdict: verdict(*end).into(),
            failure: failure.as_ref().map(failure_to_proto),
        }),
        Fact::JobCrossed { job: id, platform } => Record::JobCrossed(proto::JobCrossed {
            job: Some(job(*id)),
            platform: platform.as_ref().map(platform_to_proto),
        }),
        Fact::JobStopping { job: id, reason } => {
            Record::JobStopping(proto::JobStopping { job: Some(job(*id)), reason: reason.clone() })
        }
        Fact::CancelRequested { build, principal, reason } => {
            Record::CancelRequested(proto::CancelRequested {
                build: build_id(*build),
                principal: principal.to_string(),
                reason: reason.clone(),
            })
        }
        Fact::BuildEnding { build, state, failure } => {
            let (build, state, failure) = end(*build, *state, failure.as_ref());
            Record::BuildEnding(proto::BuildEnding { build, state, failure })
        }
        Fact::PublishStarted { build } => {
            Record::PublishStarted(proto::PublishStarted { build: build_id(*build) })
        }
        Fact::IndexPrepared { build, index, size } => Record::IndexPrepared(proto::IndexPrepared {
            build: build_id(*build),
            index: Bytes::copy_from_slice(index.as_bytes()),
            size_bytes: *size,
        }),
        Fact::TagSettled { build, tag } => {
            Record::TagSettled(proto::TagSettled { build: build_id(*build), tag: Some(tag_to_proto(tag)) })
        }
        Fact::TagTouched { build, tag } => {
            Record::TagTouched(proto::TagTouched { build: build_id(*build), tag: tag.to_string() })
        }
        Fact::BuildPublished { build } => {
            Record::BuildPublished(proto::BuildPublished { build: build_id(*build) })
        }
        Fact::PublishTried { build, failure } => Record::PublishTried(proto::PublishTried {
            build: build_id(*build),
            failure: Some(failure_to_proto(failure)),
        }),
        Fact::BuildEnded { build, state, failure } => {
            let (build, state, failure) = end(*build, *state, failure.as_ref());
            Record::BuildEnded(proto::BuildEnded { build, state, failure })
        }
        Fact::BuildArchived { build } => {
            Record::BuildArchived(proto::BuildArchived { build: build_id(*build) })
        }
        Fact::DrainMarked { worker, principal, draining } => Record::DrainMarked(proto::DrainMarked {
            worker: worker.to_string(),
            principal: principal.to_string(),
            draining: *draining,
        }),
        Fact::HeaderRestored(header) => Record::HeaderRestored(snapshot::write_header(header)),
        Fact::BuildRestored(build) => Record::BuildRestored(snapshot::write_build(build)),
        Fact::WorkerJoined { .. }
        | Fact::WorkerHeard { .. }
        | Fact::WorkerLeft { .. }
        | Fact::WorkerLost { .. }
        | Fact::WorkerForgotten { .. }
        | Fact::WorkerWish { .. }
        | Fact::WorkerWilling { .. }
        | Fact::WorkerDeclined { .. }
        | Fact::WorkerAlive { .. }
        | Fact::SlotFreed { .. }
        | Fact::StrayFound { .. }
        | Fact::ResultNoted { .. }
        | Fact::CredentialsPresent { .. }
        | Fact::CredentialsMissed { .. }
        | Fact::ContextAwaited { .. }
        | Fact::LockAsked { .. }
        | Fact::PublishAsked { .. }
        | Fact::ArchiveAsked { .. }
        | Fact::TimerPassed { .. } => return None,
    })
}

pub(super) fn build_id(build: BuildId) -> Bytes {
    Bytes::copy_from_slice(&build.to_u128().to_be_bytes())
}

fn job(job: JobId) -> proto::Job {
    proto::Job { build: build_id(job.build), index: u32::from(job.index) }
}

fn attempt(attempt: AttemptId) -> proto::Attempt {
    proto::Attempt { job: Some(job(attempt.job)), token: attempt.token.0 }
}

fn attempt_ended(
    id: AttemptId,
    outcome: &Result<ImageResult, Failure>,
    log_bytes: u64,
    log_warning: Option<&String>,
    end: Verdict,
) -> proto::AttemptEnded {
    proto::AttemptEnded {
        attempt: Some(attempt(id)),
        image: outcome.as_ref().ok().map(image_to_proto),
        failure: outcome.as_ref().err().map(failure_to_proto),
        log_bytes,
        log_warning: log_warning.cloned().unwrap_or_default(),
        verdict: verdict(end).into(),
    }
}

fn end(
    build: BuildId,
    state: BuildState,
    failure: Option<&Failure>,
) -> (Bytes, i32, Option<archyard_proto::v1::Failure>) {
    (build_id(build), build_state_to_proto(state).into(), failure.map(failure_to_proto))
}

fn verdict(verdict: Verdict) -> proto::Verdict {
    match verdict {
        Verdict::Succeeded => proto::Verdict::Succeeded,
        Verdict::Retry => proto::Verdict::Retry,
        Verdict::Requeue => proto::Verdict::Requeue,
        Verdict::Failed => proto::Verdict::Failed,
        Verdict::Canceled => proto::Verdict::Canceled,
    }
}
