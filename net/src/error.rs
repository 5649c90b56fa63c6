//! Why a connection could not be made.

use std::path::{Path, PathBuf};

use crate::fault::only_for;
use crate::{ClientTls, Endpoint, Refused, TlsFault};

/// What went wrong on the way to a connection, said with its remedy. [`outlook`](crate::outlook) says whether trying
/// again may help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No process answers there.
    #[error(
        "no scheduler answers at {endpoint}: {reason}; start one with `archyard up`, or give the address of a running one"
    )]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        reason: String,
    },
    /// A socket of another user.
    #[error(
        "{endpoint} may not be opened by this user: {reason}; run this as the scheduler's user, or let the scheduler listen with --tls and dial https://HOST:PORT"
    )]
    Forbidden {
        /// Where.
        endpoint: Endpoint,
        /// What the system says.
        reason: std::io::Error,
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
    /// A file that is there and cannot be used.
    #[error("TLS file {}: {problem}; copy the folder that `archyard cert issue` wrote once more, or issue a new one", .path.display())]
    TlsContent {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// TLS was refused by one of the two ends.
    #[error("{}", explain(.endpoint, .folder.as_deref(), .fault))]
    Tls {
        /// Where.
        endpoint: Endpoint,
        /// With which files.
        folder: Option<PathBuf>,
        /// Why.
        fault: TlsFault,
    },
    /// Plain HTTP was spoken to a port with TLS.
    #[error(
        "{endpoint} speaks TLS; write https://HOST:PORT, and give the folder that `archyard cert issue` wrote with --tls-dir"
    )]
    SpeaksTls {
        /// Where.
        endpoint: Endpoint,
    },
    /// The scheduler knows who calls, and refuses.
    #[error("{endpoint} refuses this certificate: {message}")]
    Refused {
        /// Where.
        endpoint: Endpoint,
        /// What it said.
        message: String,
    },
}

/// What is wrong, where, and what to do.
fn explain(endpoint: &Endpoint, folder: Option<&Path>, fault: &TlsFault) -> String {
    let file = |name: &str| match folder {
        Some(folder) => folder.join(name).display().to_string(),
        None => name.to_owned(),
    };
    let (ca, own) = (file(ClientTls::CA), file(ClientTls::CERTIFICATE));
    let host = match endpoint {
        Endpoint::Http { host, .. } | Endpoint::Https { host, .. } => host.as_str(),
        Endpoint::Unix(_) => "localhost",
    };
    let reissue = "issue a new one on the scheduler's machine with `archyard cert issue`";
    match fault {
        TlsFault::WrongName { valid_for } => format!(
            "the certificate of {endpoint} is not valid for {host}{}; dial it by one of its names, or start the scheduler with \
             --tls-name {host}",
            only_for(valid_for)
        ),
        TlsFault::UnknownAuthority => format!(
            "the certificate of {endpoint} is not signed by the authority in {ca}: it is another farm's, or this farm has a new \
             authority; use the folder that `archyard cert issue` wrote on that scheduler's machine"
        ),
        TlsFault::AuthorityAsServer => format!(
            "{endpoint} shows the certificate of an authority as its own (CaUsedAsEndEntity), which `archyard scheduler --tls` \
             never does; see what listens there, and give it a certificate that {ca} has signed"
        ),
        TlsFault::Expired => format!(
            "the certificate of {endpoint} has expired by this machine's clock; restart the scheduler, which makes a new one \
             whenever it starts, or set the clock if it is wrong"
        ),
        TlsFault::NotYetValid => format!(
            "the certificate of {endpoint} is not valid yet by this machine's clock; set the clock that is wrong, this machine's \
             or the scheduler's"
        ),
        TlsFault::BadServer(problem) => format!(
            "the certificate of {endpoint} is refused: {problem}; see what listens there, and restart the scheduler, which makes \
             a new one whenever it starts"
        ),
        TlsFault::ClientRefused(Refused::Time) => format!(
            "{endpoint} refuses {own}: by the scheduler's clock it has expired or is not valid yet; {reissue}, or set the clock \
             that is wrong"
        ),
        TlsFault::ClientRefused(Refused::Authority) => {
            format!("{endpoint} refuses {own}: another farm's authority signed it; {reissue}")
        }
        TlsFault::ClientRefused(Refused::Kind) => {
            format!("{endpoint} refuses {own}: it is not a certificate for clients or workers; {reissue}")
        }
        TlsFault::ClientMissing => format!(
            "{endpoint} asks for a client certificate and got none; give the folder that `archyard cert issue` wrote with --tls-dir"
        ),
        TlsFault::NothingInCommon => format!(
            "{endpoint} speaks no version of TLS that this program speaks, TLS 1.2 and 1.3; see what listens there"
        ),
        TlsFault::NoHttp2 => format!(
            "{endpoint} speaks TLS but not HTTP/2, so it is not a scheduler; see what listens there, or let a proxy in between \
             pass TLS through"
        ),
        TlsFault::NoTls => format!(
            "{endpoint} does not speak TLS; start the scheduler with --tls, or dial http:// if it runs on this machine"
        ),
    }
}
