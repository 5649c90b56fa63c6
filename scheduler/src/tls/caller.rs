//! Who calls, and as what: named by the connection, never by what the message says.

use archyard_model::Principal;
use tonic::Status;
use tonic::transport::CertificateDer;

use super::Role;

/// The other end of a connection, as its listener knows it.
#[derive(Debug, Clone)]
pub enum Peer {
    /// Over a Unix socket or plain loopback: whoever may open it is trusted with the farm.
    Local,
    /// Over TLS, with these certificates, its own first.
    Certified(Option<std::sync::Arc<Vec<CertificateDer<'static>>>>),
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Everything: a caller on this machine.
    All,
    /// What its certificate's role may do.
    Of(Role),
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its name.
    pub principal: Principal,
    /// What it may do.
    pub rights: Rights,
}

/// The caller at the other end, or why there is none.
pub fn caller(peer: &Peer) -> Result<Caller, Status> {
    let certificates = match peer {
        Peer::Local => return Ok(Caller { principal: Principal::local(), rights: Rights::All }),
        Peer::Certified(certificates) => certificates,
    };
    let own = certificates.as_ref().and_then(|certificates| certificates.first());
    let (name, units) = own.and_then(subject).ok_or_else(unnamed)?;
    let principal: Principal = name.parse().map_err(|_| unnamed())?;
    match units.as_slice() {
        [unit] => match Role::named(unit) {
            Some(role) => Ok(Caller { principal, rights: Rights::Of(role) }),
            None => Err(Status::permission_denied(format!(
                "the certificate of {principal:?} names the role {unit:?}, which this scheduler does not know; upgrade the \
                 scheduler, or {}",
                reissue(&principal)
            ))),
        },
        [] => Err(Status::permission_denied(format!(
            "the certificate of {principal:?} names no role; {}",
            reissue(&principal)
        ))),
        _ => Err(Status::permission_denied(format!(
            "the certificate of {principal:?} names several roles, and it must name one; {}",
            reissue(&principal)
        ))),
    }
}

fn reissue(principal: &Principal) -> String {
    format!(
        "issue a new certificate on the scheduler's machine: `archyard cert issue --role client|worker {principal} --out DIR`"
    )
}

fn unnamed() -> Status {
    Status::unauthenticated(
        "the client certificate has no usable common name; issue a new one on the scheduler's machine with `archyard cert \
         issue`",
    )
}

/// Common name and organizational units of a certificate's subject.
fn subject(certificate: &CertificateDer<'_>) -> Option<(String, Vec<String>)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate.as_ref()).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    // A unit that is no text is a role that is not known.
    let units =
        subject.iter_organizational_unit().map(|unit| unit.as_str().unwrap_or("?").to_owned()).collect();
    Some((name, units))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::DnType;

    use super::super::Authority;
    use super::*;

    fn peer(pem: &str) -> Peer {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        Peer::Certified(Some(std::sync::Arc::new(vec![CertificateDer::from(pem.contents)])))
    }

    fn issued(dir: &Path, name: &str, role: Role) -> Peer {
        peer(&Authority::open(dir).unwrap().issue(name, role).unwrap().certificate)
    }

    /// A certificate of this name with these units. Who signed it does not matter here.
    fn with_units(name: &str, units: &[&str]) -> Peer {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        // rcgen keeps one value per type, so a second unit has a type of its own with the same number.
        let oid = vec![2, 5, 4, 11];
        let types = [DnType::OrganizationalUnitName, DnType::CustomDnType(oid)];
        for (kind, unit) in types.into_iter().zip(units) {
            params.distinguished_name.push(kind, *unit);
        }
        peer(&params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem())
    }

    #[test]
    fn a_certificate_names_its_principal_and_role() {
        let dir = tempfile::tempdir().unwrap();
        let alice = caller(&issued(dir.path(), "alice", Role::Client)).unwrap();
        assert_eq!((alice.principal.as_str(), alice.rights), ("alice", Rights::Of(Role::Client)));
        let worker = caller(&issued(dir.path(), "arm-1", Role::Worker)).unwrap();
        assert_eq!((worker.principal.as_str(), worker.rights), ("arm-1", Rights::Of(Role::Worker)));
        let local = caller(&Peer::Local).unwrap();
        assert_eq!((local.principal, local.rights), (Principal::local(), Rights::All));
        assert_eq!(caller(&Peer::Certified(None)).unwrap_err().code(), tonic::Code::Unauthenticated);
    }

    #[test]
    fn a_certificate_without_exactly_one_known_role_is_refused_with_the_remedy() {
        for (units, problem) in [
            (&[][..], "names no role"),
            (&["root"], "role \"root\""),
            (&["client", "worker"], "several roles"),
        ] {
            let refused = caller(&with_units("alice", units)).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{units:?}: {refused:?}");
            let message = refused.message();
            assert!(message.contains("alice") && message.contains(problem), "{units:?}: {message}");
            assert!(message.contains("archyard cert issue --role"), "{units:?}: {message}");
        }
    }
}
