//! How the lock reaches the Engine: by its own source policy where it takes one, else in the Dockerfile.

use std::collections::BTreeMap;

use archyard_model::convert::JobSpec;
use bytes::Bytes;

use crate::engine::Pin;

/// The Dockerfile to serve, and what the Engine is to take for the images it names.
pub(super) fn pinned(spec: &JobSpec, written: &Bytes, source_policy: bool) -> (Bytes, Vec<Pin>) {
    if source_policy { (written.clone(), pins(spec)) } else { (spec.pin(written).into(), Vec::new()) }
}

/// Each image once. What the lock does not know stays as it is, and so does what its user pinned.
fn pins(spec: &JobSpec) -> Vec<Pin> {
    let used = spec.bases.iter().flat_map(|base| &base.uses).map(|used| &used.image);
    let locked = used.filter(|image| image.digest().is_none()).filter_map(|image| {
        let digest = spec.lock.images.get(&image.to_string())?.digest?;
        Some((image.to_string(), Pin { image: image.clone(), digest }))
    });
    locked.collect::<BTreeMap<_, _>>().into_values().collect()
}
