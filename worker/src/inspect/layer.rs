//! One layer as a tree of its own, the way Engines unpack it: into an empty folder that is then laid over the
//! layers below. What an entry says of layers below (a whiteout, a hard link to nothing here) is kept for later.

use std::io::Read;
use std::sync::Arc;

use archyard_model::limits;
use tar::EntryType;

use super::access::ACCOUNTS_BYTES;
use super::content::Content;
use super::nodes::{About, File, Id, Kind, Nodes, ROOT};
use super::walk::{Entry, Error, Walk};

/// What names begin with that take something away.
pub(super) const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Leftovers of an older way to store layers, at the root.
const AUFS: &[u8] = b".wh..wh.";
/// As Linux: symbolic links followed on the way to one file.
pub(super) const LINKS: u32 = 40;

/// Names of links' targets that are followed in one layer: no honest layer unpacks through its own links.
const STEPS: usize = 4_000_000;

/// Unpacks a layer's tar to a tree.
pub(super) fn unpack(tar: impl Read) -> Result<Nodes, Error> {
    let mut nodes = Nodes::new();
    let mut walk = Walk::new(tar);
    let mut steps = STEPS;
    while let Some(entry) = walk.next()? {
        put(&mut nodes, &mut walk, &entry, &mut steps)?;
    }
    Ok(nodes)
}

fn put<R: Read>(
    nodes: &mut Nodes,
    walk: &mut Walk<R>,
    entry: &Entry,
    steps: &mut usize,
) -> Result<(), Error> {
    let path = clean(&entry.path)?;
    let Some((base, folders)) = path.split_last() else {
        // The root itself.
        return Ok(());
    };
    if path[0].starts_with(AUFS) && path[0] != OPAQUE {
        return Ok(());
    }
    let mut about = About { mode: entry.mode & 0o7777, uid: entry.uid, gid: entry.gid, text: None };
    let is_accounts = is_accounts(&path);
    let Some(kind) = kind(nodes, walk, entry, is_accounts.then_some(&mut about.text))? else { return Ok(()) };
    let folder = make(nodes, folders, steps)?;
    if *base == OPAQUE {
        if let Kind::Folder { .. } = nodes.kind(folder) {
            nodes.set_kind(folder, Kind::Folder { opaque: true });
        }
        return Ok(());
    }
    if let Some(hidden) = base.strip_prefix(WHITEOUT) {
        return whiteout(nodes, folder, hidden);
    }
    let was_hidden = nodes.child(folder, base).is_some_and(|id| *nodes.kind(id) == Kind::Whiteout);
    let kind = match kind {
        Kind::Folder { .. } => Kind::Folder { opaque: was_hidden },
        other => other,
    };
    let id = nodes.put(folder, base, kind, 0).map_err(too_many)?;
    nodes.set_about(id, about);
    Ok(())
}

/// Whether this is a list of users or groups.
pub(super) fn is_accounts<N: AsRef<[u8]>>(path: &[N]) -> bool {
    let path: Vec<&[u8]> = path.iter().map(AsRef::as_ref).collect();
    path == [&b"etc"[..], b"passwd"] || path == [&b"etc"[..], b"group"]
}

/// What an entry puts there; none for what is no file at all. `text`: where its content is kept, if it is short.
fn kind<R: Read>(
    nodes: &Nodes,
    walk: &mut Walk<R>,
    entry: &Entry,
    text: Option<&mut Option<Arc<[u8]>>>,
) -> Result<Option<Kind>, Error> {
    let is_executable = entry.mode & 0o111 != 0;
    Ok(Some(match entry.kind {
        EntryType::Regular | EntryType::Continuous => {
            let content = match text {
                _ if entry.is_sparse => Content::Pieces,
                Some(text) if entry.size <= ACCOUNTS_BYTES => {
                    *text = Some(walk.read(entry.size)?.into());
                    Content::Data
                }
                _ => Content::read(walk, entry.size)?,
            };
            Kind::File(File { is_executable, size: entry.size, content })
        }
        EntryType::Directory => Kind::Folder { opaque: false },
        EntryType::Symlink => Kind::Symlink(entry.link.as_slice().into()),
        EntryType::Link => hard_link(nodes, &entry.link, is_executable)?,
        EntryType::Char | EntryType::Block | EntryType::Fifo => Kind::Special,
        _ => return Ok(None),
    }))
}

