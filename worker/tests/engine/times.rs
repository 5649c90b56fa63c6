//! Modification times are those of the source, and equal times never hide other content.

use std::collections::BTreeMap;
use std::sync::Arc;

use archyard_worker::engine::BuildRequest;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::fixture::{Kind, Tree, build, dockerfile, engine, request, unique};

on_every_engine! {
    a_step_sees_the_sources_times_to_the_nanosecond,
    random_edits_under_frozen_times_are_never_missed,
}

async fn a_step_sees_the_sources_times_to_the_nanosecond(on: Kind) {
    let second = 1_700_000_000;
    let tree = Tree::builder()
        .busybox()
        .directory("d", 0o755)
        .file("d/third", b"3")
        .modified(second, 3)
        .file("d/first", b"1")
        .modified(second, 1)
        .file("d/second", b"2")
        .modified(second, 2)
        .file("d/epoch", b"0")
        .modified(0, 0)
        .file("d/before", b"b")
        .modified(-2, 750_000_000)
        .hardlink("d/twin", "d/third")
        .modified(second, 3)
        .symlink("d/link", "first")
        .modified(1_000_000_000, 999_999_999)
        .file("salt", unique("salt").as_bytes())
        .done();
    let text = dockerfile(
        "COPY d salt /d/\nRUN cd /d && stat -c '%n %y' first second third twin epoch before link\n",
    );
    let ended = build(&engine(on), request(&text), tree).await;
    ended.succeeded();
    let want = "first 2023-11-14 22:13:20.000000001 +0000\n\
                second 2023-11-14 22:13:20.000000002 +0000\n\
                third 2023-11-14 22:13:20.000000003 +0000\n\
                twin 2023-11-14 22:13:20.000000003 +0000\n\
                epoch 1970-01-01 00:00:00.000000000 +0000\n\
                before 1969-12-31 23:59:58.750000000 +0000\n\
                link 2001-09-09 01:46:40.999999999 +0000\n";
    assert_eq!(ended.output(1), want);
}

/// A file of the model: one of few contents of equal length, few modes, attributes and times, so that edits often change
/// one and not the other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    content: u8,
    mode: u32,
    capability: Option<u8>,
    nanoseconds: u32,
}

#[derive(Debug, Clone)]
enum Edit {
    Content(usize, u8),
    Mode(usize, bool),
    Capability(usize, Option<u8>),
    Time(usize, u32),
    Rename(usize, usize),
    Swap(usize, usize),
    Link(usize, usize),
    Remove(usize),
    Add(usize, u8),
}

const NAMES: [&str; 6] = ["a", "b", "d/a", "d/b", "d/c", "e"];

fn edit() -> impl Strategy<Value = Edit> {
    let (name, letter) = (0..NAMES.len(), b'0'..b'3');
    prop_oneof![
        4 => (name.clone(), letter.clone()).prop_map(|(at, content)| Edit::Content(at, content)),
        1 => (name.clone(), any::<bool>()).prop_map(|(at, x)| Edit::Mode(at, x)),
        2 => (name.clone(), prop::option::of(0_u8..2)).prop_map(|(at, x)| Edit::Capability(at, x)),
        1 => (name.clone(), 0_u32..2).prop_map(|(at, x)| Edit::Time(at, x)),
        1 => (name.clone(), name.clone()).prop_map(|(a, b)| Edit::Rename(a, b)),
        2 => (name.clone(), name.clone()).prop_map(|(a, b)| Edit::Swap(a, b)),
        2 => (name.clone(), name.clone()).prop_map(|(a, b)| Edit::Link(a, b)),
        1 => name.clone().prop_map(Edit::Remove),
        2 => (name, letter).prop_map(|(at, content)| Edit::Add(at, content)),
    ]
}

/// Names, and which file each is: two names may be of one file.
#[derive(Debug, Clone, Default)]
struct Model {
    files: Vec<File>,
    names: BTreeMap<&'static str, usize>,
}

