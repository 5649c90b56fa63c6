//! Records to facts.

use std::sync::Arc;

use archyard_model::convert::{
    build_state_from_proto, context_from_proto, failure_from_proto, image_from_proto, lock_from_proto,
    plan_from_proto, platform_from_proto, tag_from_proto,
};
use archyard_model::{AttemptId, BuildId, BuildState, Failure, FencingToken, Invalid, JobId, Sha256};
use archyard_proto::journal::v1 as proto;
use archyard_proto::v1;
use proto::fact::Fact as Record;

use super::{heritage, snapshot};
use crate::core::{Fact, Verdict};

pub(super) fn fact(record: Record) -> Result<Fact, Invalid> {
    Ok(match record {
        Record::BuildAccepted(m) => Fact::BuildAccepted {
            build: build_id(&m.build)?,
            request_id: m.request_id.parse()?,
            principal: m.principal.parse()?,
            plan: Arc::new(plan_from_proto(required("plan", m.plan)?)?),
            pool: m.pool.parse()?,
            heritage: m.heritage.map(heritage::read).transpose()?.map(Arc::new),
        },
        Record::BuildWaiting(m) => Fact::BuildWaiting { build: build_id(&m.build)?, reason: m.reason },
        Record::ContextMissed(m) => Fact::ContextMissed { build: build_id(&m.build)?, reason: m.reason },
        Record::ContextCompleted(m) => Fact::ContextCompleted {
            build: build_id(&m.build)?,
            context: context_from_proto("context", m.context)?,
        },
        Record::BuildLocked(m) => Fact::BuildLocked {
            build: build_id(&m.build)?,
            lock: Arc::new(lock_from_proto(required("lock", m.lock)?)?),
        },
        Record::JobWaiting(m) => Fact::JobWaiting { job: job(m.job)?, reason: m.reason },
        Record::JobLeased(m) => Fact::JobLeased { attempt: attempt(m.attempt)?, worker: m.worker.parse()? },
        Record::AttemptStarted(m) => Fact::AttemptStarted { attempt: attempt(m.attempt)? },
        Record::AttemptEnded(m) => {
            let verdict = verdict(m.verdict())?;
            let outcome = match m.image {
                Some(image) => Ok(image_from_proto(image)?),
                None => Err(failure_from_proto(required("failure", m.failure)?)?),
            };
            let log_warning = (!m.log_warning.is_empty()).then_some(m.log_warning);
            let attempt = attempt(m.attempt)?;
            Fact::AttemptEnded { attempt, outcome, log_bytes: m.log_bytes, log_warning, verdict }
        }
        Record::JobEnded(m) => Fact::JobEnded {
            verdict: verdict(m.verdict())?,
            job: job(m.job)?,
            failure: m.failure.map(failure_from_proto).transpose()?,
        },
        Record::JobCrossed(m) => Fact::JobCrossed {
            job: job(m.job)?,
            platform: m.platform.as_ref().map(platform_from_proto).transpose()?,
        },
        Record::JobStopping(m) => Fact::JobStopping { job: job(m.job)?, reason: m.reason },
        Record::CancelRequested(m) => Fact::CancelRequested {
            build: build_id(&m.build)?,
            principal: m.principal.parse()?,
            reason: m.reason,
        },
        Record::BuildEnding(m) => {
            let (state, failure) = end(m.state(), m.failure.clone())?;
            Fact::BuildEnding { build: build_id(&m.build)?, state, failure }
        }
        Record::PublishStarted(m) => Fact::PublishStarted { build: build_id(&m.build)? },
        Record::IndexPrepared(m) => Fact::IndexPrepared {
            build: build_id(&m.build)?,
            index: Sha256::try_from(&m.index[..])?,
            size: m.size_bytes,
        },
        Record::TagSettled(m) => {
            Fact::TagSettled { build: build_id(&m.build)?, tag: tag_from_proto(required("tag", m.tag)?)? }
        }
        Record::TagTouched(m) => Fact::TagTouched { build: build_id(&m.build)?, tag: m.tag.parse()? },
        Record::BuildPublished(m) => Fact::BuildPublished { build: build_id(&m.build)? },
        Record::PublishTried(m) => Fact::PublishTried {
            build: build_id(&m.build)?,
            failure: failure_from_proto(required("failure", m.failure)?)?,
        },
        Record::BuildEnded(m) => {
            let (state, failure) = end(m.state(), m.failure.clone())?;
            Fact::BuildEnded { build: build_id(&m.build)?, state, failure }
        }
        Record::BuildArchived(m) => Fact::BuildArchived { build: build_id(&m.build)? },
        Record::DrainMarked(m) => Fact::DrainMarked {
            worker: m.worker.parse()?,
            principal: m.principal.parse()?,
            draining: m.draining,
        },
        Record::HeaderRestored(m) => Fact::HeaderRestored(Box::new(snapshot::read_header(m)?)),
        Record::BuildRestored(m) => Fact::BuildRestored(Box::new(snapshot::read_build(m)?)),
    })
}

pub(super) fn build_id(bytes: &[u8]) -> Result<BuildId, Invalid> {
    <[u8; 16]>::try_from(bytes)
        .map(|bytes| BuildId::from_u128(u128::from_be_bytes(bytes)))
        .map_err(|_| Invalid::new("build", bytes.len(), "a build's name has 16 bytes"))
}

pub(super) fn required<T>(field: &str, value: Option<T>) -> Result<T, Invalid> {
    value.ok_or_else(|| Invalid::new(field, "", "it is missing"))
}

pub(super) fn end(
    state: v1::BuildState,
    failure: Option<v1::Failure>,
) -> Result<(BuildState, Option<Failure>), Invalid> {
    Ok((build_state_from_proto(state)?, failure.map(failure_from_proto).transpose()?))
}

fn job(message: Option<proto::Job>) -> Result<JobId, Invalid> {
    let message = required("job", message)?;
    let index = u16::try_from(message.index)
        .map_err(|_| Invalid::new("job.index", message.index, "a job is a position in a plan"))?;
    Ok(JobId { build: build_id(&message.build)?, index })
}

fn attempt(message: Option<proto::Attempt>) -> Result<AttemptId, Invalid> {
    let message = required("attempt", message)?;
    Ok(AttemptId { job: job(message.job)?, token: FencingToken(message.token) })
}

fn verdict(verdict: proto::Verdict) -> Result<Verdict, Invalid> {
    match verdict {
        proto::Verdict::Succeeded => Ok(Verdict::Succeeded),
        proto::Verdict::Retry => Ok(Verdict::Retry),
        proto::Verdict::Requeue => Ok(Verdict::Requeue),
        proto::Verdict::Failed => Ok(Verdict::Failed),
        proto::Verdict::Canceled => Ok(Verdict::Canceled),
        proto::Verdict::Unspecified => Err(Invalid::new("verdict", "unspecified", "expected a verdict")),
    }
}
