//! Registries over TLS: a machine without CA certificates, and certificates that are refused. Each is one line with the
//! remedy.

use std::net::TcpListener;

use archyard_tests::farm::Outcome;
use archyard_tests::project::unique;
use archyard_tests::tls;
use archyard_tests::{Farm, Project};
use xtask::oci;

/// What a machine without the package ca-certificates has.
const NONE: [(&str, &str); 2] = [("SSL_CERT_FILE", "/nonexistent/bundle"), ("SSL_CERT_DIR", "/nonexistent")];
const REMEDY: &str = "install the package ca-certificates or set SSL_CERT_FILE to a bundle";

fn farm() -> Farm {
    Farm::start_with_variables(1, &NONE)
}

#[track_caller]
fn tells_the_remedy_once(outcome: &Outcome, host: &str) {
    let lines: Vec<_> = outcome.stderr.lines().filter(|line| line.contains(REMEDY)).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(host)), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("No CA certificates were loaded"), "{}", outcome.stderr);
}

#[test]
fn plain_http_is_built_from_pushed_to_and_promoted_in() {
    let farm = farm();
    let (registry, marker) = (farm.env.registry.clone(), unique("no-roots"));
    let own = farm.env.native[0].to_string();
    let project = Project::new(&format!("FROM BASE\nRUN echo {marker}\n"));
    let (staging, name) = (format!("{registry}/staging-{marker}"), format!("{registry}/{marker}:1"));
    farm.build(project.path(), &["--platform", &own, "--candidate", &staging, "-t", &name]).expect(0);
    farm.run(&["promote", &farm.newest_build().unwrap()]).expect(0);
    assert_eq!(oci::tags(&registry, &marker).unwrap(), ["1"]);
    let record = farm.show(&farm.newest_build().unwrap());
    assert!(record["lock"]["images"].as_array().is_some_and(|images| !images.is_empty()), "{record:#}");
}

#[test]
fn a_registry_with_tls_is_refused_with_the_remedy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // No loopback to Archyard, so it is spoken to with TLS, and yet this very machine.
    let host = format!("0.0.0.0:{}", listener.local_addr().unwrap().port());
    let _serving = tls::serve(listener, "0.0.0.0");
    let farm = farm();
    let marker = unique("no-roots-tls");
    let own = farm.env.native[0].to_string();
    let project = Project::new(&format!("FROM BASE\nRUN echo {marker}\n"));
    let name = format!("{host}/{marker}:1");
    let outcome = farm.build(project.path(), &["--platform", &own, "--push", "-t", &name]).expect(1);
    tells_the_remedy_once(&outcome, &host);
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["jobs"][0]["failure"]["code"], "no_ca_certificates", "{record:#}");

    let staging = format!("{}/staging-{marker}", farm.env.registry);
    farm.build(project.path(), &["--platform", &own, "--candidate", &staging, "-t", &name]).expect(0);
    let outcome = farm.run(&["promote", &farm.newest_build().unwrap()]).expect(1);
    tells_the_remedy_once(&outcome, &host);
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["failure"]["code"], "no_ca_certificates", "{record:#}");
}

#[test]
fn a_registry_whose_certificate_is_refused_is_named_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = |params: &mut rcgen::CertificateParams| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    };
    let expired = |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let cases = [
        (tls::self_signed("0.0.0.0", authority), "CaUsedAsEndEntity", "basicConstraints=critical,CA:FALSE"),
        (tls::self_signed("0.0.0.0", expired), "has expired", "renew it"),
        (tls::self_signed("registry.example", |_| {}), "only for registry.example", "name the registry as"),
    ];
    // The machine trusts all of them, as one does whose administrator has added each.
    let bundle = dir.path().join("bundle.pem");
    std::fs::write(&bundle, cases.iter().map(|(own, ..)| own.certificate.pem()).collect::<String>()).unwrap();
    let farm = Farm::start_with_variables(1, &[("SSL_CERT_FILE", bundle.to_str().unwrap())]);
    let own = farm.env.native[0].to_string();
    for (certificate, problem, remedy) in &cases {
        let listener = listener();
        let host = format!("0.0.0.0:{}", listener.local_addr().unwrap().port());
        let _serving = tls::serve_as(listener, certificate);
        let marker = unique("bad-certificate");
        let project = Project::new(&format!("FROM BASE\nRUN echo {marker}\n"));
        let name = format!("{host}/{marker}:1");
        let outcome = farm.build(project.path(), &["--platform", &own, "--push", "-t", &name]).expect(1);
        outcome.says(&[&host, problem, remedy]);
        let record = farm.show(&farm.newest_build().unwrap());
        assert_eq!(record["jobs"][0]["failure"]["code"], "registry_tls", "{record:#}");
    }
}
