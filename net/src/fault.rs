//! What TLS refuses, in words: found in an error's chain of causes, whichever client made it.

use std::error::Error as StdError;
use std::fmt::Write as _;

use rustls::{AlertDescription, CertificateError, Error as Rustls};

/// How webpki names a CA's certificate that a server or client shows as its own.
const CA_AS_OWN: &str = "CaUsedAsEndEntity";

/// Why a TLS connection was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsFault {
    /// The server's certificate is valid for other names only.
    WrongName {
        /// Those names.
        valid_for: Vec<String>,
    },
    /// No authority that is trusted here signed the server's certificate.
    UnknownAuthority,
    /// The server shows the certificate of an authority as its own.
    AuthorityAsServer,
    /// The server's certificate has expired, by this machine's clock.
    Expired,
    /// The server's certificate is not valid yet, by this machine's clock.
    NotYetValid,
    /// The server's certificate is refused for another reason.
    BadServer(String),
    /// The server refuses the client's certificate.
    ClientRefused(Refused),
    /// The server asks for a client certificate and got none.
    ClientMissing,
    /// The two have no version or cipher of TLS in common.
    NothingInCommon,
    /// The server speaks TLS, but not HTTP/2 within it.
    NoHttp2,
    /// The other end does not speak TLS.
    NoTls,
}

/// Why a server refuses a client's certificate, as far as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It has expired, or is not valid yet, by the server's clock.
    Time,
    /// Another authority signed it.
    Authority,
    /// It is not a certificate for clients.
    Kind,
}

impl std::fmt::Display for TlsFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::WrongName { .. } => "the server's certificate is valid for other names only",
            Self::UnknownAuthority => "an authority that is not trusted here signed the server's certificate",
            Self::AuthorityAsServer => "the server shows the certificate of an authority as its own",
            Self::Expired => "the server's certificate has expired",
            Self::NotYetValid => "the server's certificate is not valid yet",
            Self::BadServer(problem) => return write!(f, "the server's certificate is refused: {problem}"),
            Self::ClientRefused(_) => "the server refuses this client's certificate",
            Self::ClientMissing => "the server asks for a client certificate",
            Self::NothingInCommon => "the server speaks no version of TLS that this program speaks",
            Self::NoHttp2 => "the server does not speak HTTP/2 over TLS",
            Self::NoTls => "the server does not speak TLS",
        })
    }
}

impl TlsFault {
    /// The fault of TLS that made this error. None where TLS is not the cause.
    pub fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(cause) = next {
            if let Some(fault) = cause.downcast_ref::<Rustls>().and_then(of_rustls) {
                return Some(fault);
            }
            // An I/O error hides the error that it was made of from its own chain.
            let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            if let Some(fault) = inner.and_then(|inner| Self::of(inner)) {
                return Some(fault);
            }
            let text = cause.to_string();
            if text.contains("HTTP/2 was not negotiated") {
                return Some(Self::NoHttp2);
            }
            if let Some(fault) = named_alert(&text).and_then(of_alert) {
                return Some(fault);
            }
            next = cause.source();
        }
        None
    }

    /// What is wrong with a registry, and the remedy. Follows the registry's name and a colon.
    pub fn of_registry(&self, host: &str) -> String {
        match self {
            Self::WrongName { valid_for } => format!(
                "its TLS certificate is not valid for {host}{}; name the registry as its certificate does, or give it a \
                 certificate for {host}",
                only_for(valid_for)
            ),
            Self::UnknownAuthority => format!(
                "no authority that this machine trusts signed its TLS certificate; {TRUST}"
            ),
            Self::AuthorityAsServer => format!(
                "its TLS certificate is that of a certificate authority (CaUsedAsEndEntity), as `openssl req -x509` makes it; \
                 give the registry a certificate of its own, with `-addext basicConstraints=critical,CA:FALSE` if it signs \
                 itself, and {TRUST}"
            ),
            Self::Expired => {
                "its TLS certificate has expired; renew it, or set this machine's clock if it is wrong".to_owned()
            }
            Self::NotYetValid => {
                "its TLS certificate is not valid yet; set the clock that is wrong, this machine's or the registry's".to_owned()
            }
            Self::BadServer(problem) => {
                format!("its TLS certificate is refused: {problem}; give the registry another certificate")
            }
            Self::ClientRefused(_) | Self::ClientMissing => {
                "it asks for a TLS client certificate, which Archyard does not send; use a registry that asks for a login".to_owned()
            }
            Self::NothingInCommon => {
                "it speaks no version of TLS that Archyard speaks; let the registry speak TLS 1.2 or 1.3".to_owned()
            }
            Self::NoHttp2 => "it does not speak HTTP/2 over TLS; see the registry's settings".to_owned(),
            Self::NoTls => {
                format!("it does not speak TLS; name it with --insecure-registry {host} if it is to be spoken to without")
            }
        }
    }
}

