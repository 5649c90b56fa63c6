//! Which part of a context BuildKit asked for.
//!
//! A Dockerfile that copies single paths needs no more of the context than those. What is chosen here may be
//! more than what BuildKit's own client would send, never less: where a pattern is more than a plain path, the
//! whole directory it lies in is sent.

use archyard_model::context::walk_order;
use archyard_model::{ContextEntry, EntryKind};

/// As many links as Linux follows, several times over.
const LINKS: usize = 255;

/// The entries that `patterns` need, as ascending positions; none where that is all of them.
pub(super) fn select(entries: &[ContextEntry], patterns: &[Vec<u8>]) -> Option<Vec<u32>> {
    if patterns.is_empty() {
        return None;
    }
    let mut selection = Selection { entries, chosen: vec![false; entries.len()] };
    for pattern in patterns {
        if !selection.follow(pattern) {
            return None;
        }
    }
    selection.add_hardlink_targets();
    let chosen = selection.chosen.iter().enumerate().filter(|(_, chosen)| **chosen);
    chosen.map(|(at, _)| u32::try_from(at).ok()).collect()
}

struct Selection<'a> {
    entries: &'a [ContextEntry],
    chosen: Vec<bool>,
}

impl Selection<'_> {
    /// Chooses what a path leads to, and the links on the way. False where that is everything.
    fn follow(&mut self, pattern: &[u8]) -> bool {
        let mut rest: Vec<Vec<u8>> = names(pattern).rev().collect();
        let mut here: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == b".." {
                here.truncate(here.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                continue;
            }
            if name.iter().any(|byte| b"*?[\\".contains(byte)) {
                break;
            }
            let next = join(&here, &name);
            let Some(at) = self.find(&next) else { return true };
            if let EntryKind::Symlink { target } = &self.entries[at].kind {
                self.choose_alone(at);
                links += 1;
                if links > LINKS {
                    return true;
                }
                if target.starts_with(b"/") {
                    here.clear();
                }
                rest.extend(names(target).rev());
            } else {
                here = next;
            }
        }
        if here.is_empty() {
            return false;
        }
        self.choose_whole(&here);
        true
    }

    fn find(&self, path: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|entry| walk_order(&entry.path, path)).ok()
    }

    /// An entry and the directories that hold it.
    fn choose_alone(&mut self, at: usize) {
        self.chosen[at] = true;
        let path = &self.entries[at].path;
        for end in path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end) {
            if let Some(parent) = self.find(&path[..end]) {
                self.chosen[parent] = true;
            }
        }
    }

    /// An entry, all it holds, and the directories that hold it.
    fn choose_whole(&mut self, path: &[u8]) {
        let Some(start) = self.find(path) else { return };
        self.choose_alone(start);
        let inside = join(path, b"");
        let held =
            self.entries[start + 1..].iter().take_while(|entry| entry.path.starts_with(&inside)).count();
        self.chosen[start + 1..=start + held].fill(true);
    }

    /// A hard link means nothing without the file it names.
    fn add_hardlink_targets(&mut self) {
        for at in 0..self.entries.len() {
            if let (true, EntryKind::Hardlink { target }) = (self.chosen[at], &self.entries[at].kind)
                && let Some(target) = self.find(target)
            {
                self.choose_alone(target);
            }
        }
    }
}

fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec)
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archyard_model::{Blake3, ContextManifest};

    fn tree() -> ContextManifest {
        let file = |path: &str| ContextEntry {
            path: path.into(),
            mode: 0o644,
            modified_s: 0,
            modified_ns: 0,
            xattrs: Vec::new(),
            kind: EntryKind::File { size: 0, digest: Blake3::of(b"") },
        };
        let with = |path: &str, kind| ContextEntry { kind, ..file(path) };
        let link = |path: &str, target: &str| with(path, EntryKind::Symlink { target: target.into() });
        ContextManifest::new(vec![
            with("a", EntryKind::Directory),
            file("a/x"),
            with("a/y", EntryKind::Hardlink { target: b"a/x".to_vec() }),
            with("a-b", EntryKind::Directory),
            file("a-b/z"),
            link("up", "a-b/../a"),
            link("root", "/a-b"),
            link("loop", "loop"),
            link("gone", "nothing/there"),
        ])
        .unwrap()
    }

    fn selected(patterns: &[&str]) -> Option<Vec<String>> {
        let (tree, patterns) = (tree(), patterns.iter().map(|p| p.as_bytes().to_vec()).collect::<Vec<_>>());
        let chosen = select(tree.entries(), &patterns)?;
        let path = |at: &u32| String::from_utf8(tree.entries()[*at as usize].path.clone()).unwrap();
        Some(chosen.iter().map(path).collect())
    }

    #[test]
    fn plain_paths_bring_their_directories_and_what_they_hold() {
        assert_eq!(selected(&["a/x"]).unwrap(), ["a", "a/x"]);
        assert_eq!(selected(&["/a-b/"]).unwrap(), ["a-b", "a-b/z"]);
        assert_eq!(selected(&["./a/../a-b"]).unwrap(), ["a-b", "a-b/z"]);
        assert!(selected(&[".dockerignore"]).unwrap().is_empty());
    }

    #[test]
    fn links_are_followed_and_hard_links_bring_their_file() {
        assert_eq!(selected(&["up/x"]).unwrap(), ["a", "a/x", "up"]);
        assert_eq!(selected(&["root/z"]).unwrap(), ["a-b", "a-b/z", "root"]);
        assert_eq!(selected(&["a/y"]).unwrap(), ["a", "a/x", "a/y"]);
        assert_eq!(selected(&["loop", "gone"]).unwrap(), ["gone", "loop"]);
    }

    #[test]
    fn patterns_widen_to_the_directory_they_lie_in() {
        assert_eq!(selected(&["a/*"]).unwrap(), ["a", "a/x", "a/y"]);
        assert_eq!(selected(&["*"]), None);
        assert_eq!(selected(&[]), None);
        assert_eq!(selected(&["/"]), None);
    }
}
