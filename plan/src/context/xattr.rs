//! The extended attributes that an image keeps: file capabilities, and what users set.

use std::os::fd::AsFd;

use rustix::fs::{fgetxattr, flistxattr};
use rustix::io::Errno;

/// Those of an open file or directory, sorted by name. A file system without any has none.
pub(super) fn of(fd: impl AsFd) -> Result<Vec<(String, Vec<u8>)>, Errno> {
    let list = grown(256, |buffer| flistxattr(&fd, buffer))?;
    let mut found = Vec::new();
    for name in list.split(|byte| *byte == 0) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if name == "security.capability" || name.starts_with("user.") {
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
