//! A build whose tags newer builds have taken meanwhile: its own words, its own exit code, and no tag that names
//! something else.

use std::path::Path;
use std::process::Child;

use archyard_tests::farm::PATIENCE;
use archyard_tests::process::wait_for;
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};
use serde_json::{Value, json};
use xtask::oci;

/// A build that does not end before [`release`].
fn held(marker: &str, number: u32) -> Project {
    Project::new(&format!(
        "FROM BASE\nRUN --mount=type=cache,id={marker},target=/c \\\n  until [ -e /c/go ]; do sleep 0.1; done; echo \
         {marker} {number}\n"
    ))
}

fn release(farm: &Farm, marker: &str) {
    let project =
        Project::new(&format!("FROM BASE\nRUN --mount=type=cache,id={marker},target=/c touch /c/go\n"));
    farm.build(project.path(), &[]).expect(0);
}

/// Starts a build, and returns once the farm runs it.
fn start(farm: &Farm, project: &Project, flags: &[&str], out: &Path) -> (Child, String) {
    let before = farm.newest_build();
    let child = farm.start_build(project.path(), flags, out);
    let build = wait_for("the older build runs", PATIENCE, || {
        let stderr = std::fs::read_to_string(out.join("stderr")).unwrap_or_default();
        let build = farm.newest_build().filter(|build| before.as_ref() != Some(build))?;
        let running = farm.show(&build)["jobs"][0]["state"] == "running";
        (running && !stderr.contains("ERROR")).then_some(build)
    });
    (child, build)
}

fn read(out: &Path, name: &str) -> String {
    std::fs::read_to_string(out.join(name)).unwrap()
}

#[test]
fn an_overtaken_build_says_so_and_names_only_the_tags_that_it_moved() {
    let farm = Farm::with(1, &[], &["--slots", "4"]);
    let marker = unique("overtaken");
    let tag = |tag: &str| format!("{}/{marker}:{tag}", farm.env.registry);
    let (latest, one) = (tag("latest"), tag("1"));
    let out = tempfile::tempdir().unwrap();
    let [some, none] = ["some", "none"].map(|name| out.path().join(name));
    let [some_file, none_file, iid] = ["some.json", "none.json", "iid"].map(|name| out.path().join(name));

    let flags = ["--push", "-t", &latest, "-t", &one, "--metadata-file", some_file.to_str().unwrap()];
    let (mut moves_one, first) = start(&farm, &held(&marker, 1), &flags, &some);
    let flags = [
        "-q",
        "--push",
        "-t",
        &latest,
        "--metadata-file",
        none_file.to_str().unwrap(),
        "--iidfile",
        iid.to_str().unwrap(),
    ];
    let (mut moves_none, second) = start(&farm, &held(&marker, 2), &flags, &none);
    let newer = Project::new(&format!("FROM BASE\nRUN echo {marker}\n"));
    farm.build(newer.path(), &["--push", "-t", &latest]).expect(0);
    let newest = farm.newest_build().unwrap();
    let moved = oci::get_manifest(&farm.env.registry, &marker, "latest").unwrap().digest;
    release(&farm, &marker);

    assert_eq!(moves_one.wait().unwrap().code(), Some(4), "{}", read(&some, "stderr"));
    let told = read(&some, "stderr");
    let reason = format!("left alone for build {newest}, which was submitted later");
    assert!(told.contains(&format!("NOT MOVED: {latest}: {reason}")), "{told}");
    assert!(told.contains(&format!("; left to newer builds: {latest}")), "{told}");
    let metadata: Value = serde_json::from_str(&std::fs::read_to_string(&some_file).unwrap()).unwrap();
    assert_eq!(metadata["image.name"], one.as_str());
    assert_eq!(metadata["archyard.tags_not_moved"], json!({ latest.clone(): reason }));
    assert_eq!(farm.show(&first)["state"], "succeeded");

    assert_eq!(moves_none.wait().unwrap().code(), Some(4), "{}", read(&none, "stderr"));
    assert_eq!(read(&none, "stderr"), format!("NOT MOVED: {latest}: {reason}\n"));
    let metadata: Value = serde_json::from_str(&std::fs::read_to_string(&none_file).unwrap()).unwrap();
    assert!(metadata.get("image.name").is_none(), "{metadata:#}");
    let digest = metadata["containerimage.digest"].as_str().unwrap();
    assert_eq!(read(&none, "stdout"), format!("{digest}\n"));
    assert_eq!(std::fs::read_to_string(&iid).unwrap(), digest);
    assert_eq!(farm.show(&second)["state"], "superseded");
    let listed = farm.run(&["ps", "--state", "superseded", "--json"]).expect(0).stdout;
    assert!(listed.contains(&second) && !listed.contains(&first), "{listed}");

    assert_eq!(
        oci::get_manifest(&farm.env.registry, &marker, "latest").unwrap().digest,
        moved,
        "a tag went back"
    );
    assert!(
        oci::get_manifest(&farm.env.registry, &marker, digest).is_ok(),
        "the image is not there by digest"
    );
}
