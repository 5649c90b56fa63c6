//! Registries on machines without certificate authorities.
//!
//! The HTTP client refuses to be made where the machine has no CA certificates, even if all it is to speak is plain HTTP,
//! and the registry client panics over it. So a role that speaks to registries starts itself anew there, once, with a
//! bundle of its own: one authority that nobody has the key of, which trusts nobody. TLS is never left unchecked.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::fs::{MemfdFlags, memfd_create};
use rustls::RootCertStore;

/// What is wrong where TLS is needed and nobody is trusted, and the remedy.
pub const NO_ROOTS: &str = "this machine has no CA certificates to check its TLS with; install the package \
                            ca-certificates or set SSL_CERT_FILE to a bundle, and restart Archyard here";

/// Set for a process that was started anew, and what it starts.
const MARK: &str = "ARCHYARD_TRUSTS_NOBODY";
/// Where the HTTP client looks for a bundle.
const BUNDLE: &str = "SSL_CERT_FILE";
/// How every certificate is refused by who trusts nobody.
const UNTRUSTED: &str = "invalid peer certificate";

/// Makes sure that clients of registries can be made: where the machine has no CA certificates, the program starts anew
/// under the same process id, and this never returns. For the beginning of a role, before anything runs.
///
/// # Errors
/// When it cannot start anew.
pub fn ensure_roots() -> io::Result<()> {
    if std::env::var_os(MARK).is_some() || has_roots() {
        return Ok(());
    }
    // No file that anybody else could write. It stays open for what this process becomes and starts.
    let mut bundle = File::from(memfd_create("archyard-trusts-nobody", MemfdFlags::empty())?);
    bundle.write_all(nobody().map_err(io::Error::other)?.as_bytes())?;
    let path = format!("/proc/self/fd/{}", bundle.as_raw_fd());
    let mut anew = Command::new(std::env::current_exe()?);
    Err(anew.args(std::env::args_os().skip(1)).env(MARK, "1").env(BUNDLE, path).exec())
}

/// Whether a registry could not be trusted because this machine trusts nobody: say [`NO_ROOTS`].
pub fn is_for_lack_of_roots(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.to_string().contains(UNTRUSTED) {
            return std::env::var_os(MARK).is_some();
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

/// An authority whose key is gone before anybody could use it, as PEM.
fn nobody() -> Result<String, rcgen::Error> {
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    Ok(params.self_signed(&rcgen::KeyPair::generate()?)?.pem())
}
