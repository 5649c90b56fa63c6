//! What an Engine is and can do, asked once at a worker's start.

use archyard_model::Platform;

use super::EngineError;

/// Something not every Engine can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Feature {
    /// Takes a source policy with the Solve, so bases need not be pinned in the Dockerfile.
    SourcePolicy,
    /// Writes OCI archives and pushes by digest itself.
    OciExporter,
    /// Says which lines of the Dockerfile failed, and with what exit code.
    ErrorDetails,
    /// Heredocs, `COPY --link` and named contexts with its own frontend.
    CurrentDockerfile,
}

/// An Engine that a worker can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The Engine's own name for its installation: changes with its data root.
    pub id: String,
    /// As it prints it: `20.10.24+dfsg1`.
    pub version: String,
    /// Of its HTTP API: `1.41`.
    pub api_version: String,
    /// `overlay2`; `overlayfs` with the containerd store.
    pub storage_driver: String,
    /// Whether images live in containerd's store rather than the Engine's own.
    pub containerd_store: bool,
    /// What the Engine runs on.
    pub platform: Platform,
    /// What it can do beyond the least that is needed.
    pub features: Vec<Feature>,
}

/// An Engine that a worker cannot use.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It did not answer, or refused to say what it is.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Older than what this was made for.
    #[error("the Docker Engine at {endpoint} is {version}; at least 20.10 is needed")]
    TooOld {
        /// Where it is.
        endpoint: String,
        /// What it says it is.
        version: String,
    },
    /// It answers, but its BuildKit does not.
    #[error(
        "the Docker Engine at {endpoint} does not let BuildKit be used: {reason}; it must answer POST /grpc"
    )]
    BuildKitShut {
        /// Where it is.
        endpoint: String,
        /// What the door said.
        reason: String,
    },
    /// What it says of itself makes no sense.
    #[error("the Docker Engine at {endpoint} says it runs {value}, which is no known platform")]
    Malformed {
        /// Where it is.
        endpoint: String,
        /// As it said.
        value: String,
    },
}

impl Probe {
    /// Whether the Engine has this.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// For people: `Docker Engine 20.10.24 (overlay2)`.
    pub fn describe(&self) -> String {
        let version = self.version.split(['+', '-']).next().unwrap_or(&self.version);
        let store = if self.containerd_store { "containerd store" } else { &self.storage_driver };
        format!("Docker Engine {version} ({store})")
    }

    /// One line for each thing it cannot do, with what is done instead. Empty where it can do all.
    pub fn limitations(&self) -> Vec<&'static str> {
        Vec::new()
    }
}
