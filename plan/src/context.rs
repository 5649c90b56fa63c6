//! A directory as a content-addressed snapshot: what is in it, chosen by its ignore file and hashed.
//!
//! A scan walks, asks its cache which files it has hashed before, reads the others, and writes the table of
//! contents. It holds no file in memory, follows no link beneath the root, and leaves nothing behind but the
//! cache.

mod cache;
mod follow;
mod hash;
mod open;
mod snapshot;
mod source;
mod stamp;
#[cfg(test)]
mod tests;
mod walk;
mod xattr;

use std::collections::HashMap;
use std::fs::File;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::SystemTime;

use archyard_model::{ContextEntry, ContextManifest, EntryKind, Inputs, Invalid, limits};

pub use snapshot::{BlobReader, BlobSource, Snapshot};
pub(crate) use source::root as find_root;

use crate::Error;
use crate::dockerignore::Ignore;
use cache::Cache;
use follow::Selection;
use hash::{Hashed, Pending};
use walk::{Found, FoundKind};

/// Scans a directory for what `inputs` lead to in it; nothing else is looked at.
///
/// `root` may itself be a link. With `cache`, digests of files that have not changed since an earlier scan are
/// taken from a file in that directory, which is made if missing; a cache that cannot be read or written is as
/// none.
///
/// # Errors
/// [`Error::Denied`] for what this user may not read, [`Error::FileChanged`] if something writes to a file all the
/// while, [`Error::Invalid`] past a limit.
pub fn scan(root: &Path, ignore: &Ignore, inputs: &Inputs, cache: Option<&Path>) -> Result<Snapshot, Error> {
    let started = SystemTime::now();
    let fd: OwnedFd = File::open(root).map_err(|error| Error::read(root, error))?.into();
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(16);
    let selection = match inputs {
        Inputs::Everything => Selection::all(),
        Inputs::Paths(paths) => Selection::of(&fd, paths).map_err(|error| Error::read(root, error))?,
    };
    let (found, mut cache) = std::thread::scope(|scope| {
        let cache = scope.spawn(|| Cache::load(cache, root, inputs));
        let found = walk::walk(&fd, ignore, &selection, threads);
        (found, cache.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let found = found?;
    check_size(&found)?;
    let first_names = first_names(&found);
    let mut known: Vec<Option<Hashed>> = Vec::new();
    let mut pending = Vec::new();
    for (at, entry) in found.iter().enumerate() {
        let is_content = entry.kind == FoundKind::File && !first_names.contains_key(&at);
        let hit = if is_content { cache.find(&entry.path, &entry.stamp) } else { None };
        if is_content && hit.is_none() {
            pending.push(Pending { at, path: &entry.path });
        }
        known.push(hit);
    }
    for (at, hashed) in hash::all(&fd, &pending, threads)? {
        cache.note(&hashed.stamp, started);
        known[at] = Some(hashed);
    }
    cache.save(started, found.iter().zip(&known));
    let entries = entries(found, known, &first_names);
    let snapshot = Snapshot::new(ContextManifest::of_inputs(entries, inputs.clone())?, fd);
    let length = snapshot.encoded.len();
    if length as u64 > limits::CONTEXT_MANIFEST_BYTES {
        let problem = "its list of files is too long; use a .dockerignore";
        return Err(Invalid::new("context", length, problem).into());
    }
    Ok(snapshot)
}

/// Refuses before anything is read what would be refused after.
fn check_size(found: &[Found]) -> Result<(), Invalid> {
    let total = found
        .iter()
        .filter(|entry| entry.kind == FoundKind::File)
        .fold(0_u64, |sum, entry| sum.saturating_add(entry.stamp.size));
    if total > limits::CONTEXT_BYTES {
        return Err(Invalid::new(
            "context",
            format!("{total} bytes"),
            format!("a context holds at most {} bytes; use a .dockerignore", limits::CONTEXT_BYTES),
        ));
    }
    Ok(())
}

/// For every further name of a file, the place of its first.
fn first_names(found: &[Found]) -> HashMap<usize, usize> {
    let mut first = HashMap::new();
    let mut further = HashMap::new();
    for (at, entry) in found.iter().enumerate() {
        if entry.kind == FoundKind::File && entry.stamp.links > 1 {
            let earlier = *first.entry((entry.stamp.dev, entry.stamp.ino)).or_insert(at);
            if earlier != at {
                further.insert(at, earlier);
            }
        }
    }
    further
}

fn entries(
    found: Vec<Found>,
    known: Vec<Option<Hashed>>,
    first_names: &HashMap<usize, usize>,
) -> Vec<ContextEntry> {
    let targets: HashMap<usize, Vec<u8>> =
        first_names.iter().map(|(at, first)| (*at, found[*first].path.clone())).collect();
    let mut entries = Vec::with_capacity(found.len());
    for ((at, entry), hashed) in found.into_iter().enumerate().zip(known) {
        let Found { path, kind, stamp, xattrs } = entry;
        let (kind, stamp, xattrs) = match (kind, hashed, targets.get(&at)) {
            (FoundKind::Directory, ..) => (EntryKind::Directory, stamp, xattrs),
            (FoundKind::Fifo, ..) => (EntryKind::Fifo, stamp, Vec::new()),
            (FoundKind::Device { block, major, minor }, ..) => {
                (EntryKind::Device { block, major, minor }, stamp, Vec::new())
            }
            (FoundKind::Symlink(target), ..) => (EntryKind::Symlink { target }, stamp, Vec::new()),
            (FoundKind::File, _, Some(target)) => {
                (EntryKind::Hardlink { target: target.clone() }, stamp, Vec::new())
            }
            (FoundKind::File, Some(hashed), None) => {
                let kind = EntryKind::File { size: hashed.stamp.size, digest: hashed.digest };
                (kind, hashed.stamp, hashed.xattrs)
            }
            // Not reached: every file that is no further name was found in the cache or hashed.
            (FoundKind::File, None, None) => continue,
        };
        entries.push(ContextEntry {
            path,
            mode: stamp.permissions(),
            modified_s: stamp.modified_s,
            modified_ns: stamp.modified_ns,
            xattrs,
            kind,
        });
    }
    entries
}
