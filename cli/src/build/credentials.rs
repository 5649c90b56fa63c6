//! What this user may do at registries, as `docker login` left it.
//!
//! Only registries that a build names are looked up, and each once. Passwords live in memory, are never printed, and
//! go nowhere but to the farm that builds.

use std::cell::RefCell;
use std::collections::BTreeMap;

use archyard_proto::v1::RegistryCredential;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use secrecy::{ExposeSecret as _, SecretString};

use super::docker;

/// What Docker calls its own registry in its files.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The user's `config.json`, and what was found through it.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    config: Option<Vec<u8>>,
    logins: RefCell<BTreeMap<String, Option<Login>>>,
    warnings: RefCell<Vec<String>>,
}

/// A credential of one registry.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    host: String,
    username: String,
    password: SecretString,
    identity_token: SecretString,
}

impl Keyring {
    /// Reads it. None there: no credentials.
    pub(crate) fn open() -> Self {
        Self { config: docker::config(), ..Self::default() }
    }

    /// The file itself.
    pub(crate) fn config(&self) -> Option<&[u8]> {
        self.config.as_deref()
    }

    /// Whether there is a credential for this registry; may run a credential helper.
    pub(crate) fn has(&self, host: &str) -> bool {
        let known = self.logins.borrow().get(host).map(Option::is_some);
        known.unwrap_or_else(|| {
            let login = self.look_up(host);
            let found = login.is_some();
            self.logins.borrow_mut().insert(host.to_owned(), login);
            found
        })
    }

    /// The credentials for these registries, of those that were found, and what went wrong on the way.
    pub(crate) fn into_logins(self, hosts: &[String]) -> (Vec<Login>, Vec<String>) {
        let mut logins = self.logins.into_inner();
        let found = hosts.iter().filter_map(|host| logins.remove(host).flatten()).collect();
        (found, self.warnings.into_inner())
    }

    fn look_up(&self, host: &str) -> Option<Login> {
        let config = self.config.as_deref()?;
        let server = if host == "docker.io" { DOCKER_HUB } else { host };
        match docker_credential::get_credential_from_reader(config, server) {
            Ok(credential) => Some(Login::new(host, credential)),
            Err(CredentialRetrievalError::NoCredentialConfigured) => None,
            Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
                if says_none(&stdout, &stderr) =>
            {
                None
            }
            Err(error) => {
                let line = error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ");
                let remedy = "going on without; see ~/.docker/config.json or run docker login";
                self.warnings.borrow_mut().push(format!("warning: credentials for {host}: {line}; {remedy}"));
                None
            }
        }
    }
}

/// How credential helpers say that they know nothing of a registry.
fn says_none(stdout: &str, stderr: &str) -> bool {
    [stdout, stderr].iter().any(|said| said.contains("credentials not found"))
}

impl Login {
    fn new(host: &str, credential: DockerCredential) -> Self {
        let (username, password, identity_token) = match credential {
            DockerCredential::IdentityToken(token) => (String::new(), String::new(), token),
            DockerCredential::UsernamePassword(username, password) => (username, password, String::new()),
        };
        Self {
            host: host.to_owned(),
            username,
            password: password.into(),
            identity_token: identity_token.into(),
        }
    }

    /// As it travels.
    pub(crate) fn message(&self) -> RegistryCredential {
        RegistryCredential {
            host: self.host.clone(),
            username: self.username.clone(),
            password: self.password.expose_secret().to_owned(),
            identity_token: self.identity_token.expose_secret().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(config: &str) -> Keyring {
        Keyring { config: Some(config.into()), ..Keyring::default() }
    }

    #[test]
    fn only_what_is_asked_for_and_found_travels() {
        // "user:hush", and "hub:token" for Docker's own registry.
        let keyring = keyring(
            r#"{"auths":{"r.example:5000":{"auth":"dXNlcjpodXNo"},"https://index.docker.io/v1/":{"auth":"aHViOnRva2Vu"}}}"#,
        );
        assert!(keyring.has("r.example:5000") && keyring.has("r.example:5000") && keyring.has("docker.io"));
        assert!(!keyring.has("other.example"));
        assert!(!format!("{keyring:?}").contains("\"hush\""));
        let hosts = ["docker.io".to_owned(), "r.example:5000".to_owned(), "other.example".to_owned()];
        let (logins, warnings) = keyring.into_logins(&hosts);
        let messages: Vec<_> = logins.iter().map(Login::message).collect();
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].host.as_str(), messages[0].username.as_str()), ("docker.io", "hub"));
        assert_eq!((messages[1].username.as_str(), messages[1].password.as_str()), ("user", "hush"));
        assert!(warnings.is_empty(), "{warnings:?}");
        assert!(!format!("{logins:?}").contains("hush"));
    }

    #[test]
    fn a_broken_helper_is_a_warning() {
        let keyring = keyring(r#"{"credHelpers":{"r.example":"archyard-has-no-such-helper"}}"#);
        assert!(!keyring.has("r.example"));
        let (logins, warnings) = keyring.into_logins(&["r.example".to_owned()]);
        assert!(logins.is_empty());
        assert!(warnings[0].contains("r.example") && warnings[0].contains("docker login"), "{warnings:?}");
    }

    #[test]
    fn helpers_that_know_nothing_are_no_news() {
        assert!(says_none("credentials not found in native keychain\n", ""));
        assert!(!says_none("", "panic"));
        assert!(!Keyring::default().has("r.example"));
    }
}
