//! What is common to everybody who reads a root file system's tar: paths that stay below their root, and no kind of
//! entry that nobody expects. The tar is hostile: it holds whatever a Dockerfile put there.

use std::io::{self, Read};

use anyhow::{Result, bail};

/// The kinds of entries that a file system has.
pub(crate) const KINDS: &[tar::EntryType] = &[
    tar::EntryType::Regular,
    tar::EntryType::Continuous,
    tar::EntryType::Link,
    tar::EntryType::Symlink,
    tar::EntryType::Directory,
    tar::EntryType::Char,
    tar::EntryType::Block,
    tar::EntryType::Fifo,
];

/// The names that lead to an entry, from the root; none is the root itself. A leading `/` is the root, as for any tar.
pub(crate) fn names(path: &[u8]) -> Result<Vec<&[u8]>> {
    let names: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    if names.contains(&&b".."[..]) || path.contains(&0) {
        bail!("the archive holds {:?}, which leads out of it; nothing was written", shown(path));
    }
    Ok(names)
}

/// A path in a message.
pub(crate) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(256).collect()
}

/// Calls for every entry of one root file system, and reads the rest of it, which the blob's digest covers.
pub(crate) fn each<R: Read>(
    mut from: R,
    mut take: impl FnMut(&mut tar::Entry<'_, &mut R>) -> Result<()>,
) -> Result<()> {
    let mut archive = tar::Archive::new(&mut from);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if !KINDS.contains(&kind) {
            bail!(
                "the archive holds {:?} of the unknown kind {kind:?}; nothing was written",
                shown(&entry.path_bytes())
            );
        }
        take(&mut entry)?;
    }
    io::copy(&mut from, &mut io::sink())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_their_root() {
        assert_eq!(names(b"./etc/passwd").unwrap(), [&b"etc"[..], b"passwd"]);
        assert_eq!(names(b"/etc//x/").unwrap(), [&b"etc"[..], b"x"]);
        assert!(names(b"./").unwrap().is_empty());
        for bad in [&b"../x"[..], b"a/../../x", b"..", b"a\0b"] {
            assert!(names(bad).is_err(), "{bad:?}");
        }
    }
}
