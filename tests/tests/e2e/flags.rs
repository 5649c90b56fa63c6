//! What the command line adds to a build, and how it tells of it: trials, cross builds, reruns, candidates, a farm that
//! stays away.

use archyard_tests::farm::{PATIENCE, finish};
use archyard_tests::process::wait_for;
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};
use serde_json::Value;
use xtask::oci;

/// The second platform's step fails, the first one's does not.
fn half_broken(farm: &Farm) -> (Project, String, String) {
    let [good, bad, ..] = farm.env.native.as_slice() else { panic!("two native platforms are needed") };
    let (_, architecture) =
        bad.to_string().split_once('/').map(|(os, rest)| (os.to_owned(), rest.to_owned())).unwrap();
    let project = Project::new(&format!(
        "FROM BASE\nARG TARGETARCH\nRUN echo {} && if [ $TARGETARCH = {architecture} ]; then exit 3; fi\nCMD [\"true\"]\n",
        unique("trial")
    ));
    (project, good.to_string(), bad.to_string())
}

#[test]
fn a_platform_on_trial_that_fails_is_told_and_fails_nothing() {
    let farm = Farm::with(1, &[], &["--slots", "2"]);
    let (project, good, bad) = half_broken(&farm);
    let repository = unique("trial");
    let name = format!("{}/{repository}:1", farm.env.registry);
    let metadata = project.join("metadata.json");
    let metadata = metadata.to_str().unwrap();
    let flags = ["--platform", &good, "--trial", &bad, "--push", "-t", &name, "--metadata-file", metadata];
    let outcome = farm.build(project.path(), &flags).expect(0).says(&[
        &format!("FAILED ON TRIAL: {bad} on worker-1: "),
        "(on trial)",
        "succeeded in",
        "; 1 platform on trial failed",
    ]);
    assert!(!outcome.stderr.contains("ERROR: linux"), "{}", outcome.stderr);

    let entries = oci::get_manifest(&farm.env.registry, &repository, "1").unwrap().json["manifests"].clone();
    assert_eq!(entries.as_array().unwrap().len(), 1, "{entries}");
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["state"], "succeeded");
    assert_eq!((&record["jobs"][0]["trial"], &record["jobs"][1]["trial"]), (&false.into(), &true.into()));
    assert_eq!(record["jobs"][1]["state"], "failed");
    let metadata: Value = serde_json::from_slice(&std::fs::read(metadata).unwrap()).unwrap();
    assert_eq!(metadata["archyard.platforms"][good.as_str()]["trial"], false);
    let shown = farm.run(&["show", &farm.newest_build().unwrap()]).expect(0).stdout;
    assert!(shown.contains(&format!("{bad} failed (on trial)")), "{shown}");
    let listed = farm.run(&["ps", "--all"]).expect(0).stdout;
    assert!(listed.contains(&format!("{good},{bad} (trial)")), "{listed}");
    assert!(listed.contains("succeeded, 1 trial failed"), "{listed}");
}

#[test]
fn what_was_built_across_says_so_live_and_in_the_record() {
    let farm = Farm::start(1);
    let own = farm.env.native[0].to_string();
    let other = "linux/s390x";
    let project = Project::new(&format!(
        "FROM --platform=$BUILDPLATFORM BASE AS build\nRUN echo {} > /made\nFROM scratch\nCOPY --from=build /made /made\n",
        unique("cross")
    ));
    let platforms = format!("{own},{other}");
    let flags = ["--platform", &platforms, "--cross", other, "--data-only"];
    let said = format!("built on {own}");
    farm.build(project.path(), &flags).expect(0).says(&[&said]);
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["jobs"][0]["cross"], Value::Null);
    assert_eq!(record["jobs"][1]["cross"], own.as_str());
    let shown = farm.run(&["show", &farm.newest_build().unwrap()]).expect(0).stdout;
    assert!(shown.contains(&format!("{other} succeeded ({said})")), "{shown}");
    let outcome = finish(farm.command().args(["build", "--json"]).args(flags).arg(project.path())).expect(0);
    let events = outcome.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ended: Vec<Value> = events.filter(|event| event["type"] == "platform_ended").collect();
    let cross = ended.iter().find(|event| event["platform"] == other).unwrap();
    assert_eq!(cross["cross"], own.as_str());
}

