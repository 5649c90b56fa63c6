//! A second pair of eyes on the layers while they leave the Engine, so that none is read twice.

use std::io::Read;

use archyard_model::Sha256;

/// Sees the tars of an image's layers as they come: in any order, and one again where reading it failed halfway.
/// Called from threads where blocking is allowed.
pub trait Observer: Send + Sync {
    /// Whether a layer was seen to its end before: then it need not be read for the observer's sake.
    fn knows(&self, diff_id: Sha256) -> bool;

    /// A layer begins; which one is told at its end.
    fn begin(&self) -> Box<dyn LayerObserver>;
}

/// Sees one layer.
pub trait LayerObserver {
    /// Reads the layer's tar, as far as it cares to; what it leaves is read on without it. The tar is hostile, and
    /// what is wrong with it is the observer's own to remember: an error of the reader fails the taking anyway.
    fn read(&mut self, tar: &mut dyn Read);

    /// The layer was read to its end, and this is its diff id. Not called for a layer that could not be.
    fn end(self: Box<Self>, diff_id: Sha256);
}
