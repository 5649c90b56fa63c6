//! Records and events: what a build's watchers and the journal hold.

use archyard_proto::v1 as proto;
use proto::build_event::Event;

use super::checks::{
    artifact_from_proto, artifact_to_proto, inspection_from_proto, inspection_to_proto, smoke_from_proto,
    smoke_to_proto,
};
use super::{
    at_most, job_index, lock_from_proto, lock_to_proto, optional_time, plan_from_proto, plan_to_proto,
    platform_from_proto, platform_to_proto, required, time_from_proto, time_to_proto,
};
use crate::build::PushedManifest;
use crate::{
    AttemptRecord, BuildEvent, BuildRecord, BuildState, EventKind, Failure, FailureClass, FencingToken,
    ImageResult, Invalid, JobRecord, JobState, Origin, OriginKind, TagRecord, limits,
};

/// A build state's number.
pub fn build_state_to_proto(state: BuildState) -> proto::BuildState {
    match state {
        BuildState::Waiting => proto::BuildState::Waiting,
        BuildState::Queued => proto::BuildState::Queued,
        BuildState::Running => proto::BuildState::Running,
        BuildState::Publishing => proto::BuildState::Publishing,
        BuildState::Succeeded => proto::BuildState::Succeeded,
        BuildState::Failed => proto::BuildState::Failed,
        BuildState::Canceled => proto::BuildState::Canceled,
        BuildState::Superseded => proto::BuildState::Superseded,
    }
}

/// A build state from its number.
pub fn build_state_from_proto(state: proto::BuildState) -> Result<BuildState, Invalid> {
    match state {
        proto::BuildState::Waiting => Ok(BuildState::Waiting),
        proto::BuildState::Queued => Ok(BuildState::Queued),
        proto::BuildState::Running => Ok(BuildState::Running),
        proto::BuildState::Publishing => Ok(BuildState::Publishing),
        proto::BuildState::Succeeded => Ok(BuildState::Succeeded),
        proto::BuildState::Failed => Ok(BuildState::Failed),
        proto::BuildState::Canceled => Ok(BuildState::Canceled),
        proto::BuildState::Superseded => Ok(BuildState::Superseded),
        proto::BuildState::Unspecified => {
            Err(Invalid::new("state", "unspecified", "expected a build's state"))
        }
    }
}

/// A job state's number.
pub fn job_state_to_proto(state: JobState) -> proto::JobState {
    match state {
        JobState::Queued => proto::JobState::Queued,
        JobState::Leased => proto::JobState::Leased,
        JobState::Running => proto::JobState::Running,
        JobState::Succeeded => proto::JobState::Succeeded,
        JobState::Failed => proto::JobState::Failed,
        JobState::Canceled => proto::JobState::Canceled,
    }
}

/// A job state from its number.
pub fn job_state_from_proto(state: proto::JobState) -> Result<JobState, Invalid> {
    match state {
        proto::JobState::Queued => Ok(JobState::Queued),
        proto::JobState::Leased => Ok(JobState::Leased),
        proto::JobState::Running => Ok(JobState::Running),
        proto::JobState::Succeeded => Ok(JobState::Succeeded),
        proto::JobState::Failed => Ok(JobState::Failed),
        proto::JobState::Canceled => Ok(JobState::Canceled),
        proto::JobState::Unspecified => Err(Invalid::new("state", "unspecified", "expected a job's state")),
    }
}

/// A failure's message.
pub fn failure_to_proto(failure: &Failure) -> proto::Failure {
    let class = match failure.class {
        FailureClass::User => proto::FailureClass::User,
        FailureClass::Infrastructure => proto::FailureClass::Infrastructure,
        FailureClass::Canceled => proto::FailureClass::Canceled,
    };
    proto::Failure {
        failure_class: class.into(),
        code: failure.code.clone(),
        message: failure.message.clone(),
        detail: failure.detail.clone(),
        exit_code: failure.exit_code.unwrap_or_default(),
    }
}

/// A failure from its message, cut to its limits.
pub fn failure_from_proto(message: proto::Failure) -> Result<Failure, Invalid> {
    let class = match message.failure_class() {
        proto::FailureClass::User => FailureClass::User,
        proto::FailureClass::Infrastructure => FailureClass::Infrastructure,
        proto::FailureClass::Canceled => FailureClass::Canceled,
        proto::FailureClass::Unspecified => {
            return Err(Invalid::new("failure.failure_class", "unspecified", "say who is to blame"));
        }
    };
    let mut failure = Failure::new(class, message.code, message.message).with_detail(message.detail);
    failure.exit_code = (message.exit_code != 0).then_some(message.exit_code);
    Ok(failure)
}

