//! What a plan's moving parts resolved to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Platform, Sha256};

/// Every base image as a digest, resolved once per build and used by all its jobs and their retries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lock {
    /// By normalised reference, as in [`crate::plan::BaseUse::image`].
    pub images: BTreeMap<String, LockedImage>,
}

/// One image of the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedImage {
    /// Of its index, or of a lone manifest. None: it could not be resolved, and `warning` says why.
    pub digest: Option<Sha256>,
    /// What it offers, when known.
    pub platforms: Vec<Platform>,
    /// Why it is unlocked.
    pub warning: Option<String>,
}

impl Lock {
    /// Whether any image could not be resolved: the record says so, and the build's result is not repeatable.
    pub fn is_unlocked(&self) -> bool {
        self.images.values().any(|image| image.digest.is_none())
    }
}
