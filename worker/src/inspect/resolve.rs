//! From a path to the file that a process in the image would find there, as Linux looks it up with the image as
//! its root.

use super::layer::{LINKS, names};
use super::nodes::{Id, Kind, ROOT};
use super::tree::Tree;

/// Why there is no file at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// Nothing is there.
    Missing,
    /// This link, on the way there, leads to nothing.
    Dangling(Id),
    /// This link, on the way there, leads back to itself, or is the last of more than Linux follows.
    Loop(Id),
    /// Something on the way there is no folder.
    NotAFolder(Id),
}

impl Tree {
    /// The file at this path, links followed; relative ones begin at `folder`.
    pub(super) fn find(&self, folder: Id, path: &[u8]) -> Result<Id, Lost> {
        self.find_through(folder, path, |_| ())
    }

    /// The same; `through` learns of every folder in which a name is looked up on the way.
    pub(super) fn find_through(
        &self,
        folder: Id,
        path: &[u8],
        mut through: impl FnMut(Id),
    ) -> Result<Id, Lost> {
        let mut at = if path.starts_with(b"/") { ROOT } else { folder };
        let mut pending: Vec<&[u8]> = names(path).rev().collect();
        // The links whose targets are being followed, with what was pending before each.
        let mut following: Vec<(Id, usize)> = Vec::new();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if !matches!(self.nodes.kind(at), Kind::Folder { .. }) {
                return Err(Lost::NotAFolder(at));
            }
            through(at);
            if name == b".." {
                at = self.nodes.parent(at);
                continue;
            }
            let Some(id) = self.nodes.child(at, name) else {
                following.retain(|(_, before)| *before <= pending.len());
                return Err(following.last().map_or(Lost::Missing, |(link, _)| Lost::Dangling(*link)));
            };
            let Kind::Symlink(target) = self.nodes.kind(id) else {
                at = id;
                continue;
            };
            links += 1;
            if links > LINKS {
                return Err(Lost::Loop(id));
            }
            following.push((id, pending.len()));
            if target.starts_with(b"/") {
                at = ROOT;
            }
            pending.extend(names(target).rev());
        }
        // A path that ends in a slash is a folder's.
        if (path.ends_with(b"/") || path.ends_with(b"/."))
            && !matches!(self.nodes.kind(at), Kind::Folder { .. })
        {
            return Err(Lost::NotAFolder(at));
        }
        Ok(at)
    }

    /// The folder at this path; the root, where there is none: runtimes make it.
    pub(super) fn folder(&self, path: &[u8]) -> Id {
        match self.find(ROOT, path) {
            Ok(id) if matches!(self.nodes.kind(id), Kind::Folder { .. }) => id,
            _ => ROOT,
        }
    }

    /// The absolute path of a place, links in it followed.
    pub(super) fn path(&self, id: Id) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = id;
        while at != ROOT {
            let parent = self.nodes.parent(at);
            let name = self.nodes.children(parent).find(|(_, child)| *child == at);
            names.push(name.map_or(&b"?"[..], |(name, _)| name));
            at = parent;
        }
        names.reverse();
        [&b"/"[..], &names.join(&b'/')].concat()
    }
}
