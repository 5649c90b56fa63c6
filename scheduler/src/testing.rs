//! What the tests of several modules start from.

use archyard_model::{Blake3, ContextRef, Output, Plan, ProjectName};

/// The smallest plan.
pub(crate) fn plan() -> Plan {
    Plan {
        project: ProjectName::default(),
        platforms: vec!["linux/amd64".parse().unwrap()],
        output: Output::Check,
        tags: Vec::new(),
        context: ContextRef {
            digest: Blake3::of(b""),
            manifest_digest: Blake3::of(b""),
            files: 0,
            total_bytes: 0,
        },
        dockerfile: Blake3::of(b""),
        dockerfile_name: "Dockerfile".to_owned(),
        target: None,
        build_args: std::collections::BTreeMap::new(),
        labels: std::collections::BTreeMap::new(),
        no_cache: false,
        pull: false,
        bases: Vec::new(),
        insecure_registries: Vec::new(),
        credential_hosts: Vec::new(),
        checks: archyard_model::Checks::default(),
        trial: std::collections::BTreeSet::new(),
        cross: std::collections::BTreeSet::new(),
        annotations: Vec::new(),
        staging: None,
    }
}
