//! What a platform left, as `--json` prints it.

use archyard_proto::v1 as proto;
use serde::Serialize;

use super::some;

/// What a platform left.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Image {
    pub(crate) manifest_digest: Option<String>,
    pub(crate) manifest_bytes: Option<u64>,
    pub(crate) media_type: Option<String>,
    pub(crate) config_digest: Option<String>,
    /// `passed`, `not_run`, or nothing where there were none.
    pub(crate) smoke: Option<&'static str>,
    pub(crate) inspection: Option<Inspection>,
    pub(crate) artifacts: Vec<Artifact>,
}

/// What was found in it.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Inspection {
    pub(crate) command: Option<String>,
    pub(crate) machine: Option<String>,
    pub(crate) requires: Option<String>,
    pub(crate) foreign: Vec<ForeignFile>,
    pub(crate) foreign_files: u64,
}

/// An executable of another machine.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ForeignFile {
    pub(crate) path: String,
    pub(crate) machine: String,
}

/// Bytes that wait for the client.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Artifact {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) bytes: u64,
}

impl From<proto::ImageResult> for Image {
    fn from(message: proto::ImageResult) -> Self {
        let pushed = !message.manifest_digest.is_empty();
        Self {
            smoke: match message.smoke() {
                proto::SmokeOutcome::Passed => Some("passed"),
                proto::SmokeOutcome::NotRun => Some("not_run"),
                proto::SmokeOutcome::NotAsked | proto::SmokeOutcome::Unspecified => None,
            },
            manifest_digest: some(message.manifest_digest),
            manifest_bytes: pushed.then_some(message.manifest_bytes),
            media_type: some(message.media_type),
            config_digest: some(message.config_digest),
            inspection: message.inspection.map(Into::into),
            artifacts: message.artifacts.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<proto::Inspection> for Inspection {
    fn from(message: proto::Inspection) -> Self {
        let file = |file: proto::ForeignFile| ForeignFile { path: file.path, machine: file.machine };
        Self {
            command: some(message.command),
            machine: some(message.machine),
            requires: some(message.requires),
            foreign: message.foreign.into_iter().map(file).collect(),
            foreign_files: message.foreign_files,
        }
    }
}

impl From<proto::Artifact> for Artifact {
    fn from(message: proto::Artifact) -> Self {
        Self { media_type: message.media_type, digest: message.digest, bytes: message.size_bytes }
    }
}
