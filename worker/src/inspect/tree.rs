//! The files of an image: its layers laid over one another, as an overlay file system does it.

use super::index::{Index, Unusable};
use super::layer::names;
use super::nodes::{Id, Kind, Nodes, ROOT, TooMany};

/// Why layers do not make an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// An index that was kept is of no use: the layer has to be read again.
    #[error("layer {layer}: {error}")]
    Unusable {
        /// From 0, the lowest.
        layer: usize,
        /// What is wrong with it.
        error: Unusable,
    },
    /// A layer is no tar that Engines would unpack.
    #[error("layer {layer} of the image cannot be read: it has {why}")]
    Malformed {
        /// From 0, the lowest.
        layer: usize,
        /// What is wrong with it.
        why: String,
    },
    /// All layers together hold too much.
    #[error("the image is too large to be inspected: {0}")]
    TooLarge(String),
}

/// The files of an image, each with the layer that brought it.
#[derive(Debug)]
pub struct Tree {
    pub(super) nodes: Nodes,
    layers: u16,
}

impl Default for Tree {
    /// No layer at all.
    fn default() -> Self {
        Self { nodes: Nodes::new(), layers: 0 }
    }
}

impl Tree {
    /// Lays these layers over one another, the lowest first.
    ///
    /// # Errors
    /// See [`MergeError`].
    pub fn merge<'a>(layers: impl IntoIterator<Item = &'a Index>) -> Result<Self, MergeError> {
        let mut tree = Self::default();
        for index in layers {
            tree.lay(index)?;
        }
        Ok(tree)
    }

    /// Lays one more layer over those that are there.
    ///
    /// # Errors
    /// See [`MergeError`]. The tree is then of no use.
    pub fn lay(&mut self, index: &Index) -> Result<(), MergeError> {
        let layer = usize::from(self.layers);
        if let Some(why) = index.malformed() {
            return Err(MergeError::Malformed { layer, why });
        }
        self.add(index, self.layers).map_err(|error| match error {
            AddError::Unusable(error) => MergeError::Unusable { layer, error },
            AddError::TooMany(error) => MergeError::TooLarge(error.to_string()),
        })?;
        let more = || MergeError::TooLarge(format!("it has more than {} layers", u16::MAX));
        self.layers = self.layers.checked_add(1).ok_or_else(more)?;
        Ok(())
    }

    fn add(&mut self, index: &Index, layer: u16) -> Result<(), AddError> {
        // Looked up before anything of this layer is there: a layer's own files were linked as it was read.
        let mut linked = Vec::new();
        for entry in index.entries() {
            if let (_, _, Kind::HardLink(target), _) = entry? {
                linked.push(self.linked(&target));
            }
        }
        let mut linked = linked.into_iter();
        if index.is_opaque() {
            self.nodes.clear(ROOT);
        }
        let mut folders = vec![ROOT];
        for entry in index.entries() {
            let (depth, name, kind, about) = entry?;
            folders.truncate(depth + 1);
            let Some(folder) = folders.last().copied() else { continue };
            let kind = match kind {
                Kind::HardLink(target) => linked.next().flatten().unwrap_or(Kind::HardLink(target)),
                other => other,
            };
            let id = match kind {
                Kind::Whiteout => {
                    self.nodes.remove(folder, &name);
                    continue;
                }
                Kind::Folder { opaque } => {
                    let id = self.nodes.put(folder, &name, Kind::Folder { opaque: false }, layer)?;
                    if opaque {
                        self.nodes.clear(id);
                    }
                    folders.push(id);
                    id
                }
                other => self.nodes.put(folder, &name, other, layer)?,
            };
            if let Some(about) = about {
                self.nodes.set_about(id, about);
            }
        }
        Ok(())
    }

    /// What a hard link to this path links to; none where there is nothing that can be linked to.
    fn linked(&self, target: &[u8]) -> Option<Kind> {
        let mut at: Id = ROOT;
        for name in names(target) {
            at = self.nodes.child(at, name)?;
        }
        match self.nodes.kind(at) {
            Kind::Folder { .. } | Kind::Whiteout => None,
            kind => Some(kind.clone()),
        }
    }
}

enum AddError {
    Unusable(Unusable),
    TooMany(TooMany),
}

impl From<Unusable> for AddError {
    fn from(error: Unusable) -> Self {
        Self::Unusable(error)
    }
}

impl From<TooMany> for AddError {
    fn from(error: TooMany) -> Self {
        Self::TooMany(error)
    }
}
