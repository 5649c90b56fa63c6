//! A new platform proves itself before anything depends on it.

use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};
use xtask::images::{Entry, Image, tar};
use xtask::oci;

#[test]
fn a_trial_that_nobody_runs_neither_blocks_nor_enters_the_index() {
    let farm = Farm::start(1);
    let (own, foreign) = (farm.env.native[0].to_string(), farm.env.foreign[0].to_string());
    let repository = unique("trial-absent");
    let name = format!("{}/{repository}:1", farm.env.registry);
    let project = Project::new(&format!("FROM BASE\nRUN echo {repository}\n"));
    farm.build(project.path(), &["--platform", &own, "--trial", &foreign, "--push", "-t", &name]).expect(0);
    let index = oci::get_manifest(&farm.env.registry, &repository, "1").unwrap().json;
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!((entries.len(), &entries[0]["platform"]), (1, &farm.env.native[0].json()));
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!((&record["state"], &record["failure"]), (&"succeeded".into(), &serde_json::Value::Null));
    assert_eq!(record["jobs"][1]["state"], "failed");
    assert_eq!(record["jobs"][1]["failure"]["code"], "no_native_worker", "{record:#}");
    assert!(record["jobs"][1]["attempts"].as_array().unwrap().is_empty());
}

#[test]
fn a_base_without_the_platform_on_trial_fails_that_trial_alone() {
    let farm = Farm::start(1);
    let own = &farm.env.native[0];
    let repository = unique("base/trial");
    let mut image = Image::new(own, tar(&[("word", Entry::File(0o644, b"x"))]).unwrap());
    image.config["config"] = serde_json::json!({});
    oci::push_index(&farm.env.registry, &repository, "1", &[image]).unwrap();
    let base = format!("{}/{repository}:1", farm.env.registry);
    let project = Project::new(&format!("FROM {base}\nCOPY Dockerfile /\n"));
    let (own, foreign) = (own.to_string(), farm.env.foreign[0].to_string());
    farm.build(project.path(), &["--platform", &own, "--trial", &foreign, "--data-only"]).expect(0);
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!((&record["jobs"][0]["state"], &record["state"]), (&"succeeded".into(), &"succeeded".into()));
    assert_eq!(record["jobs"][1]["failure"]["code"], "base_lacks_platform", "{record:#}");
}

#[test]
fn the_image_id_of_one_platform_beside_a_trial_is_that_platforms() {
    let farm = Farm::with(1, &[], &["--slots", "2"]);
    let [own, trial] = [0, 1].map(|index| farm.env.native[index].to_string());
    let project = Project::new("FROM BASE\nARG TARGETARCH\nRUN echo $TARGETARCH > /arch\nCMD [\"true\"]\n");
    let file = project.join("iid");
    let flags = ["--platform", &own, "--trial", &trial, "--iidfile", file.to_str().unwrap()];
    farm.build(project.path(), &flags).expect(0);
    let record = farm.show(&farm.newest_build().unwrap());
    let id = |job: usize| record["jobs"][job]["result"]["config_digest"].as_str().unwrap();
    assert_ne!(id(0), id(1), "{record:#}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), id(0));
}
