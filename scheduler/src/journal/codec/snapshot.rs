//! The two facts that only snapshots hold: the header, and a build as a whole.

use std::sync::Arc;

use archyard_model::convert::{
    build_state_to_proto, event_from_proto, event_to_proto, failure_to_proto, record_from_proto,
    record_to_proto,
};
use archyard_model::{BuildRecord, Invalid, JobRecord};
use archyard_proto::journal::v1 as proto;

use super::heritage;
use super::read::{build_id as read_id, end, required};
use super::write::build_id as write_id;
use crate::core::Build;
use crate::core::build::{Attempt, Ending, Job};
use crate::core::ledger::Header;
use crate::core::tags::Place;

pub(super) fn write_header(header: &Header) -> proto::HeaderRestored {
    use proto::header_restored::{Archived, Moved};
    proto::HeaderRestored {
        next_sequence: header.next_sequence,
        moved: header
            .moved
            .iter()
            .map(|(tag, (place, build))| Moved {
                tag: tag.to_string(),
                sequence: place.tags,
                build: write_id(*build),
                accepted: place.accepted,
            })
            .collect(),
        forgotten: Some(header.forgotten),
        archived: header
            .archived
            .iter()
            .map(|((principal, request_id), build)| Archived {
                principal: principal.to_string(),
                request_id: request_id.to_string(),
                build: write_id(*build),
            })
            .collect(),
    }
}

pub(super) fn read_header(message: proto::HeaderRestored) -> Result<Header, Invalid> {
    let moved = message.moved.into_iter().map(|moved| {
        // A rerun is never the first that was accepted.
        let accepted = if moved.accepted == 0 { moved.sequence } else { moved.accepted };
        let place = Place { tags: moved.sequence, accepted };
        Ok::<_, Invalid>((moved.tag.parse()?, (place, read_id(&moved.build)?)))
    });
    let archived = message.archived.into_iter().map(|archived| {
        let request = (archived.principal.parse()?, archived.request_id.parse()?);
        Ok::<_, Invalid>((request, read_id(&archived.build)?))
    });
    Ok(Header {
        next_sequence: message.next_sequence,
        moved: moved.collect::<Result<_, _>>()?,
        // Whoever wrote no such place forgot of all builds before.
        forgotten: message.forgotten.unwrap_or(message.next_sequence),
        archived: archived.collect::<Result<_, _>>()?,
    })
}

pub(super) fn write_build(build: &Build) -> proto::BuildRestored {
    use proto::build_restored::{Ending, JobExtra};
    proto::BuildRestored {
        record: Some(record_to_proto(&build.record())),
        events: build.events.iter().map(event_to_proto).collect(),
        pool: build.pool.to_string(),
        sequence: build.sequence,
        publishing: build.publishing,
        publish_failures: build.publish_failures,
        ending: build.ending.as_ref().map(|ending| Ending {
            state: build_state_to_proto(ending.state).into(),
            failure: ending.failure.as_ref().map(failure_to_proto),
        }),
        jobs: build
            .jobs
            .iter()
            .map(|job| JobExtra {
                stopping: job.stopping,
                uncounted: job.attempts.iter().filter(|a| !a.counted).map(|a| a.token.0).collect(),
            })
            .collect(),
        published: build.published,
        lacks_context: build.lacks_context,
        promotion: build.promotion.as_ref().map(heritage::write_promotion),
    }
}

pub(super) fn read_build(message: proto::BuildRestored) -> Result<Build, Invalid> {
    let record: BuildRecord = record_from_proto(required("record", message.record)?)?;
    let ending = message
        .ending
        .map(|ending| {
            let (state, failure) = end(ending.state(), ending.failure.clone())?;
            Ok::<_, Invalid>(Ending { state, failure })
        })
        .transpose()?;
    if record.jobs.len() != message.jobs.len() {
        return Err(Invalid::new("jobs", message.jobs.len(), "there is one for each job of the record"));
    }
    let jobs = record.jobs.into_iter().zip(message.jobs).map(|(job, extra)| read_job(job, &extra));
    let moves = record.plan.published_tags(record.id).into();
    Ok(Build {
        id: record.id,
        request_id: record.request_id,
        principal: record.principal,
        plan: Arc::new(record.plan),
        pool: message.pool.parse()?,
        accepted_ms: millis(record.accepted_at),
        sequence: message.sequence,
        tag_sequence: record.tag_sequence.unwrap_or(message.sequence),
        moves,
        state: record.state,
        waiting: record.waiting_reason,
        lacks_context: message.lacks_context,
        lock: record.lock.map(Arc::new),
        jobs: jobs.collect(),
        ending,
        publishing: message.publishing,
        published: message.published,
        publish_failures: message.publish_failures,
        index: record.index,
        tags: record.tags,
        failure: record.failure,
        ended_ms: record.ended_at.map(millis),
        events: message.events.into_iter().map(event_from_proto).collect::<Result<_, _>>()?,
        origin: record.origin,
        promotion: message.promotion.map(heritage::read_promotion).transpose()?,
    })
}

fn read_job(job: JobRecord, extra: &proto::build_restored::JobExtra) -> Job {
    let attempts = job.attempts.into_iter().map(|attempt| Attempt {
        counted: !extra.uncounted.contains(&attempt.token.0),
        token: attempt.token,
        worker: attempt.worker,
        started_ms: millis(attempt.started_at),
        ended_ms: attempt.ended_at.map(millis),
        failure: attempt.failure,
        log_bytes: attempt.log_bytes,
        log_warning: attempt.log_warning,
    });
    Job {
        platform: job.platform,
        state: job.state,
        stopping: extra.stopping,
        waiting: job.waiting_reason,
        attempts: attempts.collect(),
        result: job.result,
        failure: job.failure,
        cross: job.cross,
        carried: job.carried,
    }
}

fn millis(at: jiff::Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or_default()
}
