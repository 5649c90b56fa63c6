//! The same over other ways to a farm: in the client's own process, and over TCP with TLS.

use std::process::Command;

use archyard_tests::Farm;
use archyard_tests::farm::finish;
use archyard_tests::project::unique;
use xtask::oci;

use super::{files, native, speaking, to};

#[test]
fn outputs_come_without_a_farm_too() {
    let farm = Farm::start(0);
    let dir = tempfile::tempdir().unwrap();
    let project = speaking(&unique("alone"));
    let out = dir.path().join("image.tar");
    let stdout = finish(
        farm.command()
            .env_remove("ARCHYARD_FARM")
            .args(["build", "-q", "--engine", &farm.env.engines[0].address, "-o", &to("oci", &out)])
            .args(["--platform", &native(&farm)])
            .arg(project.path()),
    )
    .expect(0)
    .stdout;
    let source = format!("oci-archive:{}", out.display());
    let raw = finish(Command::new("skopeo").args(["inspect", "--raw", &source])).expect(0);
    assert_eq!(stdout.trim(), oci::digest(raw.stdout.as_bytes()));
}

#[test]
fn outputs_come_over_tcp_with_tls() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let farm = Farm::with(0, &["--listen", &address.to_string(), "--tls", "--tls-name", "localhost"], &[]);
    let dir = tempfile::tempdir().unwrap();
    let endpoint = format!("https://localhost:{}", address.port());
    let issue = |role: &str, name: &str| {
        let folder = dir.path().join(name);
        let data_dir = farm.data_dir();
        farm.run(&[
            "cert",
            "issue",
            "--role",
            role,
            name,
            "--data-dir",
            data_dir.to_str().unwrap(),
            "--out",
            folder.to_str().unwrap(),
        ])
        .expect(0);
        folder
    };
    let (of_worker, of_client) = (issue("worker", "worker-1"), issue("client", "alice"));
    let mut worker = farm
        .command()
        .args(["worker", "--scheduler", &endpoint, "--name", "worker-1", "--slots", "1", "--tls-dir"])
        .arg(&of_worker)
        .args(["--engine", &farm.env.engines[0].address, "--data-dir"])
        .arg(farm.worker_dir(0))
        .spawn()
        .unwrap();
    let out = dir.path().join("files");
    let project = files();
    let outcome = finish(
        farm.command()
            .env("ARCHYARD_FARM", &endpoint)
            .env("ARCHYARD_TLS_DIR", &of_client)
            .args(["build", "--platform", &farm.env.native[0].to_string(), "-o"])
            .arg(&out)
            .arg(project.path()),
    );
    worker.kill().unwrap();
    worker.wait().unwrap();
    outcome.expect(0);
    assert!(out.join("a/b/deep").is_file());
}
