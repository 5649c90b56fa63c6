//! Registry credentials: Docker's own configuration and its helpers are honoured, and nothing is left on disk.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use archyard_tests::farm::{Outcome, finish};
use archyard_tests::login::{RIGHT, assert_nowhere};
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project, login};
use xtask::registry::OwnRegistry;

/// Pushes to a registry that wants credentials, with this Docker configuration.
fn push(farm: &Farm, registry: &OwnRegistry, config: &str, helpers: &Path) -> Outcome {
    let settings = login::holding(config);
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
    let config = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"{RIGHT}\"}}}}}}", registry.address);
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
