//! How an active build stands, in the messages that show it.

use archyard_model::BuildRecord;
use archyard_model::convert::{build_state_to_proto, record_to_proto};
use archyard_proto::v1 as proto;

use crate::core::Standing;
use crate::core::standing::{Ahead, QueuePlace};
use crate::views;

/// A build's record, and how it stands.
pub(super) fn record(record: &BuildRecord, standing: &Standing) -> proto::BuildRecord {
    let mut message = record_to_proto(record);
    message.set_state(build_state_to_proto(standing.state));
    message.waiting_reason = standing.waiting.clone().unwrap_or_default();
    for (job, stands) in message.jobs.iter_mut().zip(&standing.jobs) {
        job.waiting_reason = stands.waiting.clone().unwrap_or_default();
        job.queue = stands.queue.as_ref().map(place);
    }
    message
}

/// A build's line in a list, and how it stands.
pub(super) fn summary(record: &BuildRecord, standing: &Standing) -> proto::BuildSummary {
    let mut message = views::summary(record);
    message.set_state(build_state_to_proto(standing.state));
    message.waiting_reason = standing.waiting.clone().unwrap_or_default();
    let places = standing.jobs.iter().filter_map(|job| job.queue.as_ref());
    let first = places.min_by_key(|place| place.position.unwrap_or(u32::MAX));
    message.queue = first.filter(|_| message.state() == proto::BuildState::Queued).map(place);
    message
}

fn place(place: &QueuePlace) -> proto::QueuePlace {
    let ahead = |ahead: &Ahead| proto::queue_place::Ahead {
        build_id: ahead.job.build.to_string(),
        job_index: ahead.job.index.into(),
        worker: ahead.worker.to_string(),
    };
    proto::QueuePlace {
        position: place.position.unwrap_or_default(),
        queued: place.queued,
        running: place.running,
        ahead: place.ahead.iter().map(ahead).collect(),
    }
}
