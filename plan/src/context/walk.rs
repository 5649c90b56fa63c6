//! Finds what a context holds: every directory listed once, by several threads, the result in walking order.
//!
//! What is not selected is not even looked at. A directory on the way to something selected is part of the context
//! only if something in it is.
//!
//! An excluded directory is entered only when a line of the ignore file could bring back something in it, and
//! is part of the context only when one did: what is brought back needs its parents. Nothing excluded is
//! opened, so it may be unreadable, a socket, or anything else.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use archyard_model::{Invalid, limits};
use rustix::fs::{AtFlags, Dir, FileType, major, minor, readlinkat, statat};
use rustix::io::Errno;

use super::follow::{Below, Selection};
use super::stamp::Stamp;
use super::{open, xattr};
use crate::Error;
use crate::dockerignore::{Ignore, Trail};

/// One name that is part of the context.
#[derive(Debug)]
pub(super) struct Found {
    /// Relative to the root.
    pub(super) path: Vec<u8>,
    pub(super) kind: FoundKind,
    pub(super) stamp: Stamp,
    /// Of a directory; a file's are read with its content.
    pub(super) xattrs: Vec<(String, Vec<u8>)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum FoundKind {
    File,
    Directory,
    /// With its target as stored.
    Symlink(Vec<u8>),
    Fifo,
    Device {
        block: bool,
        major: u32,
        minor: u32,
    },
}

/// A directory to list.
struct Task {
    id: usize,
    path: Vec<u8>,
    excluded: bool,
    trail: Trail,
    below: Below,
}

/// A directory's names in byte order.
#[derive(Default)]
struct Listing {
    xattrs: Vec<(String, Vec<u8>)>,
    names: Vec<Name>,
}

struct Name {
    found: Found,
    /// A directory that is only there for what is found in it.
    only_parent: bool,
    /// The listing that is beneath it.
    below: Option<usize>,
}

#[derive(Default)]
struct Queue {
    tasks: Vec<Task>,
    listings: Vec<Listing>,
    /// Tasks queued or in hand: none left means done.
    open: usize,
    names: usize,
    failed: Option<Error>,
}

struct Walk<'a> {
    root: &'a OwnedFd,
    ignore: &'a Ignore,
    selection: &'a Selection,
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// Everything beneath `root` that is selected and not ignored.
pub(super) fn walk(
    root: &OwnedFd,
    ignore: &Ignore,
    selection: &Selection,
    threads: usize,
) -> Result<Vec<Found>, Error> {
    let (trail, below) = (Trail::default(), selection.root());
    let first = Task { id: 0, path: Vec::new(), excluded: false, trail, below };
    let queue = Queue { tasks: vec![first], listings: vec![Listing::default()], open: 1, ..Queue::default() };
    let walk = Walk { root, ignore, selection, queue: Mutex::new(queue), changed: Condvar::new() };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| walk.work());
        }
        walk.work();
    });
    let queue = walk.queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = queue.failed {
        return Err(error);
    }
    let mut found = Vec::with_capacity(queue.names);
    let mut listings = queue.listings;
    flatten(0, &mut listings, &mut found);
    Ok(found)
}

/// Appends what a directory holds.
fn flatten(id: usize, listings: &mut [Listing], found: &mut Vec<Found>) {
    for Name { found: mut entry, only_parent, below } in std::mem::take(&mut listings[id].names) {
        let Some(below) = below else {
            found.push(entry);
            continue;
        };
        entry.xattrs = std::mem::take(&mut listings[below].xattrs);
        let at = found.len();
        found.push(entry);
        flatten(below, listings, found);
        if only_parent && found.len() == at + 1 {
            found.pop();
        }
    }
}

