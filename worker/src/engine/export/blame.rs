//! What went wrong on the way out of the Engine, and who is to blame.

use std::io;

use archyard_model::{Failure, FailureClass};
use archyard_net::{NO_ROOTS, TlsFault, is_for_lack_of_roots};
use oci_client::errors::{OciDistributionError, OciErrorCode};

use crate::engine::PushError;

/// An Engine that was asked for an image it does not have.
const NO_SUCH_IMAGE: &[&str] = &["No such image", "no such image", "failed to get digest"];

/// Why a push ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the worker's layer cache failed: {0}")]
    Cache(#[from] io::Error),
    #[error("the Engine stopped sending the image: {0}")]
    Engine(String),
    #[error("the image is gone from the Engine, removed by another build of the same content? ({0})")]
    Gone(String),
    #[error("the Engine's archive of the image cannot be used: {0}")]
    Archive(String),
    #[error("repository {0:?} is no HOST/NAME: {1}")]
    Repository(String, String),
    #[error("registry of {0} did not move for {1} seconds")]
    Stalled(String, u64),
    #[error("registry of {0}: {1}")]
    Registry(String, #[source] Box<OciDistributionError>),
}

impl Error {
    /// An error from reading the archive: the disk's, if it says so, else the Engine's.
    pub(super) fn read(error: io::Error) -> Self {
        let text = error.to_string();
        if is_full(&error) {
            Self::Cache(error)
        } else if NO_SUCH_IMAGE.iter().any(|words| text.contains(words)) {
            Self::Gone(text)
        } else {
            Self::Engine(text)
        }
    }

    /// An error from reading what an archive's entry holds: the entry's, unless the archive itself ended.
    pub(super) fn inside(error: io::Error, is_cut: bool) -> Self {
        match Self::read(error) {
            Self::Engine(text) if !is_cut => Self::Archive(format!("a layer cannot be read: {text}")),
            other => other,
        }
    }

    /// An error of a registry about a repository, `host/name`.
    pub(super) fn registry(repository: &str, error: OciDistributionError) -> Self {
        Self::Registry(repository.to_owned(), Box::new(error))
    }

    /// Whether a registry may well answer otherwise in a moment: it is overloaded, or somebody else was just
    /// sending it the same layer.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Registry(_, error) => {
                let may_pass = matches!(status_of(error), None | Some(408 | 429 | 500..)) || lost_blob(error);
                may_pass && !is_for_lack_of_roots(error) && TlsFault::of(error.as_ref()).is_none()
            }
            _ => false,
        }
    }

    /// In the caller's words.
    pub(super) fn blame(&self) -> PushError {
        let text = self.to_string();
        match self {
            Self::Cache(error) if is_full(error) => {
                infrastructure("disk_full", format!("the worker's disk is full: {error}"))
            }
            Self::Cache(_) => infrastructure("layer_cache_failed", text),
            Self::Engine(_) => infrastructure("engine_lost", text),
            Self::Gone(_) => infrastructure("image_gone", text),
            Self::Archive(_) => infrastructure("engine_failed", text),
            Self::Repository(..) => user("repository_invalid", text),
            Self::Stalled(..) => infrastructure("registry_unreachable", text),
            Self::Registry(repository, error) => blame_registry(repository, error),
        }
    }
}

/// Whether a registry only says that it does not have something.
pub(super) fn is_missing(error: &OciDistributionError) -> bool {
    matches!(error, OciDistributionError::ImageManifestNotFoundError(_)) || status_of(error) == Some(404)
}

fn blame_registry(repository: &str, error: &OciDistributionError) -> PushError {
    let host = repository.split('/').next().unwrap_or(repository);
    if is_for_lack_of_roots(error) {
        let message = format!("cannot push to {repository}: {NO_ROOTS}");
        return infrastructure("no_ca_certificates", message);
    }
    if let Some(fault) = TlsFault::of(error) {
        let message = format!("cannot push to {repository}: {host}: {}", fault.of_registry(host));
        return infrastructure("registry_tls", message);
    }
    let words = words_of(error);
    if lost_blob(error) {
        let message = format!("registry {host} lost a layer while {repository} was pushed: {words}");
        return infrastructure("registry_failed", message);
    }
    match status_of(error) {
        Some(401 | 403) => user(
            "registry_denied",
            format!("registry denied push to {repository}: {words}; run docker login {host}"),
        ),
        Some(code @ (408 | 429 | 500..)) => infrastructure(
            "registry_failed",
            format!("registry {host} answered {code} while {repository} was pushed: {words}"),
        ),
        Some(code) => user(
            "registry_refused",
            format!("registry {host} refused {repository} with {code}: {words}; check the repository's name"),
        ),
        None => infrastructure("registry_unreachable", format!("cannot push to {repository}: {words}")),
    }
}

