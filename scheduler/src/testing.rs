//! What the tests of several modules start from.

use archyard_model::{Blake3, ContextRef, Plan, ProjectName};

/// The smallest plan.
pub(crate) fn plan() -> Plan {
    let nothing = Blake3::of(b"");
    let context =
        ContextRef { digest: nothing, manifest_digest: nothing, files: 0, total_bytes: 0, partial: false };
    Plan::new(ProjectName::default(), vec!["linux/amd64".parse().unwrap()], context, nothing)
}
