//! A build fully resolved before it is submitted.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{Blake3, ContextRef, Platform, ProjectName, Reference};

/// What a build is asked to leave behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Build and verify; publish nothing.
    Check,
    /// Push by digest per platform, then one index under every tag.
    Push,
}

/// Why a Dockerfile names an image from outside the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseKind {
    /// `FROM image`.
    From,
    /// `COPY --from=image`.
    CopyFrom,
    /// `RUN --mount=from=image`.
    MountFrom,
    /// `# syntax=image`.
    Syntax,
}

/// Which image one job needs at a place of the Dockerfile, and for which platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseUse {
    /// The job's position in [`Plan::platforms`].
    pub job: u16,
    /// Normalised; a token may hold `$TARGETARCH`, so jobs may need different images here.
    pub image: Reference,
    /// The platform needed of it. None: that of the worker that builds (`$BUILDPLATFORM`).
    pub platform: Option<Platform>,
}

/// One place in the Dockerfile that names an image from outside the build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Why it is named.
    pub kind: BaseKind,
    /// From 1.
    pub line: u32,
    /// Bytes of the token in the Dockerfile.
    pub span: Range<u64>,
    /// As written.
    pub token: String,
    /// One per job that reaches this place.
    pub uses: Vec<BaseUse>,
}

/// A build fully resolved before it is submitted: platforms normalised, tags parsed, files chosen, arguments
/// fixed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Whose build it is.
    pub project: ProjectName,
    /// At least one, each once.
    pub platforms: Vec<Platform>,
    /// What it leaves behind.
    pub output: Output,
    /// Tags of the index, each with a tag and no digest. At least one for [`Output::Push`].
    pub tags: Vec<Reference>,
    /// The source.
    pub context: ContextRef,
    /// The Dockerfile as a blob: it may come from outside the context.
    pub dockerfile: Blake3,
    /// As the user named it.
    pub dockerfile_name: String,
    /// The stage to build; none for the last.
    pub target: Option<String>,
    /// As given; arguments of the Dockerfile's own are not repeated here.
    pub build_args: BTreeMap<String, String>,
    /// Labels for the image.
    pub labels: BTreeMap<String, String>,
    /// Run every step again.
    pub no_cache: bool,
    /// Ask the registry again even where the Engine has the base.
    pub pull: bool,
    /// What the scheduler locks before it shards.
    pub bases: Vec<Base>,
    /// `host[:port]` of registries that may be spoken to without TLS, beside loopback.
    pub insecure_registries: Vec<String>,
    /// Registries whose credentials the client supplies, and without which the build waits.
    pub credential_hosts: Vec<String>,
}

impl Plan {
    /// The repositories the manifests are pushed to: those of the tags, each once, as `host/name`.
    pub fn repositories(&self) -> Vec<String> {
        if self.output == Output::Check {
            return Vec::new();
        }
        let mut names: Vec<String> = self.tags.iter().map(Reference::name).collect();
        names.sort();
        names.dedup();
        names
    }
}
