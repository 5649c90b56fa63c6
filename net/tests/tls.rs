//! What a client is told when TLS fails, on real listeners: each message names the host or the file, and the remedy.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::net::SocketAddr;

use archyard_net::{ClientTls, Endpoint, Error, Outlook, connect, outlook};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

/// An authority, as a farm has one.
struct Farm {
    ca: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Farm {
    fn named(name: &str) -> Self {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::from_ca_cert_pem(&ca, key).unwrap(), ca }
    }

    fn new() -> Self {
        Self::named("farm")
    }

    fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = params("someone", names);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    fn server(&self) -> Pair {
        self.issue(&["localhost"], |_| {})
    }

    fn client(&self) -> ClientTls {
        self.client_with(|_| {})
    }

    /// A client's files that were not read from a folder: nothing is checked before the server sees them.
    fn client_with(&self, change: impl FnOnce(&mut CertificateParams)) -> ClientTls {
        let pair = self.issue(&[], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            change(params);
        });
        ClientTls::new(self.ca.clone(), pair.certificate, pair.key.into())
    }
}

fn params(name: &str, names: &[&str]) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Listens with this certificate, and takes clients of this authority.
async fn serve(own: &Pair, clients: &str) -> SocketAddr {
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&own.certificate, &own.key))
        .client_ca_root(Certificate::from_pem(clients));
    listen(Server::builder().tls_config(tls).unwrap()).await
}

#[expect(clippy::disallowed_methods, reason = "the server ends with the test's runtime")]
async fn listen(mut server: Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(server.add_routes(Routes::default()).serve_with_incoming(incoming));
    address
}

fn https(address: SocketAddr) -> Endpoint {
    Endpoint::Https { host: "localhost".to_owned(), port: address.port() }
}

/// The error of dialing, which must be one that is not tried again.
async fn refused(endpoint: &Endpoint, tls: Option<&ClientTls>) -> String {
    let error: Error = connect(endpoint, tls).await.expect_err("it connected");
    assert_eq!(outlook(&error), Outlook::Permanent, "{error}");
    let text = error.to_string();
    assert!(text.contains(&endpoint.to_string()), "the host is not named: {text}");
    text
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[tokio::test]
async fn what_is_right_connects() {
    let farm = Farm::new();
    let address = serve(&farm.server(), &farm.ca).await;
    connect(&https(address), Some(&farm.client())).await.unwrap();
}

#[tokio::test]
async fn a_certificate_for_another_name() {
    let farm = Farm::new();
    let address = serve(&farm.issue(&["farm.example", "10.0.0.1"], |_| {}), &farm.ca).await;
    let text = refused(&https(address), Some(&farm.client())).await;
    says(&text, &["not valid for localhost", "farm.example", "10.0.0.1", "--tls-name localhost"]);
}

#[tokio::test]
async fn another_farms_authority_whatever_its_name() {
    for name in ["farm", "another farm"] {
        let (farm, other) = (Farm::new(), Farm::named(name));
        let address = serve(&farm.server(), &farm.ca).await;
        let text = refused(&https(address), Some(&other.client())).await;
        says(&text, &["not signed by the authority in ca.pem", "archyard cert issue"]);
    }
}

#[tokio::test]
async fn a_server_out_of_its_time() {
    let farm = Farm::new();
    let expired = farm.issue(&["localhost"], |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    let text = refused(&https(serve(&expired, &farm.ca).await), Some(&farm.client())).await;
    says(&text, &["has expired", "restart the scheduler", "clock"]);
    let early = farm.issue(&["localhost"], |params| params.not_before = rcgen::date_time_ymd(3000, 1, 1));
    let text = refused(&https(serve(&early, &farm.ca).await), Some(&farm.client())).await;
    says(&text, &["not valid yet", "set the clock"]);
}

#[tokio::test]
async fn an_authoritys_certificate_on_the_server() {
    let farm = Farm::new();
    let own = farm.issue(&["localhost"], |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let text = refused(&https(serve(&own, &farm.ca).await), Some(&farm.client())).await;
    says(&text, &["CaUsedAsEndEntity", "ca.pem has signed"]);
}

#[tokio::test]
async fn a_client_that_the_server_refuses() {
    let farm = Farm::new();
    let address = serve(&farm.server(), &farm.ca).await;
    // It trusts this farm, and another one issued its own certificate.
    for name in ["farm", "another farm"] {
        let pair = Farm::named(name)
            .issue(&[], |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
        let stranger = ClientTls::new(farm.ca.clone(), pair.certificate, pair.key.into());
        let text = refused(&https(address), Some(&stranger)).await;
        says(&text, &["refuses cert.pem", "another farm's authority", "archyard cert issue"]);
    }
    let expired = farm.client_with(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    let text = refused(&https(address), Some(&expired)).await;
    says(&text, &["refuses cert.pem", "expired or is not valid yet", "archyard cert issue"]);
    let server =
        farm.client_with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let text = refused(&https(address), Some(&server)).await;
    says(&text, &["refuses cert.pem", "not a certificate for clients", "archyard cert issue"]);
    let authority = farm.client_with(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let text = refused(&https(address), Some(&authority)).await;
    says(&text, &["refuses cert.pem", "archyard cert issue"]);
}

#[tokio::test]
async fn a_client_without_a_certificate() {
    let endpoint: Endpoint = "https://farm.example:7420".parse().unwrap();
    says(&refused(&endpoint, None).await, &["asks for a client certificate", "--tls-dir"]);
}

#[tokio::test]
async fn plain_http_to_a_port_with_tls_and_the_reverse() {
    let farm = Farm::new();
    let secured = serve(&farm.server(), &farm.ca).await;
    let plain = Endpoint::Http { host: "127.0.0.1".to_owned(), port: secured.port() };
    says(&refused(&plain, None).await, &["speaks TLS", "https://", "--tls-dir"]);
    let open = listen(Server::builder()).await;
    let text = refused(&https(open), Some(&farm.client())).await;
    says(&text, &["does not speak TLS", "--tls"]);
}

#[tokio::test]
async fn a_port_without_a_listener_may_be_tried_again() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let farm = Farm::new();
    let error = connect(&https(free), Some(&farm.client())).await.unwrap_err();
    assert_eq!(outlook(&error), Outlook::Transient, "{error}");
    says(&error.to_string(), &["no scheduler answers", "refused"]);
}
