//! What images leave to those that start from them, by digest: a digest's answer never changes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use archyard_model::Sha256;

/// Images whose triggers are remembered.
const KEPT: usize = 4096;
/// What is remembered of one image, in bytes; more is asked for each time.
const KEPT_BYTES: usize = 4096;

/// The `ONBUILD` instructions of images that were read before.
#[derive(Debug, Default)]
pub(crate) struct Triggers {
    known: Mutex<HashMap<Sha256, Vec<String>>>,
}

impl Triggers {
    /// Those of an image, if they are known.
    pub(crate) fn get(&self, manifest: &Sha256) -> Option<Vec<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(manifest).cloned()
    }

    /// Remembers those of an image.
    pub(crate) fn keep(&self, manifest: Sha256, triggers: &[String]) {
        if triggers.iter().map(String::len).sum::<usize>() > KEPT_BYTES {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(manifest, triggers.to_vec());
    }
}
