//! From the paths that a build reads to the patterns that its context is walked by.
//!
//! BuildKit's client follows links: a path that leads through one selects the link and what it points to. Links are
//! followed here, before the walk, which then follows none.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, readlinkat, statat};
use rustix::io::Errno;

use super::open;
use crate::dockerignore::pattern::Pattern;

/// Links that are followed one after the other; the kernel follows 40.
const LINKS: usize = 255;
/// Paths that all links together may lead to; beyond that everything is selected.
const PATHS: usize = 10_000;

/// Which part of a directory tree a context holds.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// None: all of it.
    patterns: Option<Vec<Vec<Name>>>,
}

/// One name of a pattern.
#[derive(Debug)]
enum Name {
    Exactly(Vec<u8>),
    Like(Pattern),
    /// Everything from here on: `**`, or what does not read as a pattern.
    Anything,
}

/// What is selected beneath a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Below {
    /// Everything.
    All,
    /// What these patterns match from these names on.
    Some(Vec<(u32, u32)>),
}

impl Name {
    fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Exactly(exact) => exact == name,
            Self::Like(pattern) => pattern.matches(&String::from_utf8_lossy(name)),
            Self::Anything => true,
        }
    }
}

impl Selection {
    /// Everything.
    pub(super) fn all() -> Self {
        Self { patterns: None }
    }

    /// What these paths lead to beneath `root`.
    ///
    /// # Errors
    /// When a directory that a path leads through cannot be read.
    pub(super) fn of<'a>(root: &OwnedFd, paths: impl IntoIterator<Item = &'a String>) -> io::Result<Self> {
        let mut followed = Followed { root, patterns: BTreeSet::new(), visited: BTreeSet::new() };
        for path in paths {
            followed.follow(path.as_bytes())?;
        }
        if followed.patterns.iter().any(Vec::is_empty) || followed.visited.len() > PATHS {
            return Ok(Self::all());
        }
        Ok(Self {
            patterns: Some(
                followed
                    .patterns
                    .iter()
                    .map(|path| path.iter().map(|name| pattern(name)).collect())
                    .collect(),
            ),
        })
    }

    /// Beneath the root.
    pub(super) fn root(&self) -> Below {
        match &self.patterns {
            None => Below::All,
            Some(patterns) => {
                let count = u32::try_from(patterns.len()).unwrap_or(u32::MAX);
                Below::Some((0..count).map(|pattern| (pattern, 0)).collect())
            }
        }
    }

    /// What a name in a directory is: selected with all beneath it, on the way to something, or neither.
    pub(super) fn enter(&self, below: &Below, name: &[u8]) -> Option<Below> {
        let (Below::Some(places), Some(patterns)) = (below, &self.patterns) else { return Some(Below::All) };
        let mut next = Vec::new();
        for &(pattern, at) in places {
            let Some(names) = patterns.get(pattern as usize) else { continue };
            if matches!(names[at as usize], Name::Anything) {
                return Some(Below::All);
            }
            let matches = names[at as usize].matches(name);
            if matches && at as usize + 1 == names.len() {
                return Some(Below::All);
            }
            if matches {
                next.push((pattern, at + 1));
            }
        }
        (!next.is_empty()).then_some(Below::Some(next))
    }
}

/// The paths as they are once links are followed.
struct Followed<'a> {
    root: &'a OwnedFd,
    /// Patterns as names.
    patterns: BTreeSet<Vec<Vec<u8>>>,
    /// What was followed before: links can lead in circles.
    visited: BTreeSet<Vec<Vec<u8>>>,
}

impl Followed<'_> {
    fn follow(&mut self, path: &[u8]) -> io::Result<()> {
        let mut pending = vec![(clean(path), 0)];
        while let Some((path, links)) = pending.pop() {
            if links > LINKS || self.visited.len() > PATHS || !self.visited.insert(path.clone()) {
                continue;
            }
            let mut leads_elsewhere = false;
            for at in 0..path.len() {
                for Link { name, target } in self.links(&path[..at], &path[at])? {
                    let directory: &[Vec<u8>] = if target.starts_with(b"/") { &[] } else { &path[..at] };
                    let names = directory.iter().map(Vec::as_slice).chain([&target[..]]);
                    let names = names.chain(path[at + 1..].iter().map(Vec::as_slice));
                    pending.push((clean(&names.collect::<Vec<_>>().join(&b'/')), links + 1));
                    // A pattern may also match what is no link.
                    leads_elsewhere |= !is_pattern(&path[at]);
                    self.patterns
                        .insert(path[..at].iter().chain([&name]).map(|name| literally(name)).collect());
                }
                if leads_elsewhere {
                    break;
                }
            }
            if !leads_elsewhere {
                self.patterns.insert(path);
            }
        }
        Ok(())
    }

    /// The links that a name in a directory is or matches.
    fn links(&self, directory: &[Vec<u8>], name: &[u8]) -> io::Result<Vec<Link>> {
        let path = directory.join(&b'/');
        let path = if path.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(&path)) };
        let directory = match open::directory(self.root, path) {
            Ok(directory) => directory,
            // The walk tells whether that matters.
            Err(error) if open::is_replaced(&error) || error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        if !is_pattern(name) {
            return Ok(link(&directory, name)?.into_iter().collect());
        }
        let like = pattern(name);
        let mut links = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let may_be_link = matches!(entry.file_type(), FileType::Symlink | FileType::Unknown);
            if may_be_link && name != b"." && name != b".." && like.matches(name) {
                links.extend(link(&directory, name)?);
            }
        }
        Ok(links)
    }
}

