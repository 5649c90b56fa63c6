//! Random layers, held against a model that is slow and obvious: each layer unpacked into a map of whole paths,
//! the maps laid over one another, and paths looked up by rewriting them as text.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::nodes::{Kind, ROOT};
use super::testing::{AMD64, Layer, judged, running, tree};
use archyard_model::Checks;

/// Folders that names are made of: few, so that entries meet.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// Enough for every link there may be; more is a loop.
const HOPS: usize = 40;

#[derive(Debug, Clone)]
enum Entry {
    File(String, u64),
    Folder(String),
    Symlink(String, String),
    HardLink(String, String),
    Whiteout(String),
    Opaque(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Thing {
    File(u64),
    Folder,
    Symlink(String),
    /// A hard link to nothing.
    Nothing,
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&NAMES[..]), 1..4).prop_map(|names| names.join("/"))
}

fn target() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c", "d", "..", "."]);
    (any::<bool>(), prop::collection::vec(name, 1..4))
        .prop_map(|(is_absolute, names)| format!("{}{}", if is_absolute { "/" } else { "" }, names.join("/")))
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        4 => (path(), 0_u64..1000).prop_map(|(path, size)| Entry::File(path, size)),
        2 => path().prop_map(Entry::Folder),
        3 => (path(), target()).prop_map(|(path, target)| Entry::Symlink(path, target)),
        2 => (path(), path()).prop_map(|(path, target)| Entry::HardLink(path, target)),
        2 => path().prop_map(Entry::Whiteout),
        1 => path().prop_map(Entry::Opaque),
    ]
}

/// Layers as tools write them: each path once, folders before what is in them, nothing below a file.
fn layer() -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::vec(entry(), 0..12).prop_map(|entries| {
        let mut kept: BTreeMap<String, bool> = BTreeMap::new();
        let mut layer = Vec::new();
        for entry in entries {
            let (path, holds) = match &entry {
                Entry::Folder(path) | Entry::Opaque(path) => (path.clone(), true),
                Entry::File(path, _)
                | Entry::Symlink(path, _)
                | Entry::HardLink(path, _)
                | Entry::Whiteout(path) => (path.clone(), false),
            };
            let above = parents(&path);
            let is_free = !kept.contains_key(&path)
                && above.iter().all(|folder| kept.get(folder).copied().unwrap_or(true))
                && (holds || !kept.keys().any(|other| other.starts_with(&format!("{path}/"))));
            if is_free {
                kept.insert(path, holds);
                layer.push(entry);
            }
        }
        layer
    })
}

/// `a`, `a/b` for `a/b/c`.
fn parents(path: &str) -> Vec<String> {
    path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect()
}

fn build(entries: &[Entry]) -> Layer {
    entries.iter().fold(Layer::default(), |layer, entry| match entry {
        Entry::File(path, size) => layer.file(path, 0o644, &vec![b'x'; usize::try_from(*size).unwrap()]),
        Entry::Folder(path) => layer.folder(path),
        Entry::Symlink(path, target) => layer.symlink(path, target),
        Entry::HardLink(path, target) => layer.hard_link(path, target),
        Entry::Whiteout(path) => {
            let (folder, name) = path
                .rsplit_once('/')
                .map_or((String::new(), path.as_str()), |(folder, name)| (format!("{folder}/"), name));
            layer.file(&format!("{folder}.wh.{name}"), 0, b"")
        }
        Entry::Opaque(path) => layer.file(&format!("{path}/.wh..wh..opq"), 0, b""),
    })
}

type Model = BTreeMap<String, Thing>;

fn remove_below(model: &mut Model, path: &str) {
    model.retain(|other, _| !other.starts_with(&format!("{path}/")));
}