impl Model {
    fn apply(&mut self, edit: &Edit) {
        let of = |model: &Self, at: usize| model.names.get(NAMES[at]).copied();
        match *edit {
            Edit::Content(at, content) => {
                if let Some(file) = of(self, at) {
                    self.files[file].content = content;
                }
            }
            Edit::Mode(at, executable) => {
                if let Some(file) = of(self, at) {
                    self.files[file].mode = if executable { 0o755 } else { 0o644 };
                }
            }
            Edit::Capability(at, capability) => {
                if let Some(file) = of(self, at) {
                    self.files[file].capability = capability;
                }
            }
            Edit::Time(at, nanoseconds) => {
                if let Some(file) = of(self, at) {
                    self.files[file].nanoseconds = nanoseconds;
                }
            }
            Edit::Rename(from, to) => {
                if let Some(file) = self.names.remove(NAMES[from]) {
                    self.names.insert(NAMES[to], file);
                }
            }
            Edit::Swap(one, two) => {
                if let (Some(a), Some(b)) = (of(self, one), of(self, two)) {
                    self.names.insert(NAMES[one], b);
                    self.names.insert(NAMES[two], a);
                }
            }
            Edit::Link(from, to) => {
                if let Some(file) = of(self, from) {
                    self.names.insert(NAMES[to], file);
                }
            }
            Edit::Remove(at) => {
                self.names.remove(NAMES[at]);
            }
            Edit::Add(at, content) => {
                self.files.push(File { content, mode: 0o644, capability: None, nanoseconds: 0 });
                self.names.insert(NAMES[at], self.files.len() - 1);
            }
        }
    }

    fn tree(&self, salt: &str) -> Arc<Tree> {
        let mut tree = Tree::builder().file("salt", salt.as_bytes()).directory("d", 0o755);
        let mut first: BTreeMap<usize, &str> = BTreeMap::new();
        // In the order of a walk: the first name of a file is the file itself.
        for name in ["a", "b", "d/a", "d/b", "d/c", "e"] {
            let Some(at) = self.names.get(name) else { continue };
            let file = &self.files[*at];
            tree = match first.get(at) {
                Some(target) => tree.hardlink(name, target).modified(1_700_000_000, file.nanoseconds),
                None => {
                    first.insert(*at, name);
                    let content = vec![file.content; 64];
                    let made = tree.file_with_mode(name, &content, file.mode);
                    let made = made.modified(1_700_000_000, file.nanoseconds);
                    match file.capability {
                        Some(bit) => {
                            let value = [&[1, 0, 0, 2, 1 << bit][..], &[0; 15]].concat();
                            made.xattr("security.capability", &value)
                        }
                        None => made,
                    }
                }
            };
        }
        tree.done()
    }
}

/// After each edit the image is the one that an Engine makes which never saw this context.
async fn random_edits_under_frozen_times_are_never_missed(on: Kind) {
    const EDITS: usize = 40;
    let mut runner = TestRunner::default();
    let mut model = Model::default();
    for at in 0..NAMES.len() {
        model.apply(&Edit::Add(at, b'0'));
    }
    let salt = unique("salt");
    let kept = request("FROM scratch\nCOPY . /c\n");
    let mut history = Vec::new();
    for _ in 0..EDITS {
        let edit = edit().new_tree(&mut runner).unwrap().current();
        model.apply(&edit);
        history.push(edit);
        let tree = model.tree(&salt);
        let again = BuildRequest { build_ref: unique("build"), ..kept.clone() };
        let built = build(&engine(on), again.clone(), tree.clone()).await.succeeded().image;
        let fresh = BuildRequest { build_ref: unique("build"), shared_key: unique("key"), ..again };
        let want = build(&engine(on), fresh, tree).await.succeeded().image;
        assert_eq!(built, want, "after {history:#?}\n{model:#?}");
    }
}