const TRUST: &str = "add the certificate of its authority to those that this machine trusts (in Debian below \
                     /usr/local/share/ca-certificates, then update-ca-certificates; or SSL_CERT_FILE), and restart Archyard here";

/// The names a certificate is valid for, as the rest of a sentence.
pub(crate) fn only_for(names: &[String]) -> String {
    let mut text = String::new();
    for (index, name) in names.iter().take(8).enumerate() {
        let before = if index == 0 { ", only for " } else { ", " };
        // rustls writes names as DnsName("x") and IpAddress(x).
        let name = name.split_once('(').map_or(name.as_str(), |(_, inner)| inner.trim_end_matches(')'));
        // Writing to a string does not fail.
        write!(text, "{before}{}", name.trim_matches('"')).unwrap_or_default();
    }
    text
}

fn of_rustls(error: &Rustls) -> Option<TlsFault> {
    Some(match error {
        Rustls::InvalidCertificate(error) => of_server(error),
        Rustls::AlertReceived(alert) => of_alert(*alert)?,
        Rustls::InvalidMessage(_) => TlsFault::NoTls,
        Rustls::PeerIncompatible(_) => TlsFault::NothingInCommon,
        _ => return None,
    })
}

fn of_server(error: &CertificateError) -> TlsFault {
    match error {
        CertificateError::NotValidForName => TlsFault::WrongName { valid_for: Vec::new() },
        CertificateError::NotValidForNameContext { presented, .. } => {
            TlsFault::WrongName { valid_for: presented.clone() }
        }
        // Two authorities of one name differ in their keys only.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFault::UnknownAuthority,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFault::NotYetValid,
        other if other.to_string().contains(CA_AS_OWN) || format!("{other:?}").contains(CA_AS_OWN) => {
            TlsFault::AuthorityAsServer
        }
        other => TlsFault::BadServer(other.to_string()),
    }
}

/// The alert that an error names. The HTTP/2 client keeps an I/O error's text, and not the error.
fn named_alert(text: &str) -> Option<AlertDescription> {
    let (_, name) = text.rsplit_once("received fatal alert: ")?;
    let name = name.split(|c: char| !c.is_alphanumeric()).next()?;
    ALERTS.into_iter().find(|alert| format!("{alert:?}") == name)
}

/// Those that say why TLS was refused.
const ALERTS: [AlertDescription; 12] = [
    AlertDescription::CertificateExpired,
    AlertDescription::UnknownCA,
    AlertDescription::DecryptError,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateUnknown,
    AlertDescription::AccessDenied,
    AlertDescription::CertificateRequired,
    AlertDescription::ProtocolVersion,
    AlertDescription::HandshakeFailure,
    AlertDescription::NoApplicationProtocol,
];

fn of_alert(alert: AlertDescription) -> Option<TlsFault> {
    Some(match alert {
        AlertDescription::CertificateExpired => TlsFault::ClientRefused(Refused::Time),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            TlsFault::ClientRefused(Refused::Authority)
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => TlsFault::ClientRefused(Refused::Kind),
        AlertDescription::CertificateRequired => TlsFault::ClientMissing,
        AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure => TlsFault::NothingInCommon,
        AlertDescription::NoApplicationProtocol => TlsFault::NoHttp2,
        _ => return None,
    })
}
