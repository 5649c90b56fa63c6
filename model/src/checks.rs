//! What an image must pass before its job succeeds, and what was found.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Blake3, Sha256, limits};

/// What is done about executables of other machines in an image, beside those it is started by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForeignPolicy {
    /// Not looked for.
    Allow,
    /// Listed: packages do ship several architectures.
    #[default]
    Warn,
    /// The job fails.
    Deny,
}

/// What an image must pass, on the worker that built it, before its job succeeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// Words as for `docker run IMAGE WORDS`, each run in a container of its own. None: those of the image's label
    /// [`SMOKE_TEST_LABEL`].
    pub smoke_tests: Vec<String>,
    /// Else they have no network.
    pub smoke_network: bool,
    /// Else their root is read-only, with a small `/tmp`.
    pub smoke_writable: bool,
    /// Of each; whole milliseconds.
    #[serde(rename = "smoke_timeout_ms", with = "milliseconds")]
    pub smoke_timeout: Duration,
    /// Of each, in bytes.
    #[serde(rename = "smoke_memory_bytes")]
    pub smoke_memory: u64,
    /// What becomes of executables that do not fit the platform.
    pub foreign: ForeignPolicy,
    /// Globs over absolute paths in the image.
    pub foreign_allow: Vec<String>,
    /// The image only holds files: it need not name a command.
    pub data_only: bool,
}

/// The label of an image that names a smoke test to be run by default.
pub const SMOKE_TEST_LABEL: &str = "archyard.smoke-test";

impl Default for Checks {
    fn default() -> Self {
        Self {
            smoke_tests: Vec::new(),
            smoke_network: false,
            smoke_writable: false,
            smoke_timeout: limits::SMOKE_TIMEOUT,
            smoke_memory: limits::SMOKE_MEMORY_BYTES,
            foreign: ForeignPolicy::default(),
            foreign_allow: Vec::new(),
            data_only: false,
        }
    }
}

/// What was found in an image before its job succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspection {
    /// The file that would run, links followed; none where the image only holds files.
    pub command: Option<String>,
    /// Of that file, or of its interpreter: `x86-64`, `aarch64`.
    pub machine: Option<String>,
    /// More than its platform promises: `x86-64-v3`.
    pub requires: Option<String>,
    /// Executables of other machines, at most [`limits::INSPECT_FOREIGN_LISTED`].
    pub foreign: Vec<ForeignFile>,
    /// How many there are in all.
    pub foreign_files: u64,
}

/// An executable that does not fit the image's platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignFile {
    /// Absolute, in the image.
    pub path: String,
    /// What it is made for.
    pub machine: String,
}

/// What became of an image's smoke tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SmokeOutcome {
    /// There are none.
    #[default]
    NotAsked,
    /// All of them ended well.
    Passed,
    /// There are some, but the image was built on a machine that cannot run it. This is not a pass.
    NotRun,
}

/// Bytes that a worker left with the scheduler for the client to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// What it is.
    pub media_type: String,
    /// As OCI names it.
    pub digest: Sha256,
    /// Its length in bytes.
    pub size: u64,
    /// As the farm names it.
    pub blob: Blake3,
}

/// A duration as JSON has it.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
