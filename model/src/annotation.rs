//! Annotations of what is published.

use serde::{Deserialize, Serialize};

use crate::Platform;

/// What an annotation is put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnnotationLevel {
    /// Each platform's manifest.
    Manifest,
    /// The index over them.
    Index,
    /// A manifest's entry in the index.
    ManifestDescriptor,
}

/// A name and a value on what is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// On what.
    pub level: AnnotationLevel,
    /// Of one platform only; none: of all.
    pub platform: Option<Platform>,
    /// Not empty.
    pub key: String,
    /// May be empty.
    pub value: String,
}
