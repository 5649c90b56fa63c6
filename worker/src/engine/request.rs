//! What a caller asks of an Engine, and what it gets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use archyard_model::build::PushedManifest;
use archyard_model::{Platform, Reference, Sha256};
use bytes::Bytes;
use secrecy::SecretString;

use super::Observer;
use crate::inspect::Config;

/// One platform's build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// What BuildKit is to call this build: unique on the Engine, at most 128 bytes of `[a-zA-Z0-9._-]`.
    pub build_ref: String,
    /// What to build for.
    pub platform: Platform,
    /// This machine does not run that platform: a step that is run for it fails, and is said to be one.
    pub cross: bool,
    /// The Dockerfile's bytes; its bases are pinned in it, or by `pins`.
    pub dockerfile: Bytes,
    /// What the Engine is to take for the images that the Dockerfile names. Only for an Engine that has
    /// [`SourcePolicy`](super::Feature::SourcePolicy): others would build from whatever the names mean now.
    pub pins: Vec<Pin>,
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
    /// Read all of the context, not only what the Dockerfile copies: quicker on Engines without
    /// [`SourcePolicy`](super::Feature::SourcePolicy), where the context is small. It has passed its ignore file.
    pub whole_context: bool,
    /// Names the copy of the context that the Engine keeps between builds. Two builds under one key at the same time
    /// make one of them send everything again. The Engine must never have been sent a file under it that differs from
    /// one of this context and that it takes for the same: a name of [`Sent`](crate::sent::Sent).
    pub shared_key: String,
    /// For pulling private bases.
    pub credentials: Vec<Credential>,
}

/// How BuildKit is to send a root file system. Either way it arrives as a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As the tar that BuildKit writes, whose times are rounded to whole seconds.
    Tar,
    /// File by file, for a folder: times are exact.
    Exact,
}

/// An image, and what it is locked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// As it is named, in full.
    pub image: Reference,
    /// Its content.
    pub digest: Sha256,
}

/// What a build left in the Engine's store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// What the Engine calls the image, and takes for exporting, removing and running it: with the containerd
    /// store the digest of its manifest, else that of its config.
    pub image: Sha256,
    /// The digest of its config, where the Engine told.
    pub config: Option<Sha256>,
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
    /// As [`Built::image`].
    pub image: Sha256,
    /// `host[:port]/name` each, without tag or digest; at least one.
    pub repositories: Vec<String>,
    /// Hosts that may be spoken to without TLS; loopback always may.
    pub insecure_registries: Vec<String>,
    /// One per host that needs it.
    pub credentials: Vec<Credential>,
    /// On the manifest.
    pub annotations: BTreeMap<String, String>,
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
    /// Its config.
    pub config: Sha256,
    /// Bytes of blobs that were sent, over all repositories.
    pub sent_bytes: u64,
    /// Layers that had to be compressed.
    pub compressed_layers: u32,
}

/// An image to take out of the Engine.
#[derive(Clone)]
pub struct TakeRequest {
    /// As [`Built::image`].
    pub image: Sha256,
    /// As [`PushRequest::layer_cache`].
    pub layer_cache: PathBuf,
    /// As [`PushRequest::layer_cache_bytes`]; only heeded without `compress`, for else the layers are yet to be
    /// used.
    pub layer_cache_bytes: u64,
    /// Whether its layers are compressed, for registries or files. Without, they are only hashed and seen.
    pub compress: bool,
    /// Sees every layer that it does not know, in the same pass.
    pub observer: Option<Arc<dyn Observer>>,
}

/// What was taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The config's digest.
    pub config_digest: Sha256,
    /// The config, byte for byte as the Engine has it. Hostile, like all of an image; at most 8 MiB.
    pub config: Vec<u8>,
    /// Its layers, from the lowest.
    pub diff_ids: Vec<Sha256>,
    /// The same, compressed; empty unless that was asked for.
    pub layers: Vec<TakenLayer>,
    /// Bytes that the Engine sent for it; 0 where all was known.
    pub read_bytes: u64,
    /// Layers that had to be compressed.
    pub compressed_layers: u32,
}

/// A layer as registries get it: gzip, the same bytes whatever the Engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenLayer {
    /// Of the uncompressed tar.
    pub diff_id: Sha256,
    /// Of the compressed bytes.
    pub digest: Sha256,
    /// Of the compressed bytes.
    pub size_bytes: u64,
    /// Where they are. Another attempt's cleaning may remove the file: taking the image again brings it back.
    pub path: PathBuf,
}

/// What the Engine says of an image. Hostile, like all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Described {
    /// Its config, but for the steps that made it, which are not told.
    pub config: Config,
    /// Where the Engine says that it keeps the layers unpacked, as overlayfs does, one for each of the config's
    /// `diff_ids`; empty where it does not say. They may well be on a disk that this process cannot see.
    pub folders: Vec<PathBuf>,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A request like any other.
    pub(in crate::engine) fn request() -> BuildRequest {
        BuildRequest {
            build_ref: "b".to_owned(),
            platform: "linux/arm/v7".parse().unwrap(),
            cross: false,
            dockerfile: Bytes::new(),
            pins: Vec::new(),
            written: Bytes::new(),
            dockerfile_name: "docker/app.Dockerfile".to_owned(),
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            no_cache: false,
            pull: false,
            whole_context: false,
            cache_namespace: "ours".to_owned(),
            shared_key: "k".to_owned(),
            credentials: Vec::new(),
        }
    }
}