impl Walk<'_> {
    /// Lists directories until there are none left.
    fn work(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if queue.open == 0 || queue.failed.is_some() {
                self.changed.notify_all();
                return;
            }
            let Some(task) = queue.tasks.pop() else {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queue);
            let listed = self.list(&task);
            queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.open -= 1;
            match listed {
                Ok((listing, below)) => queue.take_in(task.id, listing, below),
                Err(error) => {
                    queue.failed.get_or_insert(error);
                }
            }
            self.changed.notify_all();
        }
    }

    /// A directory's names, and the directories among them that must be listed too, in the same order.
    fn list(&self, task: &Task) -> Result<(Listing, Vec<Task>), Error> {
        let shown = if task.path.is_empty() { Path::new(".") } else { as_path(&task.path) };
        let fail = |error: Errno| Error::read(shown, error.into());
        let fd = match open::directory(self.root, shown) {
            Ok(fd) => fd,
            // The directory was removed, or replaced, since it was listed.
            Err(error) if !task.path.is_empty() && open::is_replaced(&error) => return Ok(Default::default()),
            Err(error) if task.excluded && error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(Default::default());
            }
            Err(error) => return Err(Error::read(shown, error)),
        };
        let mut listing = Listing::default();
        if !task.path.is_empty() {
            listing.xattrs = xattr::of(&fd).map_err(|error| Error::read(shown, error))?;
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push((name.to_owned(), entry.file_type()));
            }
        }
        names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut below = Vec::new();
        for (name, file_type) in names {
            if let Some((name, next)) = self.look(&fd, task, &name, file_type)? {
                listing.names.push(name);
                below.extend(next);
            }
        }
        Ok((listing, below))
    }

    /// One name, if it may be part of the context; and its task, if it is a directory.
    fn look(
        &self,
        directory: &OwnedFd,
        task: &Task,
        name: &[u8],
        file_type: FileType,
    ) -> Result<Option<(Name, Option<Task>)>, Error> {
        let Some(below) = self.selection.enter(&task.below, name) else { return Ok(None) };
        let path = join(&task.path, name)?;
        let stat = || match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Stamp::from(stat))),
            // Deleted since it was listed.
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Error::read(as_path(&path), error.into())),
        };
        let mut stamp = if file_type == FileType::Unknown { stat()? } else { None };
        let file_type = stamp.map_or(file_type, |stamp| stamp.file_type());
        let (excluded, trail) = self.judge(&path, file_type, &task.trail);
        if excluded && !(file_type == FileType::Directory && self.may_hold(&path)) {
            return Ok(None);
        }
        if stamp.is_none() {
            stamp = stat()?;
        }
        let Some(stamp) = stamp else { return Ok(None) };
        let on_the_way = below != Below::All;
        if on_the_way && stamp.file_type() != FileType::Directory {
            return Ok(None);
        }
        // What was listed may have been replaced since: the stamp is what counts.
        let kind = match stamp.file_type() {
            FileType::RegularFile => FoundKind::File,
            FileType::Directory => FoundKind::Directory,
            FileType::Symlink => FoundKind::Symlink(
                readlinkat(directory, name, Vec::new())
                    .map_err(|error| Error::read(as_path(&path), error.into()))?
                    .into_bytes(),
            ),
            FileType::Fifo => FoundKind::Fifo,
            FileType::BlockDevice | FileType::CharacterDevice => {
                let Some(kind) = device(directory, name, &path)? else { return Ok(None) };
                kind
            }
            // A socket is of the process that listens on it; Docker's client leaves it out too.
            FileType::Socket | FileType::Unknown => return Ok(None),
        };
        let next = (kind == FoundKind::Directory).then(|| Task {
            id: 0,
            path: path.clone(),
            excluded,
            trail,
            below,
        });
        let found = Found { path, kind, stamp, xattrs: Vec::new() };
        Ok(Some((Name { found, only_parent: excluded || on_the_way, below: None }, next)))
    }

    fn judge(&self, path: &[u8], file_type: FileType, above: &Trail) -> (bool, Trail) {
        if self.ignore.is_empty() {
            return (false, Trail::default());
        }
        let path = String::from_utf8_lossy(path);
        match file_type {
            FileType::Directory => self.ignore.enter(&path, above),
            _ => (self.ignore.excludes(&path, above), Trail::default()),
        }
    }

    fn may_hold(&self, directory: &[u8]) -> bool {
        self.ignore.may_bring_back_below(&String::from_utf8_lossy(directory))
    }
}

impl Queue {
    /// Files a listing, and queues the directories in it.
    fn take_in(&mut self, id: usize, mut listing: Listing, below: Vec<Task>) {
        self.names += listing.names.len();
        if self.names > limits::CONTEXT_ENTRIES {
            let error = Invalid::new(
                "context",
                format!("more than {} entries", limits::CONTEXT_ENTRIES),
                format!("a context has at most {} entries; use a .dockerignore", limits::CONTEXT_ENTRIES),
            );
            self.failed.get_or_insert(error.into());
            return;
        }
        let mut directories = listing.names.iter_mut().filter(|name| name.found.kind == FoundKind::Directory);
        self.open += below.len();
        for mut task in below {
            task.id = self.listings.len();
            if let Some(name) = directories.next() {
                name.below = Some(task.id);
            }
            self.listings.push(Listing::default());
            self.tasks.push(task);
        }
        self.listings[id] = listing;
    }
}

pub(super) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn join(directory: &[u8], name: &[u8]) -> Result<Vec<u8>, Invalid> {
    let path = if directory.is_empty() { name.to_owned() } else { [directory, b"/", name].concat() };
    if path.len() > limits::CONTEXT_PATH_BYTES {
        let problem = "a path in a context has at most 4096 bytes; shorten it, or name it in .dockerignore";
        return Err(Invalid::new("context", String::from_utf8_lossy(&path), problem));
    }
    Ok(path)
}

/// A device node's numbers; None if it was replaced since.
fn device(directory: &OwnedFd, name: &[u8], path: &[u8]) -> Result<Option<FoundKind>, Error> {
    let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(Error::read(as_path(path), error.into())),
    };
    let block = match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => true,
        FileType::CharacterDevice => false,
        _ => return Ok(None),
    };
    Ok(Some(FoundKind::Device { block, major: major(stat.st_rdev), minor: minor(stat.st_rdev) }))
}