/// The file itself, where this layer has it. Unpacking the link sets its mode on the file, too.
fn hard_link(nodes: &Nodes, target: &[u8], is_executable: bool) -> Result<Kind, Error> {
    let mut at = ROOT;
    for name in clean(target)? {
        match nodes.child(at, name) {
            Some(id) => at = id,
            None => return Ok(Kind::HardLink(target.into())),
        }
    }
    Ok(match nodes.kind(at) {
        Kind::File(file) => {
            Kind::File(File { is_executable: is_executable || file.is_executable, ..file.clone() })
        }
        kind @ (Kind::Symlink(_) | Kind::Special | Kind::HardLink(_)) => kind.clone(),
        // Nothing can be one.
        Kind::Folder { .. } => Kind::HardLink([].into()),
        Kind::Whiteout => Kind::HardLink(target.into()),
    })
}

/// Hides what layers below have; what this very layer has stays, in whatever order the two come.
fn whiteout(nodes: &mut Nodes, folder: Id, hidden: &[u8]) -> Result<(), Error> {
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(Error::Malformed("a whiteout of no file".to_owned()));
    }
    match nodes.child(folder, hidden) {
        None => drop(nodes.put(folder, hidden, Kind::Whiteout, 0).map_err(too_many)?),
        Some(id) => {
            if let Kind::Folder { .. } = nodes.kind(id) {
                nodes.set_kind(id, Kind::Folder { opaque: true });
            }
        }
    }
    Ok(())
}

/// The folder at this path, which is made where it is missing. Links of this layer are followed.
fn make(nodes: &mut Nodes, folders: &[&[u8]], steps: &mut usize) -> Result<Id, Error> {
    let mut at = ROOT;
    let mut links = 0;
    let mut pending: Vec<Vec<u8>> = folders.iter().rev().map(|name| name.to_vec()).collect();
    while let Some(name) = pending.pop() {
        if name == b".." {
            at = nodes.parent(at);
            continue;
        }
        let Some(id) = nodes.child(at, &name) else {
            at = nodes.put(at, &name, Kind::Folder { opaque: false }, 0).map_err(too_many)?;
            continue;
        };
        match nodes.kind(id) {
            Kind::Folder { .. } => at = id,
            Kind::Whiteout => {
                nodes.set_kind(id, Kind::Folder { opaque: true });
                at = id;
            }
            Kind::Symlink(target) => {
                links += 1;
                let before = pending.len();
                let from = if target.starts_with(b"/") { ROOT } else { at };
                pending.extend(names(target).rev().map(<[u8]>::to_vec));
                *steps = steps.saturating_sub(pending.len() - before);
                if links > LINKS || *steps == 0 {
                    return Err(Error::Malformed("a folder behind more links than Linux follows".to_owned()));
                }
                at = from;
            }
            Kind::File(_) | Kind::HardLink(_) | Kind::Special => {
                let path = String::from_utf8_lossy(&name).into_owned();
                return Err(Error::Malformed(format!("a file, {path:?}, with files in it")));
            }
        }
    }
    Ok(at)
}

/// The names that a path is made of, without those that say nothing.
pub(super) fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

/// The same of an entry's path, without `..`: Engines refuse to unpack one that leaves the layer.
fn clean(path: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let is_absolute = path.starts_with(b"/");
    let mut clean = Vec::new();
    for name in names(path) {
        if name != b".." {
            clean.push(name);
        } else if clean.pop().is_none() && !is_absolute {
            return Err(Error::Malformed(format!("a path that leaves it, {:?}", shown(path))));
        }
    }
    Ok(clean)
}

/// For a message.
pub(super) fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let short: String = text.chars().take(limits::ERROR_VALUE_BYTES).collect();
    if short.len() < text.len() { short + "…" } else { short }
}

fn too_many(error: super::nodes::TooMany) -> Error {
    Error::Malformed(error.to_string())
}
