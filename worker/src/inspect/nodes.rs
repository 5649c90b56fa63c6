//! A tree of files, as one layer or all of them make it: names below folders, nothing of the files' content.

use std::collections::BTreeMap;
use std::sync::Arc;

use archyard_model::limits;

use super::content::Content;

/// A place in the tree.
pub(super) type Id = u32;

/// Where every path begins.
pub(super) const ROOT: Id = 0;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A folder. In a layer, `opaque`: nothing of the layers below shows through.
    Folder {
        opaque: bool,
    },
    File(File),
    /// To this target.
    Symlink(Arc<[u8]>),
    /// A hard link to what layers below may have at this path.
    HardLink(Arc<[u8]>),
    /// A device, a pipe, a socket.
    Special,
    /// In a layer: what layers below have here is gone.
    Whiteout,
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// Somebody may execute it.
    pub(super) is_executable: bool,
    /// In bytes.
    pub(super) size: u64,
    pub(super) content: Content,
}

/// More places than a tree may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it has more than {} files and folders, which is what is taken", limits::INSPECT_ENTRIES)]
pub struct TooMany;

/// Whose something is, and who may do what with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The whole content of a list of users or groups.
    pub(super) text: Option<Arc<[u8]>>,
}

impl Default for About {
    /// A folder that nobody spoke of: Engines make it so.
    fn default() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, text: None }
    }
}

#[derive(Debug)]
struct Node {
    parent: Id,
    layer: u16,
    kind: Kind,
    /// None: nobody spoke of it.
    about: Option<About>,
    children: BTreeMap<Box<[u8]>, Id>,
}

/// The tree. Places that were replaced stay in it, below nothing.
#[derive(Debug)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
}

impl Nodes {
    /// An empty root, of layer 0.
    pub(super) fn new() -> Self {
        let kind = Kind::Folder { opaque: false };
        Self { nodes: vec![Node { parent: ROOT, layer: 0, kind, about: None, children: BTreeMap::new() }] }
    }

    pub(super) fn kind(&self, id: Id) -> &Kind {
        &self.node(id).kind
    }

    /// Whose it is; none where nobody spoke of it.
    pub(super) fn about(&self, id: Id) -> Option<&About> {
        self.node(id).about.as_ref()
    }

    /// Says whose it is.
    pub(super) fn set_about(&mut self, id: Id, about: About) {
        self.node_mut(id).about = Some(about);
    }

    /// The layer that it came with.
    pub(super) fn layer(&self, id: Id) -> u16 {
        self.node(id).layer
    }

    /// The folder that it is in; the root is in itself.
    pub(super) fn parent(&self, id: Id) -> Id {
        self.node(id).parent
    }

    pub(super) fn child(&self, folder: Id, name: &[u8]) -> Option<Id> {
        self.node(folder).children.get(name).copied()
    }

    /// In the order of their names.
    pub(super) fn children(&self, folder: Id) -> impl DoubleEndedIterator<Item = (&[u8], Id)> {
        self.node(folder).children.iter().map(|(name, id)| (name.as_ref(), *id))
    }

    /// Puts something into a folder. A folder on a folder keeps what is in it; everything else replaces.
    pub(super) fn put(&mut self, folder: Id, name: &[u8], kind: Kind, layer: u16) -> Result<Id, TooMany> {
        if let Some(id) = self.child(folder, name) {
            let node = self.node_mut(id);
            let merges = matches!((&node.kind, &kind), (Kind::Folder { .. }, Kind::Folder { opaque: false }));
            if !merges {
                node.children = BTreeMap::new();
                node.kind = kind;
                node.about = None;
            }
            node.layer = layer;
            return Ok(id);
        }
        if self.nodes.len() > limits::INSPECT_ENTRIES {
            return Err(TooMany);
        }
        let id = Id::try_from(self.nodes.len()).map_err(|_| TooMany)?;
        self.nodes.push(Node { parent: folder, layer, kind, about: None, children: BTreeMap::new() });
        self.node_mut(folder).children.insert(name.into(), id);
        Ok(id)
    }

    /// Changes what is there, and leaves what is below it.
    pub(super) fn set_kind(&mut self, id: Id, kind: Kind) {
        self.node_mut(id).kind = kind;
    }

    /// Takes something out of a folder.
    pub(super) fn remove(&mut self, folder: Id, name: &[u8]) {
        self.node_mut(folder).children.remove(name);
    }

    /// Takes everything out of a folder.
    pub(super) fn clear(&mut self, folder: Id) {
        self.node_mut(folder).children = BTreeMap::new();
    }

    /// Everything below the root, folders before what is in them: how deep, by what name, and where. Never
    /// recursive: a hostile tree may be as deep as it is large.
    pub(super) fn walk(&self) -> impl Iterator<Item = (usize, &[u8], Id)> {
        let mut pending: Vec<(usize, &[u8], Id)> = self.below(ROOT, 0);
        std::iter::from_fn(move || {
            let (depth, name, id) = pending.pop()?;
            pending.extend(self.below(id, depth + 1));
            Some((depth, name, id))
        })
    }

    fn below(&self, folder: Id, depth: usize) -> Vec<(usize, &[u8], Id)> {
        self.children(folder).rev().map(|(name, id)| (depth, name, id)).collect()
    }

    fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id as usize]
    }
}