/// A result's message. `repository` is where the manifest went.
pub fn image_to_proto(image: &ImageResult) -> proto::ImageResult {
    let manifest = image.manifest.as_ref();
    proto::ImageResult {
        manifest_digest: manifest.map(|m| m.digest.to_string()).unwrap_or_default(),
        manifest_bytes: manifest.map(|m| m.size).unwrap_or_default(),
        media_type: manifest.map(|m| m.media_type.clone()).unwrap_or_default(),
        config_digest: image.config_digest.map(|d| d.to_string()).unwrap_or_default(),
        repository: String::new(),
        inspection: image.inspection.as_ref().map(inspection_to_proto),
        smoke: smoke_to_proto(image.smoke).into(),
        artifacts: image.artifacts.iter().map(artifact_to_proto).collect(),
    }
}

/// A result from its message.
pub fn image_from_proto(message: proto::ImageResult) -> Result<ImageResult, Invalid> {
    let smoke = smoke_from_proto(message.smoke());
    at_most("image.artifacts", message.artifacts.len(), limits::ARTIFACTS)?;
    let manifest = if message.manifest_digest.is_empty() {
        None
    } else {
        Some(PushedManifest {
            digest: message
                .manifest_digest
                .parse()
                .map_err(|error: Invalid| error.of("image.manifest_digest"))?,
            size: message.manifest_bytes,
            media_type: message.media_type,
        })
    };
    let config_digest = (!message.config_digest.is_empty())
        .then(|| message.config_digest.parse().map_err(|error: Invalid| error.of("image.config_digest")))
        .transpose()?;
    Ok(ImageResult {
        manifest,
        config_digest,
        inspection: message.inspection.map(inspection_from_proto).transpose()?,
        smoke,
        artifacts: message.artifacts.into_iter().map(artifact_from_proto).collect::<Result<_, _>>()?,
    })
}

/// An origin's message.
pub fn origin_to_proto(origin: Origin) -> proto::Origin {
    let kind = match origin.kind {
        OriginKind::Rerun => proto::OriginKind::Rerun,
        OriginKind::Promotion => proto::OriginKind::Promotion,
    };
    proto::Origin { kind: kind.into(), build_id: origin.build.to_string() }
}

/// An origin from its message.
pub fn origin_from_proto(message: &proto::Origin) -> Result<Origin, Invalid> {
    let kind = match message.kind() {
        proto::OriginKind::Rerun => OriginKind::Rerun,
        proto::OriginKind::Promotion => OriginKind::Promotion,
        proto::OriginKind::Unspecified => {
            return Err(Invalid::new("origin.kind", "unspecified", "say what it has of the other build"));
        }
    };
    Ok(Origin { kind, build: message.build_id.parse()? })
}

/// A tag record's message.
pub fn tag_to_proto(tag: &TagRecord) -> proto::TagRecord {
    proto::TagRecord { tag: tag.tag.to_string(), moved: tag.moved, detail: tag.detail.clone() }
}

/// A tag record from its message.
pub fn tag_from_proto(message: proto::TagRecord) -> Result<TagRecord, Invalid> {
    Ok(TagRecord { tag: message.tag.parse()?, moved: message.moved, detail: message.detail })
}

/// A build record's message.
pub fn record_to_proto(record: &BuildRecord) -> proto::BuildRecord {
    proto::BuildRecord {
        build_id: record.id.to_string(),
        request_id: record.request_id.to_string(),
        principal: record.principal.to_string(),
        plan: Some(plan_to_proto(&record.plan)),
        lock: record.lock.as_ref().map(lock_to_proto),
        state: build_state_to_proto(record.state).into(),
        jobs: record.jobs.iter().enumerate().map(|(index, job)| job_record_to_proto(index, job)).collect(),
        accepted_at: Some(time_to_proto(record.accepted_at)),
        ended_at: record.ended_at.map(time_to_proto),
        failure: record.failure.as_ref().map(failure_to_proto),
        index_digest: record.index.map(|(digest, _)| digest.to_string()).unwrap_or_default(),
        index_bytes: record.index.map(|(_, size)| size).unwrap_or_default(),
        tags: record.tags.iter().map(tag_to_proto).collect(),
        events: record.events,
        waiting_reason: record.waiting_reason.clone().unwrap_or_default(),
        origin: record.origin.map(origin_to_proto),
        tag_sequence: record.tag_sequence,
    }
}

