//! Blobs that a call counts on while it is under way.

use std::sync::Arc;

use archyard_model::Blake3;

use super::Store;

/// Keeps blobs from being removed until it is dropped. A manifest stands for all that it names.
#[derive(Debug)]
pub struct Claim {
    store: Arc<Store>,
    digests: Vec<Blake3>,
    /// They were found to be here.
    kept: bool,
}

impl Claim {
    pub(super) fn new(store: &Arc<Store>, digests: Vec<Blake3>) -> Self {
        store.pins.claim(&digests);
        Self { store: Arc::clone(store), digests, kept: false }
    }

    /// Says that the blobs are here: they stay pinned for a while when the claim ends.
    pub(super) fn keep(mut self) -> Self {
        self.kept = true;
        self
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.store.pins.release(&self.digests, self.kept);
    }
}
