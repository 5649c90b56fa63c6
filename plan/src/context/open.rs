//! Opens what is beneath a context's root, and never anything else.
//!
//! Between a scan and an upload a directory may be swapped for a link. `openat2` refuses to resolve links at
//! all; kernels before 5.6 and sandboxes that hide it get a plain `openat`, which refuses a link only as the
//! last name.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// A regular file for reading. Never waits, whatever it turns out to be.
pub(super) fn file(root: impl AsFd, path: &Path) -> io::Result<File> {
    Ok(beneath(root.as_fd(), path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?.into())
}

/// A directory, to be listed.
pub(super) fn directory(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    Ok(beneath(root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY)?)
}

fn beneath(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(&root, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOSYS | Errno::PERM) => openat(&root, path, flags, Mode::empty()),
        opened => opened,
    }
}

/// Whether an error says that the name is no longer what it was when it was scanned.
pub(super) fn is_replaced(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ISDIR | Errno::NXIO))
}
