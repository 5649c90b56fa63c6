//! Registry credentials: Docker's own configuration and its helpers are honoured, and nothing is left on disk.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use archyard_tests::farm::{Outcome, finish};
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};
use xtask::registry::OwnRegistry;

/// `user:open sesame` as Docker keeps it.
const ENCODED: &str = "dXNlcjpvcGVuIHNlc2FtZQ==";

/// Pushes to a registry that wants credentials, with this Docker configuration.
fn push(farm: &Farm, registry: &OwnRegistry, config: &str, helpers: &Path) -> Outcome {
    let settings = tempfile::tempdir().unwrap();
    std::fs::write(settings.path().join("config.json"), config).unwrap();
    let project = Project::new(&format!("FROM BASE\nRUN echo {}\n", unique("credentials")));
    let name = format!("{}/{}:v1", registry.address, unique("private"));
    let path = format!("{}:{}", helpers.display(), std::env::var("PATH").unwrap());
    finish(
        farm.command()
            .args(["build", "--progress", "plain", "--push", "-t", &name, "--platform"])
            .arg(farm.env.native[0].to_string())
            .arg(project.path())
            .env("DOCKER_CONFIG", settings.path())
            .env("PATH", path),
    )
}

#[test]
fn the_users_docker_configuration_is_honoured() {
    let registry = OwnRegistry::locked().unwrap();
    let farm = Farm::start(1);
    let config = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"{ENCODED}\"}}}}}}", registry.address);
    push(&farm, &registry, &config, Path::new("/nonexistent")).expect(0);
    assert_nowhere(&farm);
}

#[test]
fn credential_helpers_are_honoured() {
    let registry = OwnRegistry::locked().unwrap();
    let farm = Farm::start(1);
    let helpers = tempfile::tempdir().unwrap();
    let helper = helpers.path().join("docker-credential-forged");
    let answer = format!(
        "{{\"ServerURL\":\"x\",\"Username\":\"{}\",\"Secret\":\"{}\"}}",
        OwnRegistry::USER,
        OwnRegistry::PASSWORD
    );
    std::fs::write(&helper, format!("#!/bin/sh\ncat >/dev/null\necho '{answer}'\n")).unwrap();
    std::fs::set_permissions(&helper, Permissions::from_mode(0o755)).unwrap();
    let config = format!("{{\"credHelpers\": {{\"{}\": \"forged\"}}}}", registry.address);
    push(&farm, &registry, &config, helpers.path()).expect(0);
    assert_nowhere(&farm);
}

/// No file of the farm, log or data, holds the secret, plain or as Docker encodes it.
fn assert_nowhere(farm: &Farm) {
    let root = farm.data_dir();
    let mut folders = vec![root.parent().unwrap().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).unwrap_or_default();
                for secret in [OwnRegistry::PASSWORD.as_bytes(), ENCODED.as_bytes()] {
                    let found = bytes.windows(secret.len()).any(|window| window == secret);
                    assert!(!found, "{} holds the secret", entry.path().display());
                }
            }
        }
    }
}
