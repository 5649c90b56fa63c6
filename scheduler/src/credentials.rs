//! The registry credentials that clients supply with their builds.
//!
//! In memory only, kept from a submission to the build's end, and wiped when dropped: never journaled, never logged,
//! handed out only to a worker's lease and to this scheduler's own registry clients.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use archyard_model::{BuildId, Invalid, Plan, Principal, RequestId, limits};
use archyard_proto::v1 as proto;
use secrecy::{ExposeSecret as _, SecretString};

/// A credential's longest text, in bytes: the tokens of cloud registries have some kibibytes.
const TEXT_BYTES: usize = 64 * 1024;

/// One registry's credential.
#[derive(Clone)]
pub struct Credential {
    /// The account.
    pub username: String,
    /// Its password; empty where there is an identity token.
    pub password: SecretString,
    /// Instead of a password.
    pub identity_token: SecretString,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// One build's credentials, by registry as `host[:port]`.
#[derive(Debug, Clone, Default)]
pub struct Set(BTreeMap<String, Credential>);

impl Set {
    /// The credentials of a message, each registry at most once.
    pub fn from_proto(messages: Vec<proto::RegistryCredential>) -> Result<Self, Invalid> {
        if messages.len() > limits::PLAN_REGISTRIES {
            return Err(Invalid::new(
                "credentials",
                messages.len(),
                format!("there may be at most {}", limits::PLAN_REGISTRIES),
            ));
        }
        let mut set = BTreeMap::new();
        for message in messages {
            let texts = [&message.host, &message.username, &message.password, &message.identity_token];
            if message.host.is_empty() || texts.iter().any(|text| text.len() > TEXT_BYTES) {
                return Err(Invalid::new(
                    "credentials.host",
                    message.host,
                    format!("a credential has a host, and at most {TEXT_BYTES} bytes a field"),
                ));
            }
            let credential = Credential {
                username: message.username,
                password: message.password.into(),
                identity_token: message.identity_token.into(),
            };
            set.insert(message.host, credential);
        }
        Ok(Self(set))
    }

    /// For a worker's lease.
    pub fn to_proto(&self) -> Vec<proto::RegistryCredential> {
        self.0
            .iter()
            .map(|(host, credential)| proto::RegistryCredential {
                host: host.clone(),
                username: credential.username.clone(),
                password: credential.password.expose_secret().to_owned(),
                identity_token: credential.identity_token.expose_secret().to_owned(),
            })
            .collect()
    }

    /// One registry's.
    pub fn get(&self, host: &str) -> Option<&Credential> {
        self.0.get(host)
    }

    /// The first registry whose credential a plan needs and this set lacks.
    pub fn lacks<'p>(&self, plan: &'p Plan) -> Option<&'p str> {
        plan.credential_hosts.iter().find(|host| !self.0.contains_key(*host)).map(String::as_str)
    }
}

/// Every build's credentials.
#[derive(Debug, Default)]
pub struct Credentials {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    builds: HashMap<BuildId, Arc<Set>>,
    /// Of submissions that the driver has not answered yet.
    submitted: HashMap<(Principal, RequestId), Arc<Set>>,
}

impl Credentials {
    /// Keeps a submission's credentials until [`bind`](Self::bind) names the build it became.
    pub fn stage(&self, principal: &Principal, request: &RequestId, set: Set) {
        self.lock().submitted.insert((principal.clone(), request.clone()), Arc::new(set));
    }

    /// The submission became this build. May come twice: from the submission's answer, and from the build's first
    /// effect, whichever is earlier.
    pub fn bind(&self, principal: &Principal, request: &RequestId, build: BuildId) {
        let mut held = self.lock();
        if let Some(set) = held.submitted.remove(&(principal.clone(), request.clone())) {
            held.builds.insert(build, set);
        }
    }

    /// The submission became nothing.
    pub fn unstage(&self, principal: &Principal, request: &RequestId) {
        self.lock().submitted.remove(&(principal.clone(), request.clone()));
    }

    /// Replaces a build's credentials.
    pub fn put(&self, build: BuildId, set: Set) {
        self.lock().builds.insert(build, Arc::new(set));
    }

    /// A build's credentials; an empty set if it has none.
    pub fn of(&self, build: BuildId) -> Arc<Set> {
        self.lock().builds.get(&build).cloned().unwrap_or_default()
    }

    /// The build has ended.
    pub fn forget(&self, build: BuildId) {
        self.lock().builds.remove(&build);
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(host: &str) -> Set {
        Set::from_proto(vec![proto::RegistryCredential {
            host: host.to_owned(),
            username: "me".to_owned(),
            password: "hush".to_owned(),
            identity_token: String::new(),
        }])
        .unwrap()
    }

    #[test]
    fn follow_a_submission_to_its_build_and_end_with_it() {
        let credentials = Credentials::default();
        let (principal, request, build) =
            (Principal::local(), "r1".parse().unwrap(), BuildId::from_parts(1, 1));
        credentials.stage(&principal, &request, set("a.example"));
        credentials.bind(&principal, &request, build);
        credentials.bind(&principal, &request, build);
        assert!(credentials.of(build).get("a.example").is_some());
        assert_eq!(credentials.of(build).to_proto()[0].password, "hush");
        credentials.forget(build);
        assert!(credentials.of(build).get("a.example").is_none());
    }

    #[test]
    fn say_what_a_plan_lacks_and_never_print() {
        let mut plan = crate::testing::plan();
        plan.credential_hosts = vec!["a.example".to_owned(), "b.example".to_owned()];
        assert_eq!(set("a.example").lacks(&plan), Some("b.example"));
        assert!(!format!("{:?}", set("a.example")).contains("hush"));
    }

    #[test]
    fn refuse_what_is_past_the_limits() {
        let nameless = vec![proto::RegistryCredential::default()];
        assert_eq!(Set::from_proto(nameless).unwrap_err().field, "credentials.host");
        let many = vec![proto::RegistryCredential::default(); limits::PLAN_REGISTRIES + 1];
        assert_eq!(Set::from_proto(many).unwrap_err().field, "credentials");
    }
}
