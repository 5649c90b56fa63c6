//! A client's half of mutual TLS: three files in one folder, checked before anything is dialed with them.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use archyard_model::limits::TLS_FILE_BYTES;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::Error;

/// The farm's CA, and one's own certificate and key, as `archyard cert issue` writes them.
#[derive(Debug, Clone)]
pub struct ClientTls {
    folder: Option<PathBuf>,
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

    /// From PEM texts, which are not checked here.
    pub fn new(ca: String, certificate: String, key: SecretString) -> Self {
        Self { folder: None, ca, certificate, key }
    }

    /// From a folder with `ca.pem`, `cert.pem` and `key.pem`.
    ///
    /// # Errors
    /// Names the file that is missing, is malformed, has expired, or does not belong to the others.
    pub fn from_dir(dir: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = dir.join(name);
            read(&path).map_err(|source| Error::TlsFile { path, source })
        };
        let (ca, certificate) = (read(Self::CA)?, read(Self::CERTIFICATE)?);
        let key = SecretString::from(read(Self::KEY)?);
        let wrong = |name: &str| {
            let path = dir.join(name);
            move |problem: String| Error::TlsContent { path, problem }
        };
        certificates(&ca).map_err(wrong(Self::CA))?;
        let own = certificates(&certificate).map_err(wrong(Self::CERTIFICATE))?;
        check_own(&own[0]).map_err(wrong(Self::CERTIFICATE))?;
        check_key(own, &key).map_err(wrong(Self::KEY))?;
        Ok(Self { folder: Some(dir.to_owned()), ca, certificate, key })
    }

    /// Where it was read from.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    pub(crate) fn config(&self, host: &str) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .identity(Identity::from_pem(&self.certificate, self.key.expose_secret()))
            .domain_name(host)
    }

    /// The error of a set of files that TLS cannot be set up with.
    pub(crate) fn unusable(&self, error: &dyn std::error::Error) -> Error {
        let mut cause = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        let path = self.folder.clone().unwrap_or_default();
        Error::TlsContent { path, problem: cause.to_string() }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(TLS_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > TLS_FILE_BYTES {
        let problem = format!("it has more than {TLS_FILE_BYTES} bytes, which no certificate and no key has");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, problem));
    }
    Ok(text)
}

/// All certificates of a PEM text, at least one.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| format!("it is not PEM: {error}"))?;
    if found.is_empty() {
        return Err("it holds no certificate in PEM".to_owned());
    }
    for certificate in &found {
        X509Certificate::from_der(certificate)
            .map_err(|error| format!("it holds a malformed certificate: {error}"))?;
    }
    Ok(found)
}

/// One's own certificate must be one that a server can take now.
fn check_own(certificate: &CertificateDer<'_>) -> Result<(), String> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    if certificate.is_ca() {
        return Err(
            "it is the certificate of an authority, which servers refuse as a client's own (CaUsedAsEndEntity)".to_owned()
        );
    }
    let (from, until) = (certificate.validity().not_before, certificate.validity().not_after);
    let now = x509_parser::time::ASN1Time::now();
    if now > until {
        return Err(format!("it expired at {until}, or this machine's clock is wrong"));
    }
    if now < from {
        return Err(format!(
            "it is not valid before {from}, so this machine's clock is wrong, or that of the scheduler was"
        ));
    }
    Ok(())
}

fn check_key(certificates: Vec<CertificateDer<'static>>, key: &SecretString) -> Result<(), String> {
    let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
        .map_err(|error| format!("it holds no private key in PEM: {error}"))?;
    let key = any_supported_type(&key).map_err(|error| format!("its key cannot be used: {error}"))?;
    match CertifiedKey::new(certificates, key).keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err("the key does not belong to the certificate in cert.pem".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    struct Files {
        dir: tempfile::TempDir,
    }

    impl Files {
        fn new(change: impl FnOnce(&mut CertificateParams)) -> Self {
            let files = Self { dir: tempfile::tempdir().unwrap() };
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            change(&mut params);
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap().pem();
            files.write(ClientTls::CA, &certificate);
            files.write(ClientTls::CERTIFICATE, &certificate);
            files.write(ClientTls::KEY, &key.serialize_pem());
            files
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.dir.path().join(name), text).unwrap();
        }

        #[track_caller]
        fn refused(&self, parts: &[&str]) {
            let error = ClientTls::from_dir(self.dir.path()).unwrap_err().to_string();
            assert!(error.contains("archyard cert issue"), "{error}");
            for part in parts {
                assert!(error.contains(part), "{part:?} is not in {error}");
            }
        }
    }

    #[test]
    fn what_is_whole_is_taken() {
        ClientTls::from_dir(Files::new(|_| {}).dir.path()).unwrap();
    }

    #[test]
    fn a_missing_file_is_named() {
        let files = Files::new(|_| {});
        for name in [ClientTls::KEY, ClientTls::CERTIFICATE, ClientTls::CA] {
            std::fs::remove_file(files.dir.path().join(name)).unwrap();
            files.refused(&[name, "No such file"]);
        }
    }

    #[test]
    fn a_file_that_is_not_pem_is_named() {
        for (name, text, problem) in [
            (ClientTls::CA, "", "no certificate"),
            (ClientTls::CA, "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", "PEM"),
            (
                ClientTls::CERTIFICATE,
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "malformed",
            ),
            (ClientTls::CERTIFICATE, "hello", "no certificate"),
            (ClientTls::KEY, "hello", "no private key"),
        ] {
            let files = Files::new(|_| {});
            files.write(name, text);
            files.refused(&[name, problem]);
        }
        let files = Files::new(|_| {});
        std::fs::write(files.dir.path().join(ClientTls::KEY), [0xff, 0xfe]).unwrap();
        files.refused(&[ClientTls::KEY]);
    }

    #[test]
    fn a_file_without_end_is_not_read_for_ever() {
        let files = Files::new(|_| {});
        files.write(ClientTls::CA, &"x".repeat(usize::try_from(TLS_FILE_BYTES).unwrap() + 1));
        files.refused(&[ClientTls::CA, "more than"]);
    }

    #[test]
    fn a_key_of_another_certificate_is_named() {
        let files = Files::new(|_| {});
        files.write(ClientTls::KEY, &KeyPair::generate().unwrap().serialize_pem());
        files.refused(&[ClientTls::KEY, "does not belong"]);
    }

    #[test]
    fn a_certificate_out_of_its_time_is_named() {
        let expired = Files::new(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
        expired.refused(&[ClientTls::CERTIFICATE, "expired at", "2001"]);
        let early = Files::new(|params| params.not_before = rcgen::date_time_ymd(3000, 1, 1));
        early.refused(&[ClientTls::CERTIFICATE, "not valid before", "3000"]);
    }

    #[test]
    fn an_authoritys_certificate_in_place_of_ones_own_is_named() {
        let files = Files::new(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        files.refused(&[ClientTls::CERTIFICATE, "CaUsedAsEndEntity"]);
    }

    #[test]
    fn does_not_print_the_key() {
        let tls = ClientTls::new("ca".into(), "cert".into(), "hush".to_owned().into());
        assert!(!format!("{tls:?}").contains("hush"));
    }
}
