//! The Docker Engine and the BuildKit inside it, as one attempt needs them.
//!
//! One runner process holds one [`DockerEngine`] for one attempt: a Solve dies with its caller, so the runner's
//! death, or dropping what [`Engine::build`] returned, stops the build. What comes out of an Engine is turned
//! into OCI here and handed to registries by digest.
//!
//! This module never decides whether an attempt is tried again, never sets or moves a tag, never masks
//! secrets in logs, and never holds a context, a log or an image in memory whole. What an Engine can do is
//! [probed](Engine::probe), never guessed from its version where asking is possible.

mod build;
mod container;
mod control;
mod describe;
mod dial;
mod docker;
mod error;
mod excerpt;
mod export;
mod failure;
mod inputs;
mod policy;
mod probe;
mod progress;
mod request;
mod session;
mod solve;
mod source;
mod tasks;

pub use container::{End, Home, Ran, RunError, RunRequest};
pub use docker::DockerEngine;
pub use error::{BuildError, EngineError, PushError};
pub use export::{LayerObserver, Observer};
pub use probe::{Feature, Probe, ProbeError};
pub use request::{
    BuildRequest, Built, Credential, Described, Form, Pin, PushRequest, Pushed, TakeRequest, Taken,
    TakenLayer,
};
pub use source::Source;

use std::future::Future;
use std::sync::Arc;

use archyard_model::{ContextEntry, Sha256};
use archyard_proto::v1::LogFrame;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::sent::Mark;

/// What BuildKit compares of the entries of a context, and what it does not: for [`Sent`](crate::sent::Sent).
pub fn marks(entries: &[ContextEntry]) -> Vec<Mark> {
    session::marks(entries)
}

/// What an attempt asks of the Engine it was given.
pub trait Engine: Send + Sync {
    /// Asks the Engine what it is and what it can do: at a worker's start, and when an Engine comes back.
    /// [`build`](Self::build) does without.
    fn probe(&self) -> impl Future<Output = Result<Probe, ProbeError>> + Send;

    /// Whether it answers at all. Costs the Engine nothing, where [`probe`](Self::probe) makes it start programs.
    fn ping(&self) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Builds one platform's image and leaves it, untagged, in the Engine's own store, until
    /// [`remove_image`](Self::remove_image): the caller removes it when it is done with it, or images pile up.
    /// The next build of the same content is as fast without it.
    ///
    /// Progress goes to `progress` while it happens, in order; a slow receiver slows the reading of progress,
    /// not the build. A dropped receiver is no error: what it would have got is lost.
    ///
    /// When `cancel` fires the build is stopped and this returns [`BuildError::Canceled`] once the Engine has
    /// reported every running step stopped. Dropping the future stops the build too, without that certainty.
    fn build(
        &self,
        request: BuildRequest,
        source: Arc<dyn Source>,
        progress: mpsc::Sender<LogFrame>,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<Built, BuildError>> + Send;

    /// Sends the root file system of a build as a tar, in pieces, to `sink`. A build that was just made comes from the
    /// cache; give it another [`build_ref`](BuildRequest::build_ref). Not whole unless this returns `Ok`; a dropped
    /// receiver is an error. Else as [`build`](Self::build).
    fn files(
        &self,
        request: BuildRequest,
        source: Arc<dyn Source>,
        form: Form,
        sink: mpsc::Sender<Bytes>,
        progress: mpsc::Sender<LogFrame>,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<(), BuildError>> + Send;

    /// What the Engine says of an image: cheap, for nothing is taken out.
    fn describe(&self, image: Sha256) -> impl Future<Output = Result<Described, EngineError>> + Send;

    /// Takes an image out of the Engine, into the layer cache: its config, and its layers in one pass through
    /// whoever wants to see them. What the cache has and the observer knows is not read again; where that is all
    /// of it, the Engine is not even asked.
    ///
    /// Never [`PushError::User`]. Safe to repeat; `image_gone` as with [`push`](Self::push).
    fn take(
        &self,
        request: TakeRequest,
        progress: mpsc::Sender<LogFrame>,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<Taken, PushError>> + Send;

    /// Hands an image to every repository asked for, as an OCI manifest, by digest and under no tag.
    ///
    /// Layers that were compressed before are not compressed again, and those a registry has are not sent.
    /// On success every repository holds the same manifest. Safe to repeat. `image_gone` says that another build
    /// of the same content has removed the image meanwhile: building again, from the cache, brings it back.
    fn push(
        &self,
        request: PushRequest,
        progress: mpsc::Sender<LogFrame>,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<Pushed, PushError>> + Send;

    /// Runs a program of an image in a container of its own, within bounds, and says how it ended.
    ///
    /// Its output goes to `progress` while it comes, as a step of the log; past
    /// [`SMOKE_OUTPUT_BYTES`](archyard_model::limits::SMOKE_OUTPUT_BYTES) it is dropped, with one frame that says
    /// so. However this ends, and when `cancel` fires, the container and all that it wrote is removed before it
    /// returns; whoever drops the future leaves that to [`DockerEngine::remove_leftovers`].
    fn run(
        &self,
        request: RunRequest,
        progress: mpsc::Sender<LogFrame>,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<Ran, RunError>> + Send;

    /// Removes an image from the Engine's store; its layers stay in the build cache. One that is not there, or
    /// that carries a tag or runs in a container (so is somebody else's too), is left alone without error.
    fn remove_image(&self, image: Sha256) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Shrinks the build cache to at most `keep_bytes`, least recently used first. Returns the bytes reclaimed.
    fn prune(&self, keep_bytes: u64) -> impl Future<Output = Result<u64, EngineError>> + Send;
}
