//! One layer as overlayfs keeps it, unpacked: a folder of the Engine's own disk, of whose files only the first bytes
//! are read. The same layer's tar gives the same tree.
//!
//! What overlayfs notes beside a file decides what the file means, so a process that may not see all such notes has
//! to leave the folder alone, and so has one that meets a note that it does not know. Nothing is followed, and
//! nothing but regular files is opened.

use std::fs::{self, FileType, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, XattrFlags, lgetxattr, llistxattr, setxattr};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::access::ACCOUNTS_BYTES;
use super::content::{Body, Content};
use super::layer::{WHITEOUT, is_accounts};
use super::nodes::{About, File, Kind, Nodes, ROOT, TooMany};
use super::walk;

/// Where overlayfs puts its notes.
const NOTES: &[u8] = b"trusted.overlay.";
/// Where an unprivileged user's puts them. For any other they say nothing, and everybody may write them.
const USER_NOTES: &[u8] = b"user.overlay.";
/// Nothing of the layers below shows through.
const OPAQUE: &[u8] = b"opaque";
/// These say where a file came from, or what else is in use, not what it is.
const HARMLESS: [&[u8]; 5] = [b"impure", b"nlink", b"origin", b"upper", b"uuid"];

/// Names of attributes of one file, in bytes: no honest file has nearly as many, and one that has is an error.
const NAMES_BYTES: usize = 1024;

/// Why a layer cannot be told by its folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It may not be read, or is not there: it is the Engine's, and this may be another machine.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file here, and in a tar what takes away another.
    #[error("{path:?} has a name that means another thing in a tar")]
    Named {
        /// What is called so.
        path: PathBuf,
    },
    /// Overlayfs keeps more than files here.
    #[error("{path:?} is marked {note:?}, so what is there is not all that it means")]
    Marked {
        /// What is marked.
        path: PathBuf,
        /// The end of the attribute's name.
        note: String,
    },
    /// It goes past a limit.
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

/// Whether this process sees what overlayfs notes beside files, found out with a file of its own in `scratch`.
pub(super) fn sees_overlays(scratch: &Path) -> bool {
    let marked = NamedTempFile::new_in(scratch)
        .and_then(|file| Ok(setxattr(file.path(), "trusted.archyard.seen", b"y", XattrFlags::empty())?));
    marked.is_ok()
}

/// The layer's tree.
pub(super) fn read(root: &Path) -> Result<Nodes, FolderError> {
    let mut nodes = Nodes::new();
    if is_opaque(root)? {
        nodes.set_kind(ROOT, Kind::Folder { opaque: true });
    }
    let mut pending = vec![(root.to_owned(), ROOT)];
    // Never recursive: a hostile tree may be as deep as it is large.
    while let Some((folder, id)) = pending.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let found = entry.file_type()?;
            // No tar has them: what is below one shows through.
            if found.is_socket() {
                continue;
            }
            if entry.file_name().as_bytes().starts_with(WHITEOUT) {
                return Err(FolderError::Named { path });
            }
            let kind = kind(&path, found)?;
            // A whiteout's owner means nothing, and a tar's whiteout has none that is kept.
            let about = if kind == Kind::Whiteout { None } else { Some(about(root, &path)?) };
            let is_folder = matches!(kind, Kind::Folder { .. });
            let id = nodes.put(id, entry.file_name().as_bytes(), kind, 0)?;
            if let Some(about) = about {
                nodes.set_about(id, about);
            }
            if is_folder {
                pending.push((path, id));
            }
        }
    }
    Ok(nodes)
}

fn kind(path: &Path, found: FileType) -> Result<Kind, FolderError> {
    if found.is_dir() {
        return Ok(Kind::Folder { opaque: is_opaque(path)? });
    }
    if found.is_symlink() {
        return Ok(Kind::Symlink(fs::read_link(path)?.into_os_string().into_vec().into()));
    }
    if found.is_file() {
        return file(path);
    }
    let is_whiteout = found.is_char_device() && fs::symlink_metadata(path)?.rdev() == 0;
    Ok(if is_whiteout { Kind::Whiteout } else { Kind::Special })
}

/// Whose it is; and all of it, where it is a list of users or groups.
fn about(root: &Path, path: &Path) -> Result<About, FolderError> {
    let found = fs::symlink_metadata(path)?;
    let names: Vec<&[u8]> =
        path.strip_prefix(root).unwrap_or(path).iter().map(std::ffi::OsStr::as_bytes).collect();
    let is_kept = is_accounts(&names) && found.is_file() && found.len() <= ACCOUNTS_BYTES;
    let text = if is_kept {
        let mut bytes = Vec::new();
        open(path)?.take(ACCOUNTS_BYTES).read_to_end(&mut bytes)?;
        Some(bytes.into())
    } else {
        None
    };
    Ok(About { mode: found.mode() & 0o7777, uid: found.uid(), gid: found.gid(), text })
}

