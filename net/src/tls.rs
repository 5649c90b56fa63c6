//! A client's half of mutual TLS: three files in one folder.

use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::Error;

/// The farm's CA, and one's own certificate and key, as `archyard cert issue` writes them.
#[derive(Debug, Clone)]
pub struct ClientTls {
    ca: String,
    certificate: String,
    key: SecretString,
}

impl ClientTls {
    /// Name of the CA's certificate in a TLS folder.
    pub const CA: &str = "ca.pem";
    /// Name of one's own certificate.
    pub const CERTIFICATE: &str = "cert.pem";
    /// Name of its key.
    pub const KEY: &str = "key.pem";

    /// From PEM texts.
    pub fn new(ca: String, certificate: String, key: SecretString) -> Self {
        Self { ca, certificate, key }
    }

    /// From a folder with `ca.pem`, `cert.pem` and `key.pem`.
    pub fn from_dir(dir: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path).map_err(|source| Error::TlsFile { path, source })
        };
        Ok(Self::new(read(Self::CA)?, read(Self::CERTIFICATE)?, read(Self::KEY)?.into()))
    }

    pub(crate) fn config(&self, host: &str) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .identity(Identity::from_pem(&self.certificate, self.key.expose_secret()))
            .domain_name(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_missing_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(ClientTls::CA), "x").unwrap();
        let error = ClientTls::from_dir(dir.path()).unwrap_err().to_string();
        assert!(error.contains("cert.pem") && error.contains("archyard cert issue"), "{error}");
    }

    #[test]
    fn does_not_print_the_key() {
        let tls = ClientTls::new("ca".into(), "cert".into(), "hush".to_owned().into());
        assert!(!format!("{tls:?}").contains("hush"));
    }
}
