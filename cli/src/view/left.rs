//! What a build left for its client, as `show --json` prints it.

use archyard_proto::v1 as proto;
use jiff::Timestamp;
use serde::Serialize;

use super::{platform, rfc3339, time};

/// One blob of one platform.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Left {
    pub(crate) platform: String,
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) bytes: u64,
    /// Whether it is still there to be fetched.
    pub(crate) kept: bool,
    /// At least; nothing while the build has not ended, and when it is gone.
    #[serde(serialize_with = "rfc3339")]
    pub(crate) kept_until: Option<Timestamp>,
}

impl Left {
    /// All that a build left, in the order of its platforms.
    pub(super) fn all(answer: &proto::GetBuildResponse) -> Vec<Self> {
        let (kept, kept_until) = (answer.artifacts_kept, time(answer.artifacts_until));
        let mut all = Vec::new();
        for job in answer.build.iter().flat_map(|build| &build.jobs) {
            let of = job.platform.as_ref().map(platform).unwrap_or_default();
            all.extend(job.result.iter().flat_map(|image| &image.artifacts).map(|artifact| Self {
                platform: of.clone(),
                media_type: artifact.media_type.clone(),
                digest: artifact.digest.clone(),
                bytes: artifact.size_bytes,
                kept,
                kept_until,
            }));
        }
        all
    }
}
