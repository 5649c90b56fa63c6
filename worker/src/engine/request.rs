//! What a caller asks of an Engine, and what it gets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use archyard_model::build::PushedManifest;
use archyard_model::{Platform, Sha256};
use bytes::Bytes;
use secrecy::SecretString;

/// One platform's build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// What BuildKit is to call this build: unique on the Engine, at most 128 bytes of `[a-zA-Z0-9._-]`.
    pub build_ref: String,
    /// What to build for.
    pub platform: Platform,
    /// The Dockerfile's bytes, its bases already pinned.
    pub dockerfile: Bytes,
    /// The same as its user wrote it: what failures show.
    pub written: Bytes,
    /// As the user named it; its last component is what BuildKit's messages show.
    pub dockerfile_name: String,
    /// Stage to build; none for the last.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// Run every step again.
    pub no_cache: bool,
    /// Ask the registry again even where the Engine has the base.
    pub pull: bool,
    /// Separates `RUN --mount=type=cache` of projects and pools that share an Engine.
    pub cache_namespace: String,
    /// Names the copy of the context that the Engine keeps between builds. One per project and worker slot:
    /// two builds under one key at the same time make one of them send everything again.
    pub shared_key: String,
    /// For pulling private bases.
    pub credentials: Vec<Credential>,
}

/// What a build left in the Engine's store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The image's ID: the digest of its config.
    pub image: Sha256,
    /// Steps of the build, and how many of them came from the cache.
    pub steps: u32,
    /// See `steps`.
    pub cached_steps: u32,
}

/// A registry's credential. Never printed; wiped when dropped.
#[derive(Debug, Clone)]
pub struct Credential {
    /// `host[:port]`, Docker Hub's being `docker.io`.
    pub host: String,
    /// Empty where `secret` is an identity token.
    pub username: String,
    /// Password, or an identity token where `username` is empty.
    pub secret: SecretString,
}

/// An image to hand to registries.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// The image's ID, as [`Built::image`].
    pub image: Sha256,
    /// `host[:port]/name` each, without tag or digest; at least one.
    pub repositories: Vec<String>,
    /// Hosts that may be spoken to without TLS; loopback always may.
    pub insecure_registries: Vec<String>,
    /// One per host that needs it.
    pub credentials: Vec<Credential>,
    /// Where compressed layers and what is known of them are kept between pushes. May be shared by every runner
    /// of a machine at once.
    pub layer_cache: PathBuf,
    /// Compressed layers kept there at most, in bytes; the least recently used go first.
    pub layer_cache_bytes: u64,
}

/// What is in every repository asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The OCI manifest.
    pub manifest: PushedManifest,
    /// Its config: the image's ID.
    pub config: Sha256,
    /// Bytes of blobs that were sent, over all repositories.
    pub sent_bytes: u64,
    /// Layers that had to be compressed.
    pub compressed_layers: u32,
}