/// Whether a registry does not know what it was just sent. It happens where two push the same layer at once:
/// the second takes the first's place, and for a moment there is none.
fn lost_blob(error: &OciDistributionError) -> bool {
    let codes = ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "BLOB_UPLOAD_UNKNOWN"];
    match error {
        OciDistributionError::ServerError { message, .. } => codes.iter().any(|code| message.contains(code)),
        _ => false,
    }
}

/// The HTTP status behind an error, as far as it is told.
fn status_of(error: &OciDistributionError) -> Option<u16> {
    match error {
        OciDistributionError::ServerError { code, .. } => Some(*code),
        OciDistributionError::UnauthorizedError { .. } => Some(401),
        // The token service's own status is not told; its words are.
        OciDistributionError::AuthenticationFailure(words) => Some(if says_down(words) { 503 } else { 401 }),
        OciDistributionError::RequestError(error) => error.status().map(|status| status.as_u16()),
        OciDistributionError::RegistryError { envelope, .. } => {
            Some(envelope.errors.first().map_or(400, |error| match error.code {
                OciErrorCode::Unauthorized => 401,
                OciErrorCode::Denied => 403,
                OciErrorCode::Toomanyrequests => 429,
                OciErrorCode::NameUnknown
                | OciErrorCode::NotFound
                | OciErrorCode::BlobUnknown
                | OciErrorCode::ManifestUnknown => 404,
                _ => 400,
            }))
        }
        _ => None,
    }
}

fn says_down(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    ["internal server error", "bad gateway", "service unavailable", "gateway timeout", "try again"]
        .iter()
        .any(|down| words.contains(down))
}

/// What the error says at its root, in one line: an HTTP library's outermost words name only the URL.
fn words_of(error: &OciDistributionError) -> String {
    let text = match error {
        OciDistributionError::ServerError { message, .. } => message.clone(),
        OciDistributionError::RegistryError { envelope, .. } => {
            envelope.errors.first().map_or_else(String::new, |error| error.message.clone())
        }
        OciDistributionError::AuthenticationFailure(words) => words.clone(),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                let words = cause.to_string();
                if !text.contains(&words) {
                    text = format!("{text}: {words}");
                }
                source = cause.source();
            }
            text
        }
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() { "no reason given".to_owned() } else { line.chars().take(1024).collect() }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn user(code: &str, message: String) -> PushError {
    PushError::User(Failure::new(FailureClass::User, code, message))
}

fn infrastructure(code: &str, message: String) -> PushError {
    PushError::Infrastructure(Failure::new(FailureClass::Infrastructure, code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16, message: &str) -> OciDistributionError {
        OciDistributionError::ServerError {
            code,
            url: "http://r/v2/".to_owned(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn blames_the_user_for_what_the_registry_refuses_and_nobody_for_what_it_cannot_do() {
        for (error, class, code) in [
            (server(401, "no"), FailureClass::User, "registry_denied"),
            (server(403, "no"), FailureClass::User, "registry_denied"),
            (server(400, "name"), FailureClass::User, "registry_refused"),
            (server(429, "slow down"), FailureClass::Infrastructure, "registry_failed"),
            (server(503, ""), FailureClass::Infrastructure, "registry_failed"),
            (server(400, "MANIFEST_BLOB_UNKNOWN"), FailureClass::Infrastructure, "registry_failed"),
            (
                OciDistributionError::AuthenticationFailure("Bad Gateway".to_owned()),
                FailureClass::Infrastructure,
                "registry_failed",
            ),
            (
                OciDistributionError::AuthenticationFailure("wrong password".to_owned()),
                FailureClass::User,
                "registry_denied",
            ),
            (
                OciDistributionError::GenericError(Some("reset".to_owned())),
                FailureClass::Infrastructure,
                "registry_unreachable",
            ),
        ] {
            let failure = Error::registry("r.example/a/b", error).blame().into_failure();
            assert_eq!((failure.class, failure.code.as_str()), (class, code), "{failure}");
            assert!(
                failure.message.contains("r.example/a/b") && !failure.message.contains('\n'),
                "{failure}"
            );
        }
    }

    #[test]
    fn a_denial_names_the_remedy() {
        let failure = Error::registry("r.example/a", server(403, "denied\n")).blame().into_failure();
        assert_eq!(
            failure.message,
            "registry denied push to r.example/a: denied; run docker login r.example"
        );
    }

    #[test]
    fn a_full_disk_is_told_from_a_lost_engine() {
        let full = Error::read(io::Error::from(io::ErrorKind::StorageFull)).blame().into_failure();
        let lost = Error::read(io::Error::from(io::ErrorKind::UnexpectedEof)).blame().into_failure();
        assert_eq!((full.code.as_str(), lost.code.as_str()), ("disk_full", "engine_lost"));
    }
}
