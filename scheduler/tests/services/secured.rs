//! Over TCP: plain on loopback, mutual TLS everywhere else, and who one is then.

use archyard_net::{ClientTls, Endpoint};
use archyard_proto::v1 as proto;
use archyard_scheduler::tls::{Authority, Role};
use archyard_scheduler::{Config, Listen, Running, Scheduler, TlsConfig};
use proto::build_service_client::BuildServiceClient;
use proto::farm_service_client::FarmServiceClient;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{Worker, hello};

async fn start(dir: &std::path::Path, tls: bool) -> (Running, u16) {
    let mut config = Config::new(dir.join("data"), vec!["127.0.0.1:0".parse().unwrap()]);
    config.tls = tls.then(|| TlsConfig { names: vec!["farm.example".to_owned()] });
    let running = Scheduler::start(config).await.unwrap();
    let Listen::Tcp(address) = running.listening()[0] else { panic!("not TCP") };
    (running, address.port())
}

fn issue(dir: &std::path::Path, name: &str, role: Role) -> ClientTls {
    let out = dir.join(format!("tls-of-{name}"));
    Authority::open(&dir.join("data")).unwrap().issue(name, role).unwrap().write(&out).unwrap();
    ClientTls::from_dir(&out).unwrap()
}

async fn principal(channel: Channel) -> Result<String, tonic::Status> {
    let about = FarmServiceClient::new(channel).get_farm(proto::GetFarmRequest {}).await?;
    Ok(about.into_inner().principal)
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_loopback_is_local() {
    let dir = tempfile::tempdir().unwrap();
    let (_running, port) = start(dir.path(), false).await;
    let endpoint = Endpoint::Http { host: "127.0.0.1".to_owned(), port };
    assert_eq!(principal(archyard_net::connect(&endpoint, None).await.unwrap()).await.unwrap(), "local");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_a_principal_and_a_role() {
    let dir = tempfile::tempdir().unwrap();
    let (_running, port) = start(dir.path(), true).await;
    let endpoint = Endpoint::Https { host: "localhost".to_owned(), port };
    let alice = issue(dir.path(), "alice", Role::Client);
    let channel = archyard_net::connect(&endpoint, Some(&alice)).await.unwrap();
    assert_eq!(principal(channel.clone()).await.unwrap(), "alice");
    let mut builds = BuildServiceClient::new(channel);
    builds.list_builds(proto::ListBuildsRequest::default()).await.unwrap();

    let worker = issue(dir.path(), "w1", Role::Worker);
    let channel = archyard_net::connect(&endpoint, Some(&worker)).await.unwrap();
    assert_eq!(principal(channel.clone()).await.unwrap(), "w1");
    Worker::join(channel, hello("w1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_not_a_worker_and_a_worker_not_a_client() {
    let dir = tempfile::tempdir().unwrap();
    let (_running, port) = start(dir.path(), true).await;
    let endpoint = Endpoint::Https { host: "localhost".to_owned(), port };
    // A client with a worker's very name joins no more than any other.
    let client = issue(dir.path(), "w1", Role::Client);
    let channel = archyard_net::connect(&endpoint, Some(&client)).await.unwrap();
    let refused = Worker::join(channel, hello("w1")).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    for part in
        ["w1", "role client", "archyard.v1.WorkerService/Control", "archyard cert issue --role worker"]
    {
        assert!(refused.message().contains(part), "{part}: {refused:?}");
    }

    let worker = issue(dir.path(), "w2", Role::Worker);
    let channel = archyard_net::connect(&endpoint, Some(&worker)).await.unwrap();
    // A worker's certificate speaks for that worker and no other.
    let refused = Worker::join(channel.clone(), hello("w1")).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    assert!(refused.message().contains("archyard cert issue --role worker w1"), "{refused:?}");
    let mut builds = BuildServiceClient::new(channel.clone());
    let refused = builds.submit_build(proto::SubmitBuildRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    for part in
        ["w2", "role worker", "archyard.v1.BuildService/SubmitBuild", "archyard cert issue --role client"]
    {
        assert!(refused.message().contains(part), "{part}: {refused:?}");
    }
    let drain = proto::DrainWorkerRequest { name: "w1".to_owned(), draining: true };
    let refused = FarmServiceClient::new(channel).drain_worker(drain).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_a_role_is_refused_when_it_connects() {
    let dir = tempfile::tempdir().unwrap();
    let (_running, port) = start(dir.path(), true).await;
    // Signed by the farm's own authority, without the role that `archyard cert issue` writes.
    let tls = dir.path().join("data/tls");
    let read = |name: &str| std::fs::read_to_string(tls.join(name)).unwrap();
    let ca_key = rcgen::KeyPair::from_pem(&read("ca-key.pem")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.pem"), ca_key).unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "alice");
    params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    let own = ClientTls::new(read("ca.pem"), certificate, key.serialize_pem().into());
    let endpoint = Endpoint::Https { host: "localhost".to_owned(), port };
    let error = archyard_net::connect(&endpoint, Some(&own)).await.unwrap_err();
    assert_eq!(archyard_net::outlook(&error), archyard_net::Outlook::Permanent);
    let error = error.to_string();
    for part in ["localhost", "alice", "names no role", "archyard cert issue --role"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let (_running, port) = start(dir.path(), true).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = issue(elsewhere.path(), "alice", Role::Client);
    let endpoint = Endpoint::Https { host: "127.0.0.1".to_owned(), port };
    assert!(
        archyard_net::connect(&endpoint, Some(&stranger)).await.is_err(),
        "another farm's certificate was taken"
    );
    let plain = Endpoint::Http { host: "127.0.0.1".to_owned(), port };
    let channel = archyard_net::connect(&plain, None).await;
    let outcome = match channel {
        Ok(channel) => principal(channel).await.map_err(|_| ()),
        Err(_) => Err(()),
    };
    assert_eq!(outcome, Err(()), "plain text was served on a TLS listener");
}
