//! Why a connection could not be made.

use std::path::PathBuf;

use crate::Endpoint;

/// What went wrong on the way to a connection, said with its remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers there.
    #[error("no scheduler answers at {endpoint}: {}; start one with `archyard up`, or give the address of a running one", innermost(.source))]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        source: tonic::transport::Error,
    },
    /// Mutual TLS without a certificate of one's own.
    #[error(
        "{endpoint} asks for a client certificate; give the folder that `archyard cert issue` wrote with --tls-dir"
    )]
    NoCertificate {
        /// Where.
        endpoint: Endpoint,
    },
    /// A folder without one of its three files.
    #[error("TLS file {}: {source}; expected ca.pem, cert.pem and key.pem as `archyard cert issue` writes them", .path.display())]
    TlsFile {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// Files that are there and hold no certificate or key.
    #[error("the TLS files for {endpoint} are not usable: {}; write them anew with `archyard cert issue`", innermost(.source))]
    TlsContent {
        /// For which connection.
        endpoint: Endpoint,
        /// What is wrong with them.
        source: tonic::transport::Error,
    },
}

/// The last cause says what happened; those above it say "transport error".
fn innermost(error: &tonic::transport::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
