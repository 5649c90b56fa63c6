//! The lock: bases are resolved once, and a base that cannot serve a platform fails the build in seconds.

use std::process::Command;
use std::time::Duration;

use archyard_tests::farm::finish;
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};
use xtask::images::{Entry, Image, tar};
use xtask::oci;

use crate::check::native;

/// An image with one file, which a build from it can see.
fn image(platform: &xtask::images::Platform, word: &str) -> Image {
    Image::new(platform, tar(&[("word", Entry::File(0o644, word.as_bytes()))]).unwrap())
}

#[test]
fn a_base_without_the_platform_names_line_image_and_what_it_has() {
    let farm = Farm::start(2);
    let repository = unique("base/partial");
    oci::push_index(&farm.env.registry, &repository, "1", &[image(&farm.env.native[0], "x")]).unwrap();
    let base = format!("{}/{repository}:1", farm.env.registry);
    let project = Project::new(&format!("# a comment\nFROM {base}\nRUN true\n"));
    let outcome = farm.build(project.path(), &["--platform", &native(&farm)]).expect(1).says(&[
        "Dockerfile:2",
        &base,
        &farm.env.native[1].to_string(),
        &farm.env.native[0].to_string(),
    ]);
    assert!(outcome.took < Duration::from_secs(10), "{:?}", outcome.took);
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["failure"]["code"], "base_lacks_platform", "{record:#}");
    assert!(
        record["jobs"].as_array().is_none_or(|jobs| jobs
            .iter()
            .all(|job| { job["attempts"].as_array().is_none_or(Vec::is_empty) }))
    );
}

#[test]
fn a_lone_manifest_of_another_platform_is_refused() {
    let farm = Farm::start(1);
    let repository = unique("base/lone");
    oci::push_manifest(&farm.env.registry, &repository, "1", &image(&farm.env.foreign[0], "x")).unwrap();
    let project = Project::new(&format!("FROM {}/{repository}:1\nCOPY Dockerfile /\n", farm.env.registry));
    farm.build(project.path(), &["--platform", &farm.env.native[0].to_string()]).expect(1).says(&[
        "Dockerfile:1",
        &farm.env.foreign[0].to_string(),
        &farm.env.native[0].to_string(),
    ]);
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["failure"]["code"], "base_wrong_platform", "{record:#}");
}

#[test]
fn a_base_that_does_not_exist_names_its_line() {
    let farm = Farm::start(1);
    let project = Project::new(&format!("FROM {}/nowhere/at-all:1\nRUN true\n", farm.env.registry));
    farm.build(project.path(), &["--platform", &farm.env.native[0].to_string()])
        .expect(1)
        .says(&["Dockerfile:1", "nowhere/at-all:1"]);
}

#[test]
fn arguments_are_put_in_and_every_kind_of_base_is_locked() {
    let farm = Farm::start(1);
    let repository = unique("base/args");
    let platform = farm.env.native[0].clone();
    let digest =
        oci::push_index(&farm.env.registry, &repository, "1", &[image(&platform, "from the lock\n")])
            .unwrap();
    let project = Project::new(&format!(
        "ARG NAME=unset\nARG REGISTRY={}\nFROM BASE\nCOPY --from={}/{repository}:1 /word /word\n\
         RUN --mount=type=bind,from={}/{repository}:1,target=/m cat /m/word\nFROM ${{REGISTRY}}/${{NAME}}:1\nCOPY --from=0 /word /copied\n",
        farm.env.registry, farm.env.registry, farm.env.registry
    ));
    farm.build(
        project.path(),
        &["--data-only", "--platform", &platform.to_string(), "--build-arg", &format!("NAME={repository}")],
    )
    .expect(0);
    let record = farm.show(&farm.newest_build().unwrap());
    let text = record["lock"].to_string();
    assert!(text.contains(&digest), "{text}");
    assert!(text.contains(&farm.env.base.digest), "{text}");
}

#[test]
fn an_unreachable_registry_is_a_warning_and_the_record_says_unlocked() {
    let farm = Farm::start(1);
    let engine = &farm.env.engines[0].address;
    // Nothing listens there, but the Engine has an image of that name already.
    let name = format!("127.0.0.1:9/{}:1", unique("gone"));
    let docker = |args: &[&str]| finish(Command::new("docker").args(["-H", engine]).args(args)).expect(0);
    docker(&["pull", &farm.env.base.reference]);
    docker(&["tag", &farm.env.base.reference, &name]);
    let project = Project::new(&format!("FROM {name}\nRUN echo built\n"));
    let outcome = farm.build(project.path(), &["--platform", &farm.env.native[0].to_string()]);
    docker(&["rmi", &name]);
    outcome.expect(0).says(&["127.0.0.1:9", "unlocked"]);
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["lock"]["unlocked"], true, "{record:#}");
}
