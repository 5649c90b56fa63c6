//! The part of an image's config that says what it is for and what it runs.

use std::collections::BTreeMap;

use archyard_model::Sha256;
use serde::Deserialize;

/// What Docker gives a container whose image says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image's config says. Hostile, like all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// `linux`; empty where it is missing.
    pub os: String,
    /// `arm64`; empty where it is missing.
    pub architecture: String,
    /// `v7`; often missing.
    pub variant: String,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
    /// `NAME=VALUE` each.
    pub env: Vec<String>,
    /// Empty for `/`.
    pub working_dir: String,
    /// As `USER` has it: a name or a number, and a group after a colon.
    pub user: String,
    /// By name.
    pub labels: BTreeMap<String, String>,
    /// Its layers, from the lowest.
    pub diff_ids: Vec<Sha256>,
    /// How it came about, from the first instruction.
    pub steps: Vec<Step>,
}

/// One instruction of an image's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `COPY a /a # buildkit`.
    pub created_by: String,
    /// Whether a layer came of it.
    pub has_layer: bool,
}

/// A config that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the image's config is no JSON that describes an image: {0}")]
pub struct ConfigError(#[from] serde_json::Error);

#[derive(Deserialize)]
struct Image {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    config: Option<Run>,
    rootfs: Option<RootFs>,
    history: Option<Vec<History>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Run {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
struct RootFs {
    diff_ids: Option<Vec<Sha256>>,
}

#[derive(Deserialize)]
struct History {
    created_by: Option<String>,
    empty_layer: Option<bool>,
}

impl Config {
    /// From an OCI or Docker image config.
    ///
    /// # Errors
    /// When it is no such JSON.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ConfigError> {
        let image: Image = serde_json::from_slice(bytes)?;
        let run = image.config.unwrap_or_default();
        let step = |step: History| Step {
            created_by: step.created_by.unwrap_or_default(),
            has_layer: !step.empty_layer.unwrap_or_default(),
        };
        Ok(Self {
            os: image.os.unwrap_or_default(),
            architecture: image.architecture.unwrap_or_default(),
            variant: image.variant.unwrap_or_default(),
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            env: run.env.unwrap_or_default(),
            working_dir: run.working_dir.unwrap_or_default(),
            user: run.user.unwrap_or_default(),
            labels: run.labels.unwrap_or_default(),
            diff_ids: image.rootfs.unwrap_or_default().diff_ids.unwrap_or_default(),
            steps: image.history.unwrap_or_default().into_iter().map(step).collect(),
        })
    }

    /// The words that a container of it runs.
    pub(super) fn words(&self) -> Vec<&str> {
        self.entrypoint.iter().chain(&self.cmd).map(String::as_str).collect()
    }

    /// Where programs are looked for: the last `PATH` counts.
    pub(super) fn path(&self) -> &str {
        self.env.iter().rev().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_null_or_missing_is_empty() {
        let json = br#"{"os":"linux","config":{"Cmd":null,"Env":["PATH=/a","PATH=/b"]},"history":null}"#;
        let config = Config::from_json(json).unwrap();
        assert_eq!((config.os.as_str(), config.architecture.as_str()), ("linux", ""));
        assert_eq!((config.words().len(), config.path()), (0, "/b"));
        assert_eq!(Config::from_json(b"{}").unwrap().path(), DEFAULT_PATH);
        assert!(Config::from_json(b"[]").is_err());
    }
}