fn open(path: &Path) -> io::Result<fs::File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)
}

fn file(path: &Path) -> Result<Kind, FolderError> {
    if is_opaque(path)? {
        return Err(FolderError::Marked { path: path.to_owned(), note: "opaque".to_owned() });
    }
    let file = open(path)?;
    let about: Metadata = file.metadata()?;
    let is_executable = about.permissions().mode() & 0o111 != 0;
    let content = match Content::read(&mut Opened(file), about.len()) {
        Ok(content) => content,
        Err(walk::Error::Io(error)) => return Err(error.into()),
        Err(walk::Error::Malformed(why)) => return Err(io::Error::other(why).into()),
    };
    Ok(Kind::File(File { is_executable, size: about.len(), content }))
}

struct Opened(fs::File);

impl Body for Opened {
    fn read(&mut self, most: u64) -> Result<Vec<u8>, walk::Error> {
        let mut bytes = Vec::new();
        (&mut self.0).take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, count: u64) -> Result<(), walk::Error> {
        self.0.seek_relative(count.try_into().map_err(io::Error::other)?)?;
        Ok(())
    }
}

/// Whether overlayfs notes that it is; an error where it notes anything else.
fn is_opaque(path: &Path) -> Result<bool, FolderError> {
    let mut names = [0; NAMES_BYTES];
    let length = match llistxattr(path, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(false),
        Err(error) => return Err(io::Error::from(error).into()),
    };
    let mut opaque = false;
    for name in names[..length].split(|byte| *byte == 0) {
        let (note, is_believed) = match (name.strip_prefix(NOTES), name.strip_prefix(USER_NOTES)) {
            (Some(note), _) => (note, true),
            (None, Some(note)) => (note, false),
            (None, None) => continue,
        };
        if HARMLESS.contains(&note) {
            continue;
        }
        let mut value = [0; 2];
        let length = lgetxattr(path, name, &mut value).map_err(io::Error::from)?;
        if !is_believed || (note, &value[..length]) != (OPAQUE, b"y") {
            let note = String::from_utf8_lossy(note).into_owned();
            return Err(FolderError::Marked { path: path.to_owned(), note });
        }
        opaque = true;
    }
    Ok(opaque)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(note: &str, value: &[u8]) -> Result<Nodes, FolderError> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        fs::write(folder.path().join("d/file"), "#!/bin/sh\n").unwrap();
        setxattr(folder.path().join("d"), note, value, XattrFlags::empty()).unwrap();
        read(folder.path())
    }

    #[test]
    fn what_overlayfs_notes_is_known_or_an_error() {
        let folder = tempfile::tempdir().unwrap();
        if sees_overlays(folder.path()) {
            let nodes = marked("trusted.overlay.opaque", b"y").unwrap();
            assert_eq!(*nodes.kind(nodes.child(ROOT, b"d").unwrap()), Kind::Folder { opaque: true });
            marked("trusted.overlay.opaque", b"x").unwrap_err();
            marked("trusted.overlay.redirect", b"/x").unwrap_err();
        }
        let nodes = marked("user.overlay.origin", b"x").unwrap();
        assert_eq!(*nodes.kind(nodes.child(ROOT, b"d").unwrap()), Kind::Folder { opaque: false });
        marked("user.other", b"x").unwrap();
        for (note, value) in [("redirect", "/x"), ("opaque", "x"), ("metacopy", ""), ("whiteouts", "y")] {
            let error = marked(&format!("user.overlay.{note}"), value.as_bytes()).unwrap_err();
            assert!(matches!(&error, FolderError::Marked { note: found, .. } if found == note), "{error}");
        }
    }

    /// Any step of a build can write it, and for the Engine's overlayfs it then means nothing.
    #[test]
    fn a_note_that_everybody_may_write_hides_nothing() {
        let error = marked("user.overlay.opaque", b"y").unwrap_err();
        assert!(matches!(&error, FolderError::Marked { note, .. } if note == "opaque"), "{error}");
    }

    #[test]
    fn a_name_that_takes_something_away_in_a_tar_is_an_error() {
        for name in [".wh.sh", ".wh..wh..opq", ".wh..wh.plnk"] {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("bin")).unwrap();
            fs::write(folder.path().join("bin").join(name), "").unwrap();
            let error = read(folder.path()).unwrap_err();
            assert!(matches!(&error, FolderError::Named { path } if path.ends_with(name)), "{error}");
        }
    }

    #[test]
    fn a_socket_hides_nothing_for_no_tar_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("app")).unwrap();
        let nodes = read(folder.path()).unwrap();
        assert!(nodes.child(ROOT, b"app").is_none());
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(&folder.path().join("gone")), Err(FolderError::Io(_))));
        assert!(!sees_overlays(&folder.path().join("gone")));
    }
}