/// A build record from its message.
pub fn record_from_proto(message: proto::BuildRecord) -> Result<BuildRecord, Invalid> {
    let state = build_state_from_proto(message.state())?;
    Ok(BuildRecord {
        id: message.build_id.parse()?,
        request_id: message.request_id.parse()?,
        principal: message.principal.parse()?,
        plan: plan_from_proto(required("plan", message.plan)?)?,
        lock: message.lock.map(lock_from_proto).transpose()?,
        state,
        waiting_reason: some_text(message.waiting_reason),
        jobs: message.jobs.into_iter().map(job_record_from_proto).collect::<Result<_, _>>()?,
        accepted_at: time_from_proto("accepted_at", message.accepted_at)?,
        ended_at: optional_time("ended_at", message.ended_at)?,
        failure: message.failure.map(failure_from_proto).transpose()?,
        index: index(&message.index_digest, message.index_bytes)?,
        tags: message.tags.into_iter().map(tag_from_proto).collect::<Result<_, _>>()?,
        events: message.events,
        origin: message.origin.as_ref().map(origin_from_proto).transpose()?,
        tag_sequence: message.tag_sequence,
    })
}

/// An event's message.
pub fn event_to_proto(event: &BuildEvent) -> proto::BuildEvent {
    use proto::build_event as e;
    let kind = match &event.kind {
        EventKind::Accepted { principal } => {
            Event::Accepted(e::Accepted { principal: principal.to_string() })
        }
        EventKind::Waiting { reason } => Event::Waiting(e::Waiting { reason: reason.clone() }),
        EventKind::ContextMissed { reason } => {
            Event::ContextMissed(e::ContextMissed { reason: reason.clone() })
        }
        EventKind::Locked { lock } => Event::Locked(e::Locked { lock: Some(lock_to_proto(lock)) }),
        EventKind::JobWaiting { job, reason } => {
            Event::JobWaiting(e::JobWaiting { job_index: u32::from(*job), reason: reason.clone() })
        }
        EventKind::JobLeased { job, token, worker } => Event::JobLeased(e::JobLeased {
            job_index: u32::from(*job),
            token: token.0,
            worker: worker.to_string(),
        }),
        EventKind::JobStarted { job, token, worker } => Event::JobStarted(e::JobStarted {
            job_index: u32::from(*job),
            token: token.0,
            worker: worker.to_string(),
        }),
        EventKind::AttemptEnded { job, token, worker, failure, will_retry } => {
            Event::AttemptEnded(e::AttemptEnded {
                job_index: u32::from(*job),
                token: token.0,
                worker: worker.to_string(),
                failure: failure.as_ref().map(failure_to_proto),
                will_retry: *will_retry,
            })
        }
        EventKind::JobEnded { job, state, result, failure } => Event::JobEnded(e::JobEnded {
            job_index: u32::from(*job),
            state: job_state_to_proto(*state).into(),
            result: result.as_ref().map(image_to_proto),
            failure: failure.as_ref().map(failure_to_proto),
        }),
        EventKind::CancelRequested { principal, reason } => Event::CancelRequested(e::CancelRequested {
            principal: principal.to_string(),
            reason: reason.clone(),
        }),
        EventKind::Publishing { index, size } => {
            Event::Publishing(e::Publishing { index_digest: index.to_string(), index_bytes: *size })
        }
        EventKind::TagMoved(tag) => Event::TagMoved(e::TagMoved { tag: Some(tag_to_proto(tag)) }),
        EventKind::Ended { state, failure, index } => Event::Ended(e::Ended {
            state: build_state_to_proto(*state).into(),
            failure: failure.as_ref().map(failure_to_proto),
            index_digest: index.map(|(digest, _)| digest.to_string()).unwrap_or_default(),
            index_bytes: index.map(|(_, size)| size).unwrap_or_default(),
        }),
    };
    proto::BuildEvent { seq: event.seq, at: Some(time_to_proto(event.at)), event: Some(kind) }
}