/// A symbolic link in a directory.
struct Link {
    name: Vec<u8>,
    target: Vec<u8>,
}

/// This name, if it is a link.
fn link(directory: &OwnedFd, name: &[u8]) -> io::Result<Option<Link>> {
    let is_link = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Symlink,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::NAMETOOLONG) => false,
        Err(error) => return Err(error.into()),
    };
    match is_link.then(|| readlinkat(directory, name, Vec::new())).transpose() {
        // Replaced meanwhile.
        Err(Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
        Ok(target) => Ok(target.map(|target| Link { name: name.to_vec(), target: target.into_bytes() })),
    }
}

/// The names of a path whose `..` lead no higher than the root.
fn clean(path: &[u8]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name.to_vec()),
        }
    }
    names
}

fn is_pattern(name: &[u8]) -> bool {
    name.iter().any(|byte| b"*?[\\".contains(byte))
}

fn is_deep(name: &[u8]) -> bool {
    name.windows(2).any(|pair| pair == b"**")
}

/// What a name of a path is matched by.
fn pattern(name: &[u8]) -> Name {
    match () {
        () if !is_pattern(name) => Name::Exactly(name.to_vec()),
        () if is_deep(name) => Name::Anything,
        () => Pattern::parse(&String::from_utf8_lossy(name)).map_or(Name::Anything, Name::Like),
    }
}

/// A name as a pattern that matches it alone.
fn literally(name: &[u8]) -> Vec<u8> {
    let escaped = name.iter().flat_map(|byte| match b"*?[\\".contains(byte) {
        true => vec![b'\\', *byte],
        false => vec![*byte],
    });
    escaped.collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for directory in ["a", "a/b", "c", "d1", "d2"] {
            fs::create_dir(at(directory)).unwrap();
        }
        for file in ["a/x", "a/b/y", "c/z", "d1/q", "d2/q", "f.go"] {
            fs::write(at(file), "").unwrap();
        }
        symlink("../c", at("a/up")).unwrap();
        symlink("/a/b", at("abs")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("grow/x", at("grow")).unwrap();
        symlink("../../../c", at("high")).unwrap();
        symlink("c/z", at("l.go")).unwrap();
        dir
    }

    /// Of all paths in the tree, those that are selected or lead to one that is.
    fn selected(paths: &[&str]) -> Vec<String> {
        let dir = tree();
        let root = OwnedFd::from(File::open(dir.path()).unwrap());
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let selection = Selection::of(&root, &paths).unwrap();
        let mut found = Vec::new();
        walk(dir.path(), "", &selection, &selection.root(), &mut found);
        found.sort();
        found
    }

    fn walk(directory: &Path, prefix: &str, selection: &Selection, below: &Below, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let name = entry.file_name();
            let Some(next) = selection.enter(below, name.as_bytes()) else { continue };
            let path = format!("{prefix}{}", name.to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &format!("{path}/"), selection, &next, found);
            }
            found.push(path);
        }
    }

    #[test]
    fn plain_paths_select_themselves_and_what_they_hold() {
        assert_eq!(selected(&["a/b"]), ["a", "a/b", "a/b/y"]);
        assert_eq!(selected(&["f.go", "c"]), ["c", "c/z", "f.go"]);
        assert!(selected(&["gone", "f.go/x/y"]).iter().all(|path| path == "f.go"));
        assert!(selected(&[]).is_empty());
    }

    #[test]
    fn links_are_followed_on_the_way_and_at_the_end() {
        assert_eq!(selected(&["a/up/z"]), ["a", "a/up", "c", "c/z"]);
        assert_eq!(selected(&["abs"]), ["a", "a/b", "a/b/y", "abs"]);
        assert_eq!(selected(&["abs/y"]), ["a", "a/b", "a/b/y", "abs"]);
        assert_eq!(selected(&["high"]), ["c", "c/z", "high"]);
        assert_eq!(selected(&["a/up/z", "a/up/gone"]), ["a", "a/up", "c", "c/z"]);
    }

    #[test]
    fn links_in_circles_end() {
        assert_eq!(selected(&["loop", "loop/x"]), ["loop"]);
        assert_eq!(selected(&["grow"]), ["grow"]);
    }

    #[test]
    fn patterns_match_names_and_follow_the_links_that_they_match() {
        assert_eq!(selected(&["*.go"]), ["c", "c/z", "f.go", "l.go"]);
        assert_eq!(selected(&["d?/q"]), ["d1", "d1/q", "d2", "d2/q"]);
        assert_eq!(selected(&["d[1-1]"]), ["d1", "d1/q"]);
        assert_eq!(selected(&["a/**"]), ["a", "a/b", "a/b/y", "a/up", "a/x", "c", "c/z"]);
        assert_eq!(selected(&["a*/y"]), ["a", "a/b", "a/b/y", "abs"]);
    }

    #[test]
    fn what_is_no_pattern_selects_the_directory_it_is_in() {
        assert_eq!(selected(&["a/[x"]), ["a", "a/b", "a/b/y", "a/up", "a/x", "c", "c/z"]);
    }
}
