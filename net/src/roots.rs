//! Clients of registries on machines with and without certificate authorities.
//!
//! The HTTP client refuses to be made where the machine has no CA certificates, even if all it is to speak is plain HTTP.
//! Here it is made all the same; it then trusts one authority that nobody has the key of, which is nobody. TLS is never
//! left unchecked.

use std::error::Error;

use oci_client::Client;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig};
use oci_client::errors::OciDistributionError;
use rustls::RootCertStore;

/// What is wrong where TLS is needed and nobody is trusted, and the remedy.
pub const NO_ROOTS: &str = "this machine has no CA certificates to check its TLS with; install the package \
                            ca-certificates or set SSL_CERT_FILE to a bundle, and restart Archyard here";

/// What a certificate is told that no trusted authority has signed.
const UNTRUSTED: &str = "UnknownIssuer";

/// A client of these settings, whether the machine has CA certificates or not.
///
/// # Errors
/// For settings that the HTTP client does not take, such as a proxy that is no URL.
pub fn registry_client(config: impl Fn() -> ClientConfig) -> Result<Client, OciDistributionError> {
    match Client::try_from(config()) {
        Err(error) if !has_roots() => {
            let Some(nobody) = nobody() else { return Err(error) };
            tracing::debug!("no CA certificates: registries are reached by plain HTTP alone");
            Client::try_from(ClientConfig { tls_certs_only: vec![nobody], ..config() })
        }
        made => made,
    }
}

/// Whether a registry could not be trusted because this machine trusts nobody: say [`NO_ROOTS`].
pub fn is_for_lack_of_roots(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.to_string().contains(UNTRUSTED) {
            return !has_roots();
        }
        next = error.source();
    }
    false
}

/// Whether the machine has any, asked as the HTTP client asks.
fn has_roots() -> bool {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs).0 > 0
}

/// An authority whose key is gone before anybody could use it.
fn nobody() -> Option<Certificate> {
    let mut params = rcgen::CertificateParams::new(Vec::new()).ok()?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let authority = params.self_signed(&rcgen::KeyPair::generate().ok()?).ok()?;
    Some(Certificate { encoding: CertificateEncoding::Der, data: authority.der().to_vec() })
}