/// Lays a layer over what is there, by the words of the specification.
fn lay(lower: &Model, entries: &[Entry]) -> Model {
    let mut model = lower.clone();
    for entry in entries {
        match entry {
            Entry::Whiteout(path) => {
                model.remove(path);
                remove_below(&mut model, path);
            }
            Entry::Opaque(path) => remove_below(&mut model, path),
            _ => {}
        }
    }
    let mut own = Model::new();
    for entry in entries {
        let (path, thing) = match entry {
            Entry::File(path, size) => (path, Some(Thing::File(*size))),
            Entry::Folder(path) | Entry::Opaque(path) => (path, Some(Thing::Folder)),
            Entry::Symlink(path, target) => (path, Some(Thing::Symlink(target.clone()))),
            Entry::HardLink(path, target) => {
                let found = own.get(target).or_else(|| lower.get(target)).cloned();
                (path, Some(found.filter(|thing| *thing != Thing::Folder).unwrap_or(Thing::Nothing)))
            }
            Entry::Whiteout(path) => (path, None),
        };
        for folder in parents(path) {
            own.insert(folder, Thing::Folder);
        }
        if let Some(thing) = thing {
            own.insert(path.clone(), thing);
        }
    }
    for (path, thing) in own {
        let was_folder = model.get(&path).is_none_or(|below| *below == Thing::Folder);
        if thing != Thing::Folder || !was_folder {
            remove_below(&mut model, &path);
        }
        model.insert(path, thing);
    }
    model
}

/// The path of the file that is found at a path; none where there is none.
fn find(model: &Model, path: &str) -> Option<String> {
    let mut path = path.to_owned();
    for _ in 0..=HOPS {
        match step(model, &path) {
            Step::Found(found) => return Some(found),
            Step::Again(next) => path = next,
            Step::Lost => return None,
        }
    }
    None
}

enum Step {
    Found(String),
    Again(String),
    Lost,
}

/// Walks a path from the root until the first link, and puts its target in.
fn step(model: &Model, path: &str) -> Step {
    let mut done: Vec<&str> = Vec::new();
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    for (at, name) in names.iter().enumerate() {
        let is_folder = |done: &[&str]| done.is_empty() || model.get(&done.join("/")) == Some(&Thing::Folder);
        if !is_folder(&done) {
            return Step::Lost;
        }
        if *name == ".." {
            done.pop();
            continue;
        }
        done.push(name);
        match model.get(&done.join("/")) {
            None => return Step::Lost,
            Some(Thing::Symlink(target)) => {
                done.pop();
                let from = if target.starts_with('/') { String::new() } else { done.join("/") };
                return Step::Again(format!("{from}/{target}/{}", names[at + 1..].join("/")));
            }
            Some(_) => {}
        }
    }
    Step::Found(done.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn trees_are_what_the_slow_model_says(layers in prop::collection::vec(layer(), 1..5)) {
        let built: Vec<Layer> = layers.iter().map(|layer| build(layer)).collect();
        let tree = tree(&built);
        let model = layers.iter().fold(Model::new(), |model, layer| lay(&model, layer));

        let mut found = Model::new();
        for (_, _, id) in tree.nodes.walk() {
            let path = String::from_utf8(tree.path(id)).unwrap()[1..].to_owned();
            found.insert(path, match tree.nodes.kind(id) {
                Kind::Folder { .. } => Thing::Folder,
                Kind::File(file) => Thing::File(file.size),
                Kind::Symlink(target) => Thing::Symlink(String::from_utf8(target.to_vec()).unwrap()),
                Kind::HardLink(_) => Thing::Nothing,
                other => panic!("{other:?} in a merged tree"),
            });
        }
        prop_assert_eq!(&found, &model);

        let mut paths: Vec<String> = model.keys().cloned().collect();
        paths.extend(NAMES.iter().flat_map(|one| NAMES.iter().map(move |two| format!("{one}/../{two}/{one}"))));
        for path in paths {
            let ours = tree.find(ROOT, path.as_bytes()).ok();
            let ours = ours.map(|id| String::from_utf8(tree.path(id)).unwrap()[1..].to_owned());
            prop_assert_eq!(ours, find(&model, &path), "{}", path);
        }
    }

    #[test]
    fn whatever_the_links_every_lookup_ends(
        links in prop::collection::vec((path(), target()), 1..12),
        command in path(),
    ) {
        let layers: Vec<Layer> = links.iter().map(|(path, target)| Layer::default().symlink(path, target)).collect();
        let script = Layer::default().file("a/a", 0o755, format!("#!/{command}\n").as_bytes()).program("d", AMD64);
        let layers: Vec<Layer> = std::iter::once(script).chain(layers).collect();
        // To come back is all that is asked.
        drop(judged(running(&[&format!("/{command}"), "x"]), &layers, &Checks::default()));
    }
}
