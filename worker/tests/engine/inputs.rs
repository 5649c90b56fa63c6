//! What the planner derives from a Dockerfile against what BuildKit asks for, and what happens to a question that a part
//! of the source does not answer.

use std::collections::BTreeSet;

use archyard_model::FailureClass::Infrastructure;
use archyard_model::Inputs;
use archyard_plan::dockerfile::{Question, bases};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::fixture::{Kind, Tree, build, coordinates, engine, request};

/// Random Dockerfiles for each Engine.
const DOCKERFILES: usize = 40;

/// The context of all of them.
fn tree() -> crate::fixture::TreeBuilder {
    Tree::builder()
        .file("a", b"a")
        .directory("b", 0o755)
        .file("b/x", b"x")
        .file("b/y", b"y")
        .file("c.txt", b"c")
        .file("d.txt", b"d")
        .symlink("l", "b")
}

/// One instruction of a stage. `@` stands for an earlier stage.
fn instruction() -> impl Strategy<Value = String> {
    let path = prop::sample::select(vec![
        "a",
        "b",
        "b/",
        "/b/x",
        "./c.txt",
        "b/../a",
        "*.txt",
        "b/*",
        "l/y",
        "l",
        "[cd].txt",
        "$V",
        "${W}/x",
        "${V:-d.txt}",
        ".",
    ]);
    let plain = prop::sample::select(vec!["a", "b", "b/x", "l/y", ""]);
    prop_oneof![
        6 => (path.clone(), path.clone()).prop_map(|(one, two)| format!("COPY {one} {two} /d/")),
        3 => path.clone().prop_map(|path| format!("COPY [\"{path}\", \"/d/\"]")),
        3 => path.clone().prop_map(|path| format!("ADD {path} /d/")),
        2 => path.prop_map(|path| format!("ONBUILD COPY {path} /d/")),
        2 => Just("ARG V=b".to_owned()),
        2 => Just("ARG V".to_owned()),
        2 => Just("ENV V=c.txt W=b".to_owned()),
        3 => Just("COPY --from=@ / /s/".to_owned()),
        2 => plain.prop_map(|path| format!("RUN --mount=type=bind,source={path},target=/m true")),
        1 => Just("RUN --mount=type=cache,target=/c true".to_owned()),
        1 => Just("RUN --mount=type=tmpfs,target=/t true".to_owned()),
        1 => Just("RUN true".to_owned()),
    ]
}

/// Stages that start from an image, from nothing, or from each other.
fn dockerfile() -> impl Strategy<Value = String> {
    let stage = (0..4_usize, prop::collection::vec(instruction(), 0..4));
    prop::collection::vec(stage, 1..4).prop_map(|stages| {
        let base = coordinates().base.reference;
        let mut text = String::from("ARG V=a\n");
        for (at, (start, instructions)) in stages.iter().enumerate() {
            let earlier = at.checked_sub(1 + start % 2).map(|earlier| format!("s{earlier}"));
            let from = match (start, &earlier) {
                (0, _) | (1, None) => "scratch",
                (1, Some(earlier)) => earlier,
                _ => &base,
            };
            text.push_str(&format!("FROM {from} AS s{at}\nENV W=b\nARG V\n"));
            for instruction in instructions {
                let copies_stage = instruction.contains('@');
                // Nothing runs in an empty image.
                let runs = instruction.starts_with("RUN") && from == "scratch";
                match &earlier {
                    None if copies_stage => {}
                    _ if runs => {}
                    earlier => {
                        let stage = earlier.as_deref().unwrap_or_default();
                        text.push_str(&format!("{}\n", instruction.replace('@', stage)));
                    }
                }
            }
        }
        text
    })
}

fn derived(text: &str) -> Inputs {
    let question = Question {
        name: "Dockerfile",
        platforms: &["linux/amd64".parse().unwrap()],
        cross: &BTreeSet::new(),
        target: None,
        build_args: &Default::default(),
    };
    bases(text.as_bytes(), &question).unwrap().inputs
}

async fn buildkit_asks_for_the_derived_inputs(on: Kind) {
    let engine = engine(on);
    let mut runner = TestRunner::default();
    let (mut some, mut all, mut none) = (0, 0, 0);
    for _ in 0..DOCKERFILES {
        let text = dockerfile().new_tree(&mut runner).unwrap().current();
        let inputs = derived(&text);
        let tree = tree().done();
        let ended = build(&engine, request(&text), tree.clone()).await;
        let asked = tree.questions();
        match asked.first() {
            Some(paths) if paths.is_empty() => {
                assert!(inputs.is_everything(), "BuildKit asks for everything, not for {inputs:?}:\n{text}");
                all += 1;
            }
            Some(paths) => {
                let asked = Inputs::of_paths(paths.iter().cloned()).unwrap();
                assert_eq!(inputs, asked, "{text}");
                some += 1;
            }
            // A build that fails before it reads anything says nothing.
            None if ended.result.is_ok() => {
                assert_eq!(inputs, Inputs::Paths(BTreeSet::new()), "BuildKit asks for nothing:\n{text}");
                none += 1;
            }
            None => {}
        }
    }
    assert!(
        some > DOCKERFILES / 5 && all > 0 && none > 0,
        "{some} parts, {all} wholes and {none} without context"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_buildkit_asks_for_the_derived_inputs() {
    buildkit_asks_for_the_derived_inputs(Kind::Debian12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_buildkit_asks_for_the_derived_inputs() {
    buildkit_asks_for_the_derived_inputs(Kind::SidContainerd).await;
}

async fn a_question_that_a_part_does_not_answer_fails_the_attempt(on: Kind) {
    for (text, inputs, code) in [
        ("FROM scratch\nCOPY a c.txt /\n", &["a"][..], Some("context_incomplete")),
        ("FROM scratch\nCOPY . /\n", &["a"], Some("context_incomplete")),
        ("FROM scratch\nCOPY *.txt /\n", &["c.txt"], Some("context_incomplete")),
        ("FROM scratch\nCOPY a b/x /\n", &["a", "b"], None),
        ("FROM scratch\nCOPY a /\n", &["a", "c.txt"], None),
    ] {
        let part = Inputs::of_paths(inputs.iter().map(|path| (*path).to_owned())).unwrap();
        let ended = build(&engine(on), request(text), tree().part(part)).await;
        match code {
            None => assert!(ended.result.is_ok(), "{text}: {:?}", ended.result),
            Some(code) => {
                let failure = ended.failure();
                assert_eq!(
                    (failure.class, failure.code.as_str()),
                    (Infrastructure, code),
                    "{text}: {failure:?}"
                );
            }
        }
    }
}

on_every_engine!(a_question_that_a_part_does_not_answer_fails_the_attempt);
