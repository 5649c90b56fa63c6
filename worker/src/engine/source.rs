//! Where a build's files come from. The session asks; it never walks a disk itself.

use std::fs::File;
use std::io;

use archyard_model::{Blake3, ContextEntry, Inputs};
use futures_util::future::BoxFuture;

/// A context that is complete on this machine.
pub trait Source: Send + Sync + 'static {
    /// Waits until the entries are known; they may be read while the build starts. An error fails the build as
    /// an infrastructure failure.
    fn known(&self) -> BoxFuture<'_, Result<(), String>>;

    /// The context's entries in walking order, as [`archyard_model::ContextManifest`] keeps them. None before
    /// they are [`known`](Self::known).
    fn entries(&self) -> &[ContextEntry];

    /// The part of its source that the context is. Everything before the entries are [`known`](Self::known).
    fn inputs(&self) -> &Inputs {
        &Inputs::Everything
    }

    /// Learns which paths BuildKit asks for; none: all of them.
    fn asked(&self, paths: &[String]) {
        tracing::debug!(?paths, "BuildKit asks for the context");
    }

    /// Opens a file's content for reading from its start. Called from threads where blocking is allowed.
    ///
    /// # Errors
    /// Any error fails the build as an infrastructure failure: what the manifest names has to be there.
    fn open(&self, digest: &Blake3) -> io::Result<File>;
}
