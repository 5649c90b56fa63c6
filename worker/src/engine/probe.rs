//! What an Engine is and can do, asked once at a worker's start.

use std::time::Duration;

use archyard_model::Platform;
use bollard::models::SystemVersion;
use bollard_buildkit_proto::moby::buildkit::v1::ListWorkersRequest;

use super::control::Control;
use super::{DockerEngine, EngineError};

/// The oldest Engine whose BuildKit this was made for.
const OLDEST: (u32, u32) = (20, 10);

/// How long a worker's start may wait for an Engine to say what it is.
const GLANCE: Duration = Duration::from_secs(2);

/// Of a version that is told on.
const VERSION_CHARACTERS: usize = 64;

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
        let missing = |(feature, line): &(Feature, &'static str)| (!self.has(*feature)).then_some(*line);
        LIMITATIONS.iter().filter_map(missing).collect()
    }
}

const LIMITATIONS: &[(Feature, &str)] = &[
    (Feature::SourcePolicy, "no source policy (Engine 24): bases are pinned in the Dockerfile instead"),
    (
        Feature::OciExporter,
        "no OCI exporter (containerd store): images are converted and pushed by the worker",
    ),
    (Feature::ErrorDetails, "no error details (Engine 23): failures name the step, its lines are looked up"),
    (
        Feature::CurrentDockerfile,
        "an old built-in frontend (Engine 23): heredocs, COPY --link and RUN --network need a syntax line",
    ),
];

/// Asks an Engine what it is; see [`super::Engine::probe`].
pub(super) async fn probe(engine: &DockerEngine) -> Result<Probe, ProbeError> {
    let endpoint = engine.endpoint();
    let api = engine.api()?;
    let version = api.version().await.map_err(|error| engine.error("say its version", &error))?;
    refuse_podman(&endpoint, &version)?;
    let info = api.info().await.map_err(|error| engine.error("describe itself", &error))?;
    let text = version.version.unwrap_or_default();
    let number = release(&text).unwrap_or_default();
    if number < OLDEST {
        return Err(ProbeError::TooOld { endpoint, version: text });
    }
    knock(engine).await.map_err(|reason| ProbeError::BuildKitShut { endpoint: endpoint.clone(), reason })?;
    let (os, arch) = (version.os.unwrap_or_default(), version.arch.unwrap_or_default());
    let platform = Platform::new(&os, &arch, "")
        .map_err(|_| ProbeError::Malformed { endpoint, value: format!("{os}/{arch}") })?;
    let status = info.driver_status.unwrap_or_default();
    let containerd_store = status.iter().any(|row| row.iter().any(|cell| cell.contains(CONTAINERD_STORE)));
    Ok(Probe {
        id: info.id.unwrap_or_default(),
        version: text,
        api_version: version.api_version.unwrap_or_default(),
        storage_driver: info.driver.unwrap_or_default(),
        containerd_store,
        platform,
        features: features(number, containerd_store),
    })
}

/// Finds out whether it is a Docker Engine at all; see [`DockerEngine::identify`].
pub(super) async fn identify(engine: &DockerEngine) -> Result<(), EngineError> {
    // Away, not even its socket there, hung or at fault: a probe says so, and says so again.
    let Ok(api) = engine.api() else { return Ok(()) };
    match tokio::time::timeout(GLANCE, api.version()).await {
        Ok(Ok(version)) => refuse_podman(&engine.endpoint(), &version),
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

/// Podman answers as a Docker Engine would, with a version of its own counting; only its parts tell.
fn refuse_podman(endpoint: &str, version: &SystemVersion) -> Result<(), EngineError> {
    let parts = version.components.iter().flatten();
    let podman = parts.filter(|part| part.name.starts_with("Podman")).map(|part| &part.version).next();
    podman.map_or(Ok(()), |version| {
        let product = format!("Podman {}", version.chars().take(VERSION_CHARACTERS).collect::<String>());
        Err(EngineError::NotDocker { endpoint: endpoint.to_owned(), product })
    })
}

/// How `info` calls the driver of images that containerd keeps.
const CONTAINERD_STORE: &str = "io.containerd.snapshotter.v1";

/// What came with which release, where the Engine itself cannot be asked.
fn features(release: (u32, u32), containerd_store: bool) -> Vec<Feature> {
    let since = |major| release >= (major, 0);
    [
        (Feature::SourcePolicy, since(24)),
        (Feature::OciExporter, containerd_store),
        (Feature::ErrorDetails, since(23)),
        (Feature::CurrentDockerfile, since(23)),
    ]
    .into_iter()
    .filter_map(|(feature, there)| there.then_some(feature))
    .collect()
}

/// Asks BuildKit for anything at all.
async fn knock(engine: &DockerEngine) -> Result<(), String> {
    let control = Control::connect(engine.at()).await.map_err(|error| error.to_string())?;
    let workers = control.client().list_workers(ListWorkersRequest::default()).await;
    workers.map(|_| ()).map_err(|status| status.message().to_owned())
}

/// Major and minor of `20.10.24+dfsg1`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(['.', '+', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(version: &str, containerd_store: bool) -> Probe {
        Probe {
            id: String::new(),
            version: version.to_owned(),
            api_version: "1.41".to_owned(),
            storage_driver: "overlay2".to_owned(),
            containerd_store,
            platform: "linux/amd64".parse().unwrap(),
            features: features(release(version).unwrap(), containerd_store),
        }
    }

    #[test]
    fn says_what_it_is_and_what_it_cannot_do() {
        let old = probe("20.10.24+dfsg1", false);
        assert_eq!(old.describe(), "Docker Engine 20.10.24 (overlay2)");
        assert_eq!(old.limitations().len(), LIMITATIONS.len());
        let new = probe("26.1.5", true);
        assert_eq!(new.describe(), "Docker Engine 26.1.5 (containerd store)");
        assert!(new.limitations().is_empty());
        assert!(!probe("26.1.5", false).has(Feature::OciExporter));
    }

    #[test]
    fn reads_versions_as_engines_write_them() {
        assert_eq!(release("20.10.24+dfsg1"), Some((20, 10)));
        assert_eq!(release("27.0-rc.1"), Some((27, 0)));
        assert_eq!(release("dev"), None);
        assert!(release("19.03.15").unwrap() < OLDEST);
    }
}
