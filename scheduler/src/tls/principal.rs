//! Who calls: named by the connection, never by what the message says.

use archyard_model::Principal;
use tonic::Status;
use tonic::transport::CertificateDer;

/// The other end of a connection, as its listener knows it.
#[derive(Debug, Clone)]
pub enum Peer {
    /// Over a Unix socket or plain loopback: whoever may open it is trusted with the farm.
    Local,
    /// Over TLS, with these certificates, its own first.
    Certified(Option<std::sync::Arc<Vec<CertificateDer<'static>>>>),
}

/// The principal at the other end, or why there is none.
pub fn principal(peer: &Peer) -> Result<Principal, Status> {
    match peer {
        Peer::Local => Ok(Principal::local()),
        Peer::Certified(certificates) => certificates
            .as_ref()
            .and_then(|certificates| common_name(certificates.first()?))
            .and_then(|name| name.parse().ok())
            .ok_or_else(|| {
                Status::unauthenticated(
                    "the client certificate has no usable common name; issue one with `archyard cert issue`",
                )
            }),
    }
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate.as_ref()).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::{Authority, Role};
    use super::*;

    #[test]
    fn a_certificate_names_its_principal() {
        let dir = tempfile::tempdir().unwrap();
        let issued = Authority::open(dir.path()).unwrap().issue("alice", Role::Client).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(issued.certificate.as_bytes()).unwrap();
        let peer = Peer::Certified(Some(std::sync::Arc::new(vec![CertificateDer::from(pem.contents)])));
        assert_eq!(principal(&peer).unwrap().as_str(), "alice");
        assert_eq!(principal(&Peer::Local).unwrap(), Principal::local());
        assert_eq!(principal(&Peer::Certified(None)).unwrap_err().code(), tonic::Code::Unauthenticated);
    }
}