#[test]
fn a_rerun_builds_what_failed_and_takes_over_the_rest() {
    let farm = Farm::start(1);
    let [good, bad, ..] = farm.env.native.as_slice() else { panic!("two native platforms are needed") };
    let marker = unique("rerun");
    // The first try leaves a file for the second.
    let project = Project::new(&format!(
        "FROM BASE\nARG TARGETPLATFORM\nRUN --mount=type=cache,id={marker},target=/c \\\n  \
         [ $TARGETPLATFORM = {good} ] || [ -e /c/seen ] || ( touch /c/seen && exit 3 )\nCMD [\"true\"]\n"
    ));
    let name = format!("{}/{marker}:1", farm.env.registry);
    let platforms = format!("{good},{bad}");
    farm.build(project.path(), &["--platform", &platforms, "--push", "-t", &name]).expect(1);
    let first = farm.newest_build().unwrap();

    farm.run(&["rerun", &first]).expect(2).says(&["rerun: say --failed", "archyard build"]);
    assert_eq!(farm.newest_build().unwrap(), first);
    let outcome = farm
        .run(&["rerun", "--failed", "--progress", "plain", &first])
        .expect(0)
        .says(&["(taken over)", &format!("; a rerun of {first}")]);
    let index = oci::get_manifest(&farm.env.registry, &marker, "1").unwrap();
    assert_eq!(index.json["manifests"].as_array().unwrap().len(), 2);
    assert!(outcome.stdout.contains(&oci::digest(&index.bytes)), "{}", outcome.stdout);
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(
        (&record["origin"]["kind"], &record["origin"]["build"]),
        (&"rerun".into(), &first.as_str().into())
    );
    assert_eq!((&record["jobs"][0]["carried"], &record["jobs"][1]["carried"]), (&true.into(), &false.into()));
    farm.run(&["rerun", "--failed", &farm.newest_build().unwrap()])
        .expect(1)
        .says(&["nothing of it is left"]);
}

#[test]
fn a_candidate_is_promoted_with_its_very_digest() {
    let farm = Farm::start(1);
    let marker = unique("candidate");
    let (registry, own) = (farm.env.registry.clone(), farm.env.native[0].to_string());
    let project = Project::new(&format!("FROM BASE\nRUN echo {marker}\nCMD [\"true\"]\n"));
    let (staging, name) = (format!("{registry}/staging-{marker}"), format!("{registry}/{marker}:1"));
    let flags = ["--platform", &own, "--candidate", &staging, "-t", &name];
    let outcome = farm.build(project.path(), &flags).expect(0);
    let candidate = farm.newest_build().unwrap();
    let kept = format!("{staging}:candidate-{}", candidate.to_lowercase());
    assert!(outcome.stdout.contains(&format!("candidate: {kept}")), "{}", outcome.stdout);
    let next = format!("next: archyard promote {candidate}, which gives it {name}");
    assert!(outcome.stderr.ends_with(&format!("{next}\n")), "{}", outcome.stderr);
    assert!(oci::get_manifest(&registry, &marker, "1").is_err(), "a candidate got its tag");
    let shown = farm.run(&["show", &candidate]).expect(0).stdout;
    assert!(shown.contains(&kept) && shown.contains(&format!("archyard promote {candidate}")), "{shown}");

    let outcome = farm.run(&["promote", "-q", &candidate[18..]]).expect(0);
    let index = oci::get_manifest(&registry, &marker, "1").unwrap();
    assert_eq!(outcome.stdout.trim(), oci::digest(&index.bytes));
    let promotion = farm.newest_build().unwrap();
    assert_eq!(farm.show(&promotion)["origin"]["kind"], "promotion");
    let other = format!("{registry}/{marker}:other");
    let said = format!("; a promotion of {candidate}");
    farm.run(&["promote", "--progress", "plain", "-t", &other, &candidate]).expect(0).says(&[&said]);
    assert_eq!(oci::get_manifest(&registry, &marker, "other").unwrap().bytes, index.bytes);

    farm.run(&["promote", "-t", &other, &promotion]).expect(1).says(&["is no candidate"]);
    farm.run(&["promote", "-t", "UPPER/x", &candidate]).expect(2).says(&["--tag", "UPPER/x", "lowercase"]);
}

