//! The extended attributes that a build gets: file capabilities, and what users and administrators set. Those that a
//! machine sets for itself, as SELinux does, stay behind.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{fgetxattr, flistxattr};
use rustix::io::Errno;

/// How overlayfs marks its own files: on an Engine such a mark would hide or redirect others.
const OVERLAY: &str = "trusted.overlay.";

/// Those of an open file or directory, sorted by name. A file system without any has none; `trusted.*` is only told to
/// root.
pub(super) fn of(fd: impl AsFd) -> io::Result<Vec<(String, Vec<u8>)>> {
    let list = grown(256, |buffer| flistxattr(&fd, buffer))?;
    let mut found = Vec::new();
    for name in list.split(|byte| *byte == 0) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if name.starts_with(OVERLAY) {
            let problem = format!(
                "its extended attribute {name} is overlayfs's own and cannot be sent; copy the tree from a mounted \
                 overlay, or name it in .dockerignore"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let is_kept = name.starts_with("user.") || name.starts_with("trusted.");
        if is_kept || name == "security.capability" {
            found.push((name.to_owned(), grown(256, |buffer| fgetxattr(&fd, name, buffer))?));
        }
    }
    found.sort();
    Ok(found)
}

/// What `fill` fills, with a buffer large enough.
fn grown(start: usize, mut fill: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; start];
    loop {
        match fill(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            // The kernel keeps no value, and no list, above 64 KiB.
            Err(Errno::RANGE) if buffer.len() < 64 * 1024 => buffer.resize(buffer.len() * 4, 0),
            Err(Errno::NOTSUP | Errno::NODATA | Errno::NOSYS) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    }
}
