//! To and from the wire.
//!
//! `*_to_proto` cannot fail. `*_from_proto` is the edge: it checks everything a stranger could get wrong, names
//! the field as the `.proto` does, and is the only way from a message to the types of this crate.

mod checks;
mod context;
mod plan;
mod record;
mod spec;

pub use plan::{
    context_from_proto, context_to_proto, lock_from_proto, lock_to_proto, plan_from_proto, plan_to_proto,
};
pub use record::{
    build_state_from_proto, build_state_to_proto, event_from_proto, event_to_proto, failure_from_proto,
    failure_to_proto, image_from_proto, image_to_proto, job_state_from_proto, job_state_to_proto,
    origin_from_proto, origin_to_proto, record_from_proto, record_to_proto, tag_from_proto, tag_to_proto,
};
pub use spec::{JobSpec, offer_from_proto, offer_to_proto, spec_from_proto, spec_to_proto};

use jiff::Timestamp;

use archyard_proto::v1 as proto;

use crate::{AttemptId, BuildId, FencingToken, Invalid, JobId, Platform, limits};

/// A platform's message.
pub fn platform_to_proto(platform: &Platform) -> proto::Platform {
    proto::Platform {
        os: platform.os().to_owned(),
        architecture: platform.architecture().to_owned(),
        variant: platform.variant().unwrap_or_default().to_owned(),
    }
}

/// A platform from its message, normalised.
pub fn platform_from_proto(message: &proto::Platform) -> Result<Platform, Invalid> {
    Platform::new(&message.os, &message.architecture, &message.variant)
}

/// A job's message.
pub fn job_to_proto(job: JobId) -> proto::JobRef {
    proto::JobRef { build_id: job.build.to_string(), index: u32::from(job.index) }
}

/// A job from its message.
pub fn job_from_proto(message: Option<proto::JobRef>) -> Result<JobId, Invalid> {
    let message = required("job", message)?;
    let build: BuildId = message.build_id.parse()?;
    Ok(JobId { build, index: job_index("job.index", message.index)? })
}

/// An attempt's message.
pub fn attempt_to_proto(attempt: AttemptId) -> proto::AttemptRef {
    proto::AttemptRef { job: Some(job_to_proto(attempt.job)), token: attempt.token.0 }
}

/// An attempt from its message.
pub fn attempt_from_proto(message: Option<proto::AttemptRef>) -> Result<AttemptId, Invalid> {
    let message = required("attempt", message)?;
    let job = job_from_proto(message.job)?;
    if message.token == 0 {
        return Err(Invalid::new("attempt.token", 0, "a fencing token counts from 1"));
    }
    Ok(AttemptId { job, token: FencingToken(message.token) })
}

/// An instant's message.
pub fn time_to_proto(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

/// An instant from its message.
pub fn time_from_proto(field: &str, message: Option<prost_types::Timestamp>) -> Result<Timestamp, Invalid> {
    let message = required(field, message)?;
    Timestamp::new(message.seconds, message.nanos)
        .map_err(|error| Invalid::new(field, message.seconds, error.to_string()))
}

fn optional_time(field: &str, message: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>, Invalid> {
    message.map(|message| time_from_proto(field, Some(message))).transpose()
}

fn required<T>(field: &str, value: Option<T>) -> Result<T, Invalid> {
    value.ok_or_else(|| Invalid::new(field, "", "it is missing"))
}

fn job_index(field: &str, index: u32) -> Result<u16, Invalid> {
    u16::try_from(index)
        .ok()
        .filter(|index| usize::from(*index) < limits::PLAN_PLATFORMS)
        .ok_or_else(|| Invalid::new(field, index, "a job is a position in the plan's platforms, from 0"))
}

fn at_most(field: &str, count: usize, max: usize) -> Result<(), Invalid> {
    if count > max {
        return Err(Invalid::new(field, count, format!("there may be at most {max}")));
    }
    Ok(())
}

fn text_at_most(field: &str, text: &str, max: usize) -> Result<(), Invalid> {
    if text.len() > max {
        return Err(Invalid::new(
            field,
            text,
            format!("it has {} bytes; at most {max} are taken", text.len()),
        ));
    }
    Ok(())
}
