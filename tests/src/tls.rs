//! Servers whose certificates are refused.

use std::io::Read as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustls::pki_types::PrivateKeyDer;

/// Shakes hands with every client, with a certificate that no authority has signed, and says nothing after it. Ends with
/// the process.
pub fn serve(listener: TcpListener, name: &str) -> JoinHandle<()> {
    serve_as(listener, &self_signed(name, |_| {}))
}

/// A certificate that signs itself, and its key.
#[derive(Debug)]
pub struct Own {
    pub certificate: rcgen::Certificate,
    pub key: rcgen::KeyPair,
}

/// One for this name.
pub fn self_signed(name: &str, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Own {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    change(&mut params);
    let key = rcgen::KeyPair::generate().unwrap();
    Own { certificate: params.self_signed(&key).unwrap(), key }
}

/// The same with this certificate.
pub fn serve_as(listener: TcpListener, own: &Own) -> JoinHandle<()> {
    let key = PrivateKeyDer::try_from(own.key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.certificate.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            // One that hangs up on such a certificate is what this is for.
            drop(rustls::StreamOwned::new(connection, stream).read(&mut [0; 1024]));
        }
    })
}
