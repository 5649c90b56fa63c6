//! The CA in `tls/` of the data folder: made on the first start, and used to issue certificates ever after.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use archyard_model::{Invalid, Principal, WorkerName};
use jiff::{ToSpan as _, Zoned};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use secrecy::{ExposeSecret as _, SecretString};

use super::Role;

/// The CA's certificate and key, in the data folder's `tls/`.
const CA: (&str, &str) = ("ca.pem", "ca-key.pem");
/// How long the CA is good for, in years.
const CA_YEARS: i64 = 10;
/// How long what it issues is good for, in years.
const ISSUED_YEARS: i64 = 2;

/// What went wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that cannot stand in a certificate.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A file of the CA.
    #[error("TLS file {}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What.
        source: std::io::Error,
    },
    /// The CA is not what it should be.
    #[error("{}: {source}; restore the folder from a backup, or move it away to start with a new CA and issue all certificates again", .path.display())]
    Certificate {
        /// The folder.
        path: PathBuf,
        /// What.
        source: rcgen::Error,
    },
    /// The calendar.
    #[error("this machine's clock cannot be right: {0}; set it and try again")]
    Clock(#[from] jiff::Error),
}

/// A certificate, its key, and the CA to trust: what `archyard cert issue` writes.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The CA's certificate as PEM.
    pub ca: String,
    /// The certificate as PEM.
    pub certificate: String,
    /// Its key as PEM.
    pub key: SecretString,
}

/// The farm's CA.
pub struct Authority {
    folder: PathBuf,
    ca: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Authority {
    /// The CA of a data folder; a new one if there is none.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        let folder = data_dir.join("tls");
        let [certificate, key] = [CA.0, CA.1].map(|name| folder.join(name));
        if !key.exists() {
            create(&folder, &certificate, &key)?;
        }
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })
        };
        let (ca, key) = (read(&certificate)?, SecretString::from(read(&key)?));
        let issuer = KeyPair::from_pem(key.expose_secret())
            .and_then(|key| Issuer::from_ca_cert_pem(&ca, key))
            .map_err(|source| Error::Certificate { path: folder.clone(), source })?;
        Ok(Self { folder, ca, issuer })
    }

    /// A certificate for a client or a worker. Its name is the principal of every call made with it.
    pub fn issue(&self, name: &str, role: Role) -> Result<Issued, Error> {
        let name = match role {
            Role::Client => name.parse::<Principal>().map(|name| name.to_string()),
            Role::Worker => name.parse::<WorkerName>().map(|name| name.to_string()),
        }?;
        if name == Principal::local().as_str() {
            return Err(Invalid::new(
                "name",
                name,
                "it is the name of whoever needs no certificate; choose another",
            )
            .into());
        }
        let mut params = self.params(Vec::new(), &name)?;
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        params.distinguished_name.push(DnType::OrganizationalUnitName, role.name());
        self.sign(&params)
    }

    /// The scheduler's own certificate, for the names by which clients and workers reach it; this machine's
    /// loopback is always among them.
    pub fn issue_server(&self, names: &[String]) -> Result<Issued, Error> {
        let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        all.extend(names.iter().filter(|name| !all.contains(name)).cloned().collect::<Vec<_>>());
        let mut params = self.params(all, names.first().map_or("localhost", String::as_str))?;
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        self.sign(&params)
    }

    fn params(&self, names: Vec<String>, common_name: &str) -> Result<CertificateParams, Error> {
        let mut params = CertificateParams::new(names).map_err(|source| self.wrong(source))?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages.push(KeyUsagePurpose::DigitalSignature);
        set_validity(&mut params, ISSUED_YEARS)?;
        Ok(params)
    }

    fn sign(&self, params: &CertificateParams) -> Result<Issued, Error> {
        let key = KeyPair::generate().map_err(|source| self.wrong(source))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(|source| self.wrong(source))?;
        Ok(Issued { ca: self.ca.clone(), certificate: certificate.pem(), key: key.serialize_pem().into() })
    }

    fn wrong(&self, source: rcgen::Error) -> Error {
        Error::Certificate { path: self.folder.clone(), source }
    }
}

impl Issued {
    /// Writes `ca.pem`, `cert.pem` and `key.pem` into a folder, readable by their owner only.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        std::fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.to_owned(), source })?;
        write_private(&folder.join(archyard_net::ClientTls::CA), &self.ca)?;
        write_private(&folder.join(archyard_net::ClientTls::CERTIFICATE), &self.certificate)?;
        write_private(&folder.join(archyard_net::ClientTls::KEY), self.key.expose_secret())
    }
}

/// The key comes last: a folder without one is begun anew.
fn create(folder: &Path, certificate: &Path, key: &Path) -> Result<(), Error> {
    let wrong = |source| Error::Certificate { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.to_owned(), source })?;
    let mut params = CertificateParams::new(Vec::new()).map_err(wrong)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Archyard farm CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, CA_YEARS)?;
    let pair = KeyPair::generate().map_err(wrong)?;
    let ca = params.self_signed(&pair).map_err(wrong)?;
    write_private(certificate, &ca.pem())?;
    write_private(key, &pair.serialize_pem())
}

/// From yesterday, for clocks that are a little behind.
fn set_validity(params: &mut CertificateParams, years: i64) -> Result<(), Error> {
    let date = |at: &Zoned| -> Result<_, Error> {
        let wide = |part: i8| u8::try_from(part).unwrap_or(1);
        Ok(rcgen::date_time_ymd(i32::from(at.year()), wide(at.month()), wide(at.day())))
    };
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    params.not_before = date(&now.checked_sub(1.day())?)?;
    params.not_after = date(&now.checked_add(years.years())?)?;
    Ok(())
}

fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let wrong = |source| Error::File { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .make_in(folder, |path| OpenOptions::new().write(true).create_new(true).mode(0o600).open(path))
        .map_err(wrong)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(wrong)?;
    file.persist(path).map_err(|error| wrong(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_ca_stays_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(dir.path()).unwrap().issue("alice", Role::Client).unwrap();
        let again = Authority::open(dir.path()).unwrap().issue("arm-1", Role::Worker).unwrap();
        assert_eq!(first.ca, again.ca);
        for name in [CA.0, CA.1] {
            let mode = std::fs::metadata(dir.path().join("tls").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert!(!format!("{first:?}").contains("PRIVATE"));
    }

    #[test]
    fn what_is_written_can_be_dialed_with() {
        let dir = tempfile::tempdir().unwrap();
        let issued = Authority::open(dir.path()).unwrap().issue("alice", Role::Client).unwrap();
        let out = dir.path().join("out");
        issued.write(&out).unwrap();
        archyard_net::ClientTls::from_dir(&out).unwrap();
    }

    #[test]
    fn names_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path()).unwrap();
        assert!(authority.issue("Not A Worker", Role::Worker).is_err());
        assert!(authority.issue("", Role::Client).is_err());
        assert!(authority.issue("local", Role::Client).unwrap_err().to_string().contains("choose another"));
        assert!(authority.issue_server(&["farm.example".to_owned(), "10.0.0.1".to_owned()]).is_ok());
    }
}
