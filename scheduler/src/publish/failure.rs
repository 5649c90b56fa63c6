//! What is said when publishing cannot go on.

use archyard_model::build::PushedManifest;
use archyard_model::{Failure, FailureClass, Platform, Reference};

use crate::registry::{Cause, Error};

use super::publisher::Failed;

/// A registry did not give or take something.
pub(super) fn of_registry(what: &str, image: &Reference, error: &Error) -> Failed {
    let Error { registry, cause, detail } = error;
    let retryable = cause.is_passing();
    let (class, code, message) = match cause {
        Cause::Denied => (
            FailureClass::User,
            "registry_denied",
            format!(
                "registry {registry} does not let this account {what} {image} ({detail}); log in with one that may push \
                 there: docker login {registry}"
            ),
        ),
        Cause::Unreachable => (
            FailureClass::Infrastructure,
            "registry_unreachable",
            format!(
                "registry {registry} cannot be reached to {what} {image}: {detail}; see that it runs, and build again"
            ),
        ),
        Cause::Failing => (
            FailureClass::Infrastructure,
            "registry_failing",
            format!(
                "registry {registry} could not {what} {image}: {detail}; build again when it has recovered"
            ),
        ),
        Cause::NoRoots => (
            FailureClass::Infrastructure,
            "no_ca_certificates",
            format!("registry {registry} cannot be asked to {what} {image}: {detail}"),
        ),
        Cause::Tls => (
            FailureClass::Infrastructure,
            "registry_tls",
            format!("registry {registry} cannot be asked to {what} {image}: {detail}"),
        ),
        Cause::NotFound | Cause::Refused => (
            FailureClass::User,
            "registry_refused",
            format!(
                "registry {registry} refused to {what} {image}: {detail}; mend the name, or the registry's rules"
            ),
        ),
    };
    Failed { failure: Failure::new(class, code, message), retryable }
}

/// A blob did not get from one registry to another, because of either.
pub(super) fn of_copy(from: &Reference, to: &Reference, error: &Error) -> Failed {
    if error.registry == from.registry() && error.registry != to.registry() {
        of_registry("give a layer of", from, error)
    } else {
        of_registry("push", to, error)
    }
}

/// A platform's manifest is not in the registry, or is not what its worker said.
pub(super) fn of_manifest(platform: &Platform, image: &Reference, problem: &str) -> Failed {
    let message = format!(
        "the image of {platform} cannot be published: {image} {problem}; somebody cleaned up or overwrote it; build anew"
    );
    Failed {
        failure: Failure::new(FailureClass::Infrastructure, "manifest_missing", message),
        retryable: true,
    }
}

/// Something of a candidate is not where it waits to be promoted.
pub(super) fn of_candidate(what: &str, staging: &str) -> Failed {
    let message = format!(
        "the candidate cannot be promoted: {what} is not in {staging} any more; somebody or the registry's \
         garbage collection removed it. Build the candidate anew"
    );
    Failed { failure: Failure::new(FailureClass::User, "candidate_incomplete", message), retryable: false }
}

/// The index is not the one that was journaled.
pub(super) fn of_index(problem: &str) -> Failed {
    let message = format!("the index cannot be made: {problem}; build again");
    Failed { failure: Failure::new(FailureClass::Infrastructure, "index_changed", message), retryable: false }
}

/// A tag does not name what was pushed under it.
pub(super) fn of_tag(tag: &Reference) -> Failed {
    let message =
        format!("{tag} names something else right after it was moved; another program moves the same tag");
    Failed { failure: Failure::new(FailureClass::Infrastructure, "tag_not_moved", message), retryable: true }
}

/// The bounds of a manifest that its registry must agree with.
pub(super) fn mismatch(manifest: &PushedManifest, size: u64, media_type: &str) -> Option<String> {
    if manifest.size != size {
        return Some(format!("has {size} bytes and not {}", manifest.size));
    }
    (manifest.media_type != media_type)
        .then(|| format!("is a {media_type} and not a {}", manifest.media_type))
}
