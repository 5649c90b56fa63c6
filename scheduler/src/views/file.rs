//! How one ended build lies on disk.
//!
//! ```text
//! length, BuildSummary    what a listing shows
//! length, BuildRecord     what `show` shows
//! length, BuildEvent ...  what `watch` replays, in order
//! ```
//!
//! Lengths are varints, as protobuf delimits messages. Fields are only ever added.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use archyard_model::convert::{event_to_proto, origin_to_proto, platform_to_proto, record_to_proto};
use archyard_model::{BuildRecord, JobState, Reference};
use archyard_proto::v1 as proto;
use prost::Message;

use crate::core::EndedBuild;

/// A message longer than this is damage, not data.
const MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// A listing's line of a build, running or ended.
pub fn summary(record: &BuildRecord) -> proto::BuildSummary {
    let trials = (0..).zip(&record.jobs).filter(|(at, _)| record.plan.is_trial(*at));
    let failed_trials = trials.filter(|(_, job)| job.state == JobState::Failed).count();
    proto::BuildSummary {
        build_id: record.id.to_string(),
        project: record.plan.project.to_string(),
        principal: record.principal.to_string(),
        state: archyard_model::convert::build_state_to_proto(record.state).into(),
        platforms: record.plan.platforms.iter().map(platform_to_proto).collect(),
        tags: record.plan.tags.iter().map(Reference::to_string).collect(),
        accepted_at: Some(archyard_model::convert::time_to_proto(record.accepted_at)),
        ended_at: record.ended_at.map(archyard_model::convert::time_to_proto),
        trial: record.plan.trial.iter().copied().map(u32::from).collect(),
        failed_trials: u32::try_from(failed_trials).unwrap_or(u32::MAX),
        origin: record.origin.map(origin_to_proto),
        waiting_reason: record.waiting_reason.clone().unwrap_or_default(),
        queue: None,
    }
}

/// A build's file.
pub(super) fn encode(ended: &EndedBuild) -> Vec<u8> {
    let mut bytes = summary(&ended.record).encode_length_delimited_to_vec();
    bytes.extend(record_to_proto(&ended.record).encode_length_delimited_to_vec());
    for event in &ended.events {
        bytes.extend(event_to_proto(event).encode_length_delimited_to_vec());
    }
    bytes
}

/// A build's file, read from the front.
#[derive(Debug)]
pub(super) struct Entry(BufReader<File>);

impl Entry {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        File::open(path).map(|file| Self(BufReader::new(file)))
    }

    /// The next message; none at the file's end.
    pub(super) fn next<M: Message + Default>(&mut self) -> std::io::Result<Option<M>> {
        let Some(length) = self.length()? else { return Ok(None) };
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        M::decode(bytes.as_slice()).map(Some).map_err(|error| damaged(error.to_string()))
    }

    fn length(&mut self) -> std::io::Result<Option<usize>> {
        let mut length: u64 = 0;
        for shift in (0..).step_by(7).take(10) {
            let Some(byte) = self.0.fill_buf()?.first().copied() else {
                return if shift == 0 { Ok(None) } else { Err(damaged("it is cut short".to_owned())) };
            };
            self.0.consume(1);
            length |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return match usize::try_from(length) {
                    Ok(length) if length <= MESSAGE_BYTES => Ok(Some(length)),
                    _ => Err(damaged(format!("a message of {length} bytes"))),
                };
            }
        }
        Err(damaged("a length without an end".to_owned()))
    }
}

fn damaged(problem: String) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, problem)
}
