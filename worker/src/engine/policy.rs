//! The lock as BuildKit's own source policy: whatever names an image, in a Dockerfile, a frontend of its own or a
//! mount, gets what the lock says, and nobody's Dockerfile is changed.

use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy::{
    MatchType, Policy, PolicyAction, Rule, Selector, Update,
};

use super::Pin;

/// The only version there is.
const VERSION: i64 = 1;

/// The policy for these pins; none where there are none.
pub(super) fn source_policy(pins: &[Pin]) -> Option<Policy> {
    (!pins.is_empty()).then(|| Policy { version: VERSION, rules: pins.iter().map(rule).collect() })
}

/// A name that is pinned already, by its user or by this very rule, is another name and left alone.
///
/// By wildcard, though there is none: BuildKit matches exact rules too, and then converts the name to itself.
fn rule(pin: &Pin) -> Rule {
    let selector = Selector {
        identifier: format!("docker-image://{}", pin.image),
        match_type: MatchType::Wildcard.into(),
        constraints: Vec::new(),
    };
    let update = Update {
        identifier: format!("docker-image://{}", pin.image.pinned(pin.digest)),
        ..Update::default()
    };
    Rule { action: PolicyAction::Convert.into(), selector: Some(selector), updates: Some(update) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archyard_model::Sha256;

    #[test]
    fn names_become_contents() {
        assert_eq!(source_policy(&[]), None);
        let digest = Sha256::from_bytes([7; 32]);
        let policy = source_policy(&[Pin { image: "debian:12".parse().unwrap(), digest }]).unwrap();
        let (selector, update) =
            (policy.rules[0].selector.clone().unwrap(), policy.rules[0].updates.clone().unwrap());
        assert_eq!((policy.version, policy.rules.len()), (1, 1));
        assert_eq!(policy.rules[0].action, PolicyAction::Convert as i32);
        assert_eq!(selector.match_type, MatchType::Wildcard as i32);
        assert_eq!(selector.identifier, "docker-image://docker.io/library/debian:12");
        assert_eq!(update.identifier, format!("docker-image://docker.io/library/debian:12@{digest}"));
    }
}
