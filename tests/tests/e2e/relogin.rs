//! `rerun` and `promote` bring credentials of their own: those of the first build are gone, and never were on disk.

use std::path::Path;

use archyard_tests::farm::{Outcome, finish};
use archyard_tests::login::{self, RIGHT, WRONG, assert_nowhere};
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};
use xtask::registry::OwnRegistry;

/// Runs the command line as a user of this Docker configuration.
fn run(farm: &Farm, config: &Path, args: &[&str]) -> Outcome {
    finish(farm.command().args(args).env("DOCKER_CONFIG", config))
}

/// One line tells the end as an error, with all of these.
#[track_caller]
fn one_error(outcome: &Outcome, parts: &[&str]) {
    let is_error = |line: &&str| line.starts_with("ERROR: ") || line.starts_with("archyard: ");
    let errors: Vec<_> = outcome.stderr.lines().filter(is_error).collect();
    assert!(
        matches!(errors[..], [error] if parts.iter().all(|part| error.contains(part))),
        "{parts:?} in one line of\n{}",
        outcome.stderr
    );
}

/// The manifest's status under a tag, as whom the right password opens the registry to.
fn is_tagged(registry: &OwnRegistry, repository: &str, tag: &str) -> bool {
    let at = format!("docker://{}/{repository}:{tag}", registry.address);
    let login = format!("{}:{}", OwnRegistry::USER, OwnRegistry::PASSWORD);
    let mut skopeo = std::process::Command::new("skopeo");
    finish(skopeo.args(["inspect", "--raw", "--tls-verify=false", "--creds", &login, &at])).code == Some(0)
}

#[test]
fn a_rerun_needs_the_right_login_and_leaves_it_nowhere() {
    let registry = OwnRegistry::locked().unwrap();
    let farm = Farm::start(1);
    let marker = unique("rerun-login");
    let (right, wrong) = (login::config(&registry, RIGHT), login::config(&registry, WRONG));
    let nobody = login::holding("{}");
    let project = Project::new(&format!(
        "FROM BASE\nRUN --mount=type=cache,id={marker},target=/c [ -e /c/seen ] || ( touch /c/seen && exit 3 )\n"
    ));
    let name = format!("{}/{marker}:1", registry.address);
    let own = farm.env.native[0].to_string();
    let context = project.path().display().to_string();
    run(&farm, right.path(), &["build", "--platform", &own, "--push", "-t", &name, &context]).expect(1);
    let first = farm.newest_build().unwrap();

    let refused = run(&farm, nobody.path(), &["rerun", "--failed", &first]).expect(2);
    one_error(&refused, &[&first, "needs credentials", &format!("docker login {}", registry.address)]);
    assert_eq!(refused.stderr.trim().lines().count(), 1, "{}", refused.stderr);
    assert_eq!(farm.newest_build().unwrap(), first, "it was submitted all the same");

    let denied = run(&farm, wrong.path(), &["rerun", "--failed", &first]).expect(1);
    one_error(&denied, &[&marker, &format!("docker login {}", registry.address)]);
    let second = farm.newest_build().unwrap();
    let record = farm.show(&second);
    assert_eq!(record["jobs"][0]["attempts"].as_array().unwrap().len(), 1, "it was tried again: {record:#}");
    assert!(!is_tagged(&registry, &marker, "1"), "a tag moved");

    run(&farm, right.path(), &["rerun", "--failed", &second]).expect(0);
    assert!(is_tagged(&registry, &marker, "1"));
    assert_nowhere(&farm);
}

#[test]
fn a_promotion_needs_the_right_login_and_leaves_it_nowhere() {
    let registry = OwnRegistry::locked().unwrap();
    let farm = Farm::start(1);
    let marker = unique("promote-login");
    let (right, wrong) = (login::config(&registry, RIGHT), login::config(&registry, WRONG));
    let nobody = login::holding("{}");
    let project = Project::new(&format!("FROM BASE\nRUN echo {marker} > /marker\n"));
    let (staging, name) =
        (format!("{}/staging-{marker}", registry.address), format!("{}/{marker}:1", registry.address));
    let own = farm.env.native[0].to_string();
    let context = project.path().display().to_string();
    let candidate = ["build", "--platform", &own, "--candidate", &staging, "-t", &name, &context];
    run(&farm, right.path(), &candidate).expect(0);
    let candidate = farm.newest_build().unwrap();

    let refused = run(&farm, nobody.path(), &["promote", &candidate]).expect(2);
    one_error(&refused, &[&candidate, "needs credentials", &format!("docker login {}", registry.address)]);
    assert_eq!(farm.newest_build().unwrap(), candidate, "it was submitted all the same");

    let denied = run(&farm, wrong.path(), &["promote", &candidate]).expect(1);
    one_error(&denied, &[&registry.address, &format!("docker login {}", registry.address)]);
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["failure"]["code"], "registry_denied", "{record:#}");
    assert!(!is_tagged(&registry, &marker, "1"), "a tag moved");

    run(&farm, right.path(), &["promote", &candidate]).expect(0);
    assert!(is_tagged(&registry, &marker, "1"));
    assert_nowhere(&farm);
}
