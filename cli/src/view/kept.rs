//! What the scheduler keeps, as `du` and `prune` print it.

use archyard_proto::v1 as proto;
use jiff::Timestamp;
use serde::Serialize;

use super::{rfc3339, some, time};

/// A line of `du --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Usage {
    pub(crate) class: &'static str,
    /// None: of all projects.
    pub(crate) project: Option<String>,
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    pub(crate) reclaimable_bytes: u64,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) oldest_at: Option<Timestamp>,
}

/// A line of `prune --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Pruned {
    pub(crate) class: &'static str,
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

/// A class in a word.
pub(crate) fn kept_class(class: proto::KeptClass) -> &'static str {
    match class {
        proto::KeptClass::Contexts => "contexts",
        proto::KeptClass::Logs => "logs",
        proto::KeptClass::Records => "records",
        proto::KeptClass::Artifacts => "artifacts",
        proto::KeptClass::Unspecified => "unknown",
    }
}

impl From<proto::DiskUsage> for Usage {
    fn from(message: proto::DiskUsage) -> Self {
        Self {
            class: kept_class(message.class()),
            project: some(message.project),
            count: message.count,
            bytes: message.bytes,
            reclaimable_bytes: message.reclaimable_bytes,
            oldest_at: time(message.oldest_at),
        }
    }
}

impl From<proto::Pruned> for Pruned {
    fn from(message: proto::Pruned) -> Self {
        Self { class: kept_class(message.class()), count: message.count, bytes: message.bytes }
    }
}
