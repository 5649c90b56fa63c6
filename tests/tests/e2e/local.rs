//! Without a farm: one in the client's own process, for this build.

use archyard_tests::farm::finish;
use archyard_tests::project::unique;
use archyard_tests::{Coordinates, Farm, Project, process};
use xtask::oci;

#[test]
fn a_build_without_a_farm_runs_one_and_leaves_no_process() {
    let env = Coordinates::from_env().unwrap();
    let default = xtask::farm::default_socket();
    assert!(
        !default.is_ok_and(|socket| xtask::farm::serves(&socket)),
        "a farm serves this user's default socket, so a build would go there: stop it for this test"
    );
    // Only for its folders and its command.
    let farm = Farm::start(0);
    let repository = unique("local");
    let project = Project::new(&format!("FROM BASE\nRUN echo {repository}\n"));
    let name = format!("{}/{repository}:v1", env.registry);
    let platforms = env.native.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let outcome = finish(
        farm.command()
            .env_remove("ARCHYARD_FARM")
            .args(["build", "--progress", "plain", "--engine", &env.engines[0].address])
            .args(["--platform", &platforms, "--push", "-t", &name])
            .arg(project.path()),
    )
    .expect(0);
    let index = oci::get_manifest(&env.registry, &repository, "v1").unwrap();
    assert_eq!(index.json["manifests"].as_array().unwrap().len(), 2);
    assert!(outcome.stdout.contains(&oci::digest(&index.bytes)), "{}", outcome.stdout);
    let marker = project.path().display().to_string();
    assert!(process::with_marker(&marker).is_empty());
    finish(
        farm.command()
            .env_remove("ARCHYARD_FARM")
            .args(["build", "--engine", "unix:///nowhere/docker.sock"])
            .arg(project.path()),
    )
    .expect(3)
    .says(&["/nowhere/docker.sock"]);
}
