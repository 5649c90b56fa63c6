//! `.dockerignore` selects what Docker's own client selects.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use archyard_tests::farm::finish;
use archyard_tests::{Farm, Project};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use xtask::buildx::Buildx;

/// Random trees that are built by both. `plan/src/dockerignore` has hundreds that were recorded.
const TREES: usize = 50;
/// A busy machine compares fewer.
const BUDGET: Duration = Duration::from_secs(120);

/// Paths beneath a folder.
fn listed(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            found.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            }
        }
    }
    found
}

/// What both clients give of a context: the farm's, then Docker's.
fn built(farm: &Farm, ignore: &str, paths: &[Vec<String>]) -> [BTreeSet<String>; 2] {
    let project = Project::new("FROM scratch\nCOPY . /\n").file("Dockerfile.dockerignore", ignore);
    let context = project.join("context");
    for path in paths {
        let path = path.iter().fold(context.clone(), |directory, name| directory.join(name));
        // A path through what is a file already is left out, and so is one that is a directory already.
        if std::fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() {
            std::fs::write(path, "").unwrap();
        }
    }
    let file = project.join("Dockerfile");
    let file = file.to_str().unwrap();
    let platform = farm.env.native[0].to_string();
    let common = ["--platform", &platform, "-f", file, "-o"];
    let ours = project.join("ours");
    let output = format!("type=local,dest={}", ours.display());
    farm.build(&context, &[&common[..], &[output.as_str()]].concat()).expect(0);
    let theirs = project.join("theirs");
    let output = format!("type=local,dest={}", theirs.display());
    let buildx = Buildx::new().unwrap();
    finish(buildx.build(&farm.env.engines[0].address).unwrap().args(common).arg(output).arg(&context))
        .expect(0);
    [listed(&ours), listed(&theirs)]
}

fn line() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        4 => "[ab]{1,2}",
        2 => Just("*".to_owned()),
        2 => Just("**".to_owned()),
        1 => "[ab]\\*|\\*[ab]|\\?|\\[ab\\]|\\[\\^a\\]\\*|[ab]\\*\\*|\\*\\*[ab]",
    ];
    let path = proptest::collection::vec(segment, 1..5).prop_map(|segments| segments.join("/"));
    (prop_oneof![3 => Just(""), 2 => Just("!")], path).prop_map(|(sign, path)| format!("{sign}{path}"))
}

#[test]
fn a_random_tree_is_selected_as_by_the_engines_own_client() {
    let farm = Farm::start(1);
    let mut runner = TestRunner::default();
    let lines = proptest::collection::vec(line(), 1..6);
    let paths = proptest::collection::vec(proptest::collection::vec("[ab]{1,2}", 1..5), 2..14);
    let case = (lines, paths);
    let started = Instant::now();
    for _ in (0..TREES).take_while(|number| *number < 5 || started.elapsed() < BUDGET) {
        let (lines, paths) = case.new_tree(&mut runner).unwrap().current();
        let ignore = lines.join("\n");
        let [ours, theirs] = built(&farm, &ignore, &paths);
        assert_eq!(ours, theirs, "{ignore:?} {paths:?}");
    }
}

#[test]
fn a_line_that_was_not_evaluated_for_a_directory_brings_back_nothing_in_it() {
    let farm = Farm::start(1);
    let path = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    let paths = [path("packages/app/node_modules/x"), path("packages/app/src"), path("node_modules/y")];
    let [ours, theirs] = built(&farm, "**/node_modules\n!packages/*\n", &paths);
    assert_eq!(ours, BTreeSet::from(["packages", "packages/app", "packages/app/src"].map(str::to_owned)));
    assert_eq!(ours, theirs);
}
