//! What docker's clients take from the user's environment and configuration.

use archyard_tests::farm::finish;
use archyard_tests::{Farm, Project};

const CONFIG: &str = r#"{"proxies": {"default": {
    "httpProxy": "http://user:hush@127.0.0.1:9",
    "noProxy": "127.0.0.1,localhost"
}}}"#;

#[test]
fn proxies_reach_every_step_and_nobody_else() {
    let farm = Farm::start(1);
    // The password is not in the Dockerfile, which is shown.
    let project = Project::new(
        "FROM BASE\nRUN echo \"=$HTTP_PROXY=\" | grep -q '=http://user:hu[s]h@127.0.0.1:9=' && [ \"$http_proxy\" = \"$HTTP_PROXY\" ]\n\
         RUN [ \"$no_proxy\" = 127.0.0.1,localhost ] && [ -z \"$HTTPS_PROXY\" ]\n",
    );
    let config = tempfile::tempdir().unwrap();
    std::fs::write(config.path().join("config.json"), CONFIG).unwrap();
    let archive = project.join("../image-of-proxies").with_extension(std::process::id().to_string());
    let output = format!("type=oci,dest={}", archive.display());
    let mut command = farm.command();
    command.env("DOCKER_CONFIG", config.path()).args(["build", "--progress", "plain", "-o", &output]);
    let said = finish(command.arg(project.path())).expect(0);
    assert!(!said.stderr.contains("hush"), "{}", said.stderr);
    let image = std::fs::read(&archive).unwrap();
    std::fs::remove_file(&archive).unwrap();
    assert!(!image.windows(4).any(|bytes| bytes == b"hush"), "the image holds a password");
    let build = farm.newest_build().unwrap();
    let record = farm.show(&build);
    assert_eq!(record["plan"]["build_args"]["HTTP_PROXY"], "http://***@127.0.0.1:9");
    for command in [&["show", &build][..], &["show", &build, "--json"], &["logs", &build]] {
        assert!(!farm.run(command).expect(0).stdout.contains("hush"), "{command:?}");
    }
    assert!(!farm.logs().contains("hush"), "a password is in a log");

    // What the user says wins, and an image that names it may see it.
    let project = Project::new("FROM BASE\nRUN [ \"$http_proxy\" = mine ] && [ \"$HTTP_PROXY\" = mine ]\n");
    let mut command = farm.command();
    command.env("DOCKER_CONFIG", config.path()).args(["build", "--build-arg", "HTTP_PROXY=mine"]);
    finish(command.arg(project.path())).expect(0);
}

#[test]
fn the_source_date_is_an_argument() {
    let farm = Farm::start(1);
    let project =
        Project::new("FROM BASE\nARG SOURCE_DATE_EPOCH\nRUN [ \"$SOURCE_DATE_EPOCH\" = 1700000000 ]\n");
    let mut command = farm.command();
    command.env("SOURCE_DATE_EPOCH", "1700000000").args(["build"]);
    finish(command.arg(project.path())).expect(0);
}

#[test]
fn a_dockerfile_in_lower_case_is_built_with_its_own_ignore_file() {
    let farm = Farm::start(1);
    let project = Project::new("FROM BASE\nCOPY . /c\nRUN [ -e /c/kept ] && [ ! -e /c/left-out ]\n")
        .file("kept", "")
        .file("left-out", "")
        .file("dockerfile.dockerignore", "left-out\n");
    std::fs::rename(project.join("Dockerfile"), project.join("dockerfile")).unwrap();
    let mut command = farm.command();
    command.env("DOCKER_DEFAULT_PLATFORM", "local").env("BUILDKIT_PROGRESS", "plain").args(["build"]);
    finish(command.arg(project.path())).expect(0).says(&["| #1 "]);
}
