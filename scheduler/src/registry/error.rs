//! Why a registry did not give or take something.

use archyard_model::Reference;
use archyard_net::{NO_ROOTS, TlsFault, is_for_lack_of_roots};
use oci_client::errors::{OciDistributionError, OciErrorCode};

/// A request that failed.
#[derive(Debug, thiserror::Error)]
#[error("{registry}: {detail}")]
pub struct Error {
    /// `host[:port]`.
    pub registry: String,
    /// Who is to blame.
    pub cause: Cause,
    /// What the registry or the network said, in one line.
    pub detail: String,
}

/// Who is to blame for a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No such image, tag or repository.
    NotFound,
    /// The account, or nobody's account, may not.
    Denied,
    /// Nobody answers, or not in time.
    Unreachable,
    /// It answers that it cannot now: 5xx, or too many requests.
    Failing,
    /// This machine has no CA certificates, and the registry speaks TLS.
    NoRoots,
    /// Its TLS certificate is refused here, or it does not speak TLS: trying again changes nothing.
    Tls,
    /// It refuses, or gave what is no manifest: trying again changes nothing.
    Refused,
}

impl Cause {
    /// Whether the same request may succeed later.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Unreachable | Self::Failing)
    }
}

impl Error {
    /// An answer that does not make sense.
    pub(crate) fn refused(image: &Reference, detail: impl Into<String>) -> Self {
        Self { registry: image.registry().to_owned(), cause: Cause::Refused, detail: detail.into() }
    }

    /// A blob that stood still for this many seconds.
    pub(super) fn stalled(image: &Reference, seconds: u64) -> Self {
        let detail = format!("no byte of a blob moved for {seconds} s");
        Self { registry: image.registry().to_owned(), cause: Cause::Unreachable, detail }
    }

    /// A blob that ended before its end.
    pub(super) fn broken(image: &Reference, said: &str) -> Self {
        let detail = format!("a blob broke off: {}", shortened(said));
        Self { registry: image.registry().to_owned(), cause: Cause::Unreachable, detail }
    }

    /// Nobody answered in time.
    pub(super) fn timeout(image: &Reference) -> Self {
        let detail = "no answer in time".to_owned();
        Self { registry: image.registry().to_owned(), cause: Cause::Unreachable, detail }
    }

    pub(super) fn new(image: &Reference, error: &OciDistributionError) -> Self {
        let (cause, detail) = classify(image.registry(), error);
        let detail = detail.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { registry: image.registry().to_owned(), cause, detail }
    }
}

fn classify(host: &str, error: &OciDistributionError) -> (Cause, String) {
    match error {
        _ if is_for_lack_of_roots(error) => (Cause::NoRoots, NO_ROOTS.to_owned()),
        OciDistributionError::RequestError(error) => match (error.status(), TlsFault::of(error)) {
            (Some(status), _) => (of_status(status.as_u16()), format!("HTTP {status}")),
            (None, Some(fault)) => (Cause::Tls, fault.of_registry(host)),
            (None, None) => (Cause::Unreachable, innermost(error)),
        },
        OciDistributionError::UnauthorizedError { .. } => {
            (Cause::Denied, "authentication required".to_owned())
        }
        OciDistributionError::AuthenticationFailure(said) => (of_token_server(said), shortened(said)),
        OciDistributionError::ServerError { code, message, .. } => {
            (of_status(*code), format!("HTTP {code} {}", shortened(message)))
        }
        OciDistributionError::RegistryError { envelope, .. } => {
            let cause = envelope.errors.first().map_or(Cause::Refused, |error| of_code(&error.code));
            let said: Vec<&str> = envelope.errors.iter().map(|error| error.message.as_str()).collect();
            (cause, shortened(&said.join("; ")))
        }
        OciDistributionError::ImageManifestNotFoundError(said) => (Cause::NotFound, shortened(said)),
        other => (Cause::Refused, shortened(&other.to_string())),
    }
}

/// The client does not tell a token server's status. One that denies says why in JSON; one in trouble has a page of
/// its proxy's, and one that is asked too often says so.
fn of_token_server(said: &str) -> Cause {
    let denies = serde_json::from_str::<serde::de::IgnoredAny>(said).is_ok();
    if denies && !said.to_ascii_lowercase().contains("toomanyrequests") {
        Cause::Denied
    } else {
        Cause::Failing
    }
}

fn of_status(code: u16) -> Cause {
    match code {
        401 | 403 => Cause::Denied,
        404 => Cause::NotFound,
        429 | 500..=599 => Cause::Failing,
        _ => Cause::Refused,
    }
}

fn of_code(code: &OciErrorCode) -> Cause {
    match code {
        OciErrorCode::Unauthorized | OciErrorCode::Denied => Cause::Denied,
        OciErrorCode::ManifestUnknown
        | OciErrorCode::NameUnknown
        | OciErrorCode::NotFound
        | OciErrorCode::BlobUnknown => Cause::NotFound,
        OciErrorCode::Toomanyrequests => Cause::Failing,
        _ => Cause::Refused,
    }
}

/// What a stranger's server said, not at any length.
fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    shortened(&cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_server_in_trouble_denies_nothing() {
        assert_eq!(of_token_server(r#"{"details":"incorrect username or password"}"#), Cause::Denied);
        assert_eq!(of_token_server("<html>502 Bad Gateway</html>"), Cause::Failing);
        assert_eq!(of_token_server(r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#), Cause::Failing);
    }

    #[test]
    fn says_who_is_to_blame() {
        let server =
            |code| OciDistributionError::ServerError { code, url: String::new(), message: "x".to_owned() };
        for (code, cause) in [
            (401, Cause::Denied),
            (403, Cause::Denied),
            (404, Cause::NotFound),
            (429, Cause::Failing),
            (503, Cause::Failing),
            (400, Cause::Refused),
        ] {
            let image = "registry.example/a:1".parse().unwrap();
            let error = Error::new(&image, &server(code));
            assert_eq!(error.cause, cause, "{code}");
            assert_eq!(error.registry, "registry.example");
        }
        assert!(
            Cause::Failing.is_passing() && Cause::Unreachable.is_passing() && !Cause::Denied.is_passing()
        );
    }
}
