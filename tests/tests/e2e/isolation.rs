//! Projects on one Engine do not see each other's cache mounts.

use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};

#[test]
fn each_project_has_its_own_cache_mounts() {
    let farm = Farm::start(1);
    let platform = farm.env.native[0].to_string();
    let (one, two, mount) = (unique("one"), unique("two"), unique("mount"));
    let build = |project: &str, command: &str| {
        let tree = Project::new(&format!(
            "FROM BASE\nRUN --mount=type=cache,target=/cache,id={mount} echo {} && {command}\n",
            unique("step")
        ));
        farm.build(tree.path(), &["--platform", &platform, "--project", project]).expect(0).stderr
    };
    build(&one, "echo written > /cache/word");
    let seen = |project: &str| build(project, "ls /cache | sed s/^/found-/").contains("found-word");
    assert!(!seen(&two), "a project saw another's cache mount");
    assert!(seen(&one), "a project lost its own cache mount");
}