#[test]
fn a_candidate_without_tags_is_promoted_only_with_some() {
    let farm = Farm::start(1);
    let staging = format!("{}/{}", farm.env.registry, unique("untagged"));
    let own = farm.env.native[0].to_string();
    let project = Project::new("FROM BASE\nCMD [\"true\"]\n");
    farm.build(project.path(), &["--platform", &own, "--candidate", &staging]).expect(0).says(&["-t NAME"]);
    let candidate = farm.newest_build().unwrap();
    farm.run(&["promote", &candidate]).expect(2).says(&[
        "--tag: candidate",
        &candidate,
        "-t REGISTRY/NAME:TAG",
    ]);
}

#[test]
fn a_client_whose_farm_stays_away_leaves_and_says_how_to_follow() {
    let mut farm = Farm::start(1);
    let own = farm.env.native[0].to_string();
    let project =
        Project::new(&format!("FROM BASE\nRUN echo {} && sleep 8\nCMD [\"true\"]\n", unique("away")));
    let out = tempfile::tempdir().unwrap();
    let flags = ["--platform", &own, "--farm-timeout", "2s"];
    let mut child = farm.start_build(project.path(), &flags, out.path());
    let said = || std::fs::read_to_string(out.path().join("stderr")).unwrap_or_default();
    wait_for("the build runs", PATIENCE, || said().contains("started on").then_some(()));
    let build = farm.newest_build().unwrap();
    farm.kill_scheduler();
    assert_eq!(child.wait().unwrap().code(), Some(3), "{}", said());
    let last = said().lines().last().unwrap_or_default().to_owned();
    for words in
        ["has been away for 2s", &format!("archyard logs -f {build}"), &format!("archyard show {build}")]
    {
        assert!(last.contains(words), "{words:?} is not in {last:?}");
    }
    farm.start_scheduler();
    farm.run(&["logs", "-f", &build]).expect(0);
    assert_eq!(farm.show(&build)["state"], "succeeded");
}

#[test]
fn a_failed_build_leaves_no_result_of_an_earlier_one() {
    let farm = Farm::start(1);
    let project = Project::new(&format!("FROM BASE\nARG CODE\nRUN echo {} && exit $CODE\n", unique("stale")));
    let (iidfile, metadata) = (project.join("out/iid"), project.join("out/metadata.json"));
    std::fs::create_dir(project.join("out")).unwrap();
    project.write(".dockerignore", b"out\n");
    let (iid, meta) = (iidfile.to_str().unwrap(), metadata.to_str().unwrap());
    let build = |code: &str| {
        let argument = format!("CODE={code}");
        farm.build(project.path(), &["--build-arg", &argument, "--iidfile", iid, "--metadata-file", meta])
    };
    build("0").expect(0);
    assert!(iidfile.exists() && metadata.exists());
    build("3").expect(1);
    assert!(!iidfile.exists() && !metadata.exists());

    let folder = project.join("out");
    farm.build(project.path(), &["--iidfile", folder.to_str().unwrap()])
        .expect(2)
        .says(&["--iidfile", "this is a directory; name a file"]);
}