/// An event from its message.
pub fn event_from_proto(message: proto::BuildEvent) -> Result<BuildEvent, Invalid> {
    let at = time_from_proto("at", message.at)?;
    let job = |index| job_index("job_index", index);
    let kind = match required("event", message.event)? {
        Event::Accepted(e) => EventKind::Accepted { principal: e.principal.parse()? },
        Event::Waiting(e) => EventKind::Waiting { reason: e.reason },
        Event::ContextMissed(e) => EventKind::ContextMissed { reason: e.reason },
        Event::Locked(e) => EventKind::Locked { lock: lock_from_proto(required("lock", e.lock)?)? },
        Event::JobWaiting(e) => EventKind::JobWaiting { job: job(e.job_index)?, reason: e.reason },
        Event::JobLeased(e) => EventKind::JobLeased {
            job: job(e.job_index)?,
            token: FencingToken(e.token),
            worker: e.worker.parse()?,
        },
        Event::JobStarted(e) => EventKind::JobStarted {
            job: job(e.job_index)?,
            token: FencingToken(e.token),
            worker: e.worker.parse()?,
        },
        Event::AttemptEnded(e) => EventKind::AttemptEnded {
            job: job(e.job_index)?,
            token: FencingToken(e.token),
            worker: e.worker.parse()?,
            failure: e.failure.map(failure_from_proto).transpose()?,
            will_retry: e.will_retry,
        },
        Event::JobEnded(e) => EventKind::JobEnded {
            job: job(e.job_index)?,
            state: job_state_from_proto(e.state())?,
            result: e.result.map(image_from_proto).transpose()?,
            failure: e.failure.map(failure_from_proto).transpose()?,
        },
        Event::CancelRequested(e) => {
            EventKind::CancelRequested { principal: e.principal.parse()?, reason: e.reason }
        }
        Event::Publishing(e) => EventKind::Publishing { index: e.index_digest.parse()?, size: e.index_bytes },
        Event::TagMoved(e) => EventKind::TagMoved(tag_from_proto(required("tag", e.tag)?)?),
        Event::Ended(e) => EventKind::Ended {
            state: build_state_from_proto(e.state())?,
            failure: e.failure.map(failure_from_proto).transpose()?,
            index: index(&e.index_digest, e.index_bytes)?,
        },
    };
    Ok(BuildEvent { seq: message.seq, at, kind })
}

fn job_record_to_proto(index: usize, job: &JobRecord) -> proto::JobRecord {
    proto::JobRecord {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        platform: Some(platform_to_proto(&job.platform)),
        state: job_state_to_proto(job.state).into(),
        waiting_reason: job.waiting_reason.clone().unwrap_or_default(),
        attempts: job
            .attempts
            .iter()
            .map(|attempt| proto::AttemptRecord {
                token: attempt.token.0,
                worker: attempt.worker.to_string(),
                started_at: Some(time_to_proto(attempt.started_at)),
                ended_at: attempt.ended_at.map(time_to_proto),
                failure: attempt.failure.as_ref().map(failure_to_proto),
                log_bytes: attempt.log_bytes,
                log_warning: attempt.log_warning.clone().unwrap_or_default(),
            })
            .collect(),
        result: job.result.as_ref().map(image_to_proto),
        failure: job.failure.as_ref().map(failure_to_proto),
        cross: job.cross.as_ref().map(platform_to_proto),
        carried: job.carried,
        queue: None,
    }
}

fn job_record_from_proto(message: proto::JobRecord) -> Result<JobRecord, Invalid> {
    let state = job_state_from_proto(message.state())?;
    let attempts = message
        .attempts
        .into_iter()
        .map(|attempt| {
            Ok(AttemptRecord {
                token: FencingToken(attempt.token),
                worker: attempt.worker.parse()?,
                started_at: time_from_proto("started_at", attempt.started_at)?,
                ended_at: optional_time("ended_at", attempt.ended_at)?,
                failure: attempt.failure.map(failure_from_proto).transpose()?,
                log_bytes: attempt.log_bytes,
                log_warning: some_text(attempt.log_warning),
            })
        })
        .collect::<Result<_, Invalid>>()?;
    Ok(JobRecord {
        platform: platform_from_proto(&required("platform", message.platform)?)?,
        state,
        waiting_reason: some_text(message.waiting_reason),
        attempts,
        result: message.result.map(image_from_proto).transpose()?,
        failure: message.failure.map(failure_from_proto).transpose()?,
        cross: message.cross.as_ref().map(platform_from_proto).transpose()?,
        carried: message.carried,
    })
}

fn index(digest: &str, size: u64) -> Result<Option<(crate::Sha256, u64)>, Invalid> {
    if digest.is_empty() { Ok(None) } else { Ok(Some((digest.parse()?, size))) }
}

fn some_text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
