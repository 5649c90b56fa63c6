//! Whether trying again may help: the one place that says so, for the command line, the agent and the runner.

use std::error::Error as StdError;

use tonic::{Code, Status};

use crate::{Error, TlsFault};

/// What becomes of a call or a connection that failed when it is tried again unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// It fails again until somebody changes something: a file, a certificate, a role, a version.
    Permanent,
    /// The other end is away, or the connection broke.
    Transient,
    /// The other end failed on this call. A daemon may try again; a person decides for themselves.
    Unclear,
}

/// The outlook of an error of this crate, of a call's status, or of anything that one of the two caused.
pub fn outlook(error: &(dyn StdError + 'static)) -> Outlook {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<Error>() {
            return of_connection(error);
        }
        if let Some(status) = cause.downcast_ref::<Status>() {
            return of_status(status);
        }
        next = cause.source();
    }
    if TlsFault::of(error).is_some() { Outlook::Permanent } else { Outlook::Unclear }
}

fn of_connection(error: &Error) -> Outlook {
    match error {
        Error::Unreachable { .. } => Outlook::Transient,
        _ => Outlook::Permanent,
    }
}

fn of_status(status: &Status) -> Outlook {
    if TlsFault::of(status).is_some() {
        return Outlook::Permanent;
    }
    match status.code() {
        Code::Unavailable => Outlook::Transient,
        // A connection that breaks in mid-answer surfaces as one of these, with its transport error as the source.
        Code::Unknown | Code::Internal | Code::Cancelled if status.source().is_some() => Outlook::Transient,
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::Unimplemented
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::NotFound
        | Code::AlreadyExists
        | Code::OutOfRange => Outlook::Permanent,
        _ => Outlook::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use rustls::{AlertDescription, CertificateError};

    use super::*;
    use crate::Endpoint;

    #[test]
    fn each_kind_of_failure_has_its_outlook() {
        let endpoint: Endpoint = "https://farm.example:7420".parse().unwrap();
        let path = PathBuf::from("/etc/archyard/tls/key.pem");
        let missing = Error::TlsFile { path, source: io::ErrorKind::NotFound.into() };
        let expired = Error::Tls { endpoint: endpoint.clone(), folder: None, fault: TlsFault::Expired };
        let away = Error::Unreachable { endpoint, reason: "connection refused".to_owned() };
        for (error, want) in
            [(missing, Outlook::Permanent), (expired, Outlook::Permanent), (away, Outlook::Transient)]
        {
            assert_eq!(outlook(&error), want, "{error}");
        }
        let broken = Status::from_error(Box::new(io::Error::from(io::ErrorKind::BrokenPipe)));
        for (status, want) in [
            (Status::unavailable("restarting"), Outlook::Transient),
            (broken, Outlook::Transient),
            (Status::internal("a defect"), Outlook::Unclear),
            (Status::resource_exhausted("disk"), Outlook::Unclear),
            (Status::aborted("taken over"), Outlook::Unclear),
            (Status::permission_denied("role"), Outlook::Permanent),
            (Status::unauthenticated("no name"), Outlook::Permanent),
            (Status::failed_precondition("protocol"), Outlook::Permanent),
            (Status::unimplemented("rpc"), Outlook::Permanent),
        ] {
            assert_eq!(outlook(&status), want, "{status:?}");
        }
    }

    #[test]
    fn a_certificate_that_is_refused_on_an_open_channel_is_permanent() {
        for cause in [
            rustls::Error::AlertReceived(AlertDescription::UnknownCA),
            rustls::Error::InvalidCertificate(CertificateError::Expired),
        ] {
            let broken = io::Error::new(io::ErrorKind::InvalidData, cause);
            let status = Status::from_error(Box::new(broken));
            assert_eq!(outlook(&status), Outlook::Permanent, "{status:?}");
        }
    }
}
