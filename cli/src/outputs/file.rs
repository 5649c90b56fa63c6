//! Where one stream of bytes ends: a file that appears whole or not at all, or what is written to as it is.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use tempfile::NamedTempFile;

use super::spot::{Spot, folder};

/// An open end.
#[derive(Debug)]
pub(crate) enum Target {
    /// What is no file, or cannot be replaced: written as it comes.
    Direct(File),
    /// A file without a name: the death of this process leaves nothing of it.
    Nameless(File, PathBuf),
    /// Where the file system has no such files.
    Named(NamedTempFile, PathBuf),
}

/// Writes all of it at once.
pub(crate) fn write(spot: &Spot, bytes: &[u8]) -> io::Result<()> {
    let mut target = Target::open(spot)?;
    target.write_all(bytes)?;
    target.commit()
}

/// Takes a file away, so that what an earlier build left there does not pass for the result of this one. What is no
/// file stays.
pub(crate) fn clear(spot: &Spot) -> io::Result<()> {
    let Spot::File(path) = spot else { return Ok(()) };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Something is mounted there, or only the file itself is this user's to write.
        Err(error) if is_fixed(&error) => File::options().write(true).truncate(true).open(path).map(drop),
        outcome => outcome,
    }
}

impl Target {
    /// Opens it. Nothing is seen of a file before [`commit`](Self::commit).
    pub(crate) fn open(spot: &Spot) -> io::Result<Self> {
        if let Some(file) = spot.open()? {
            return Ok(Self::Direct(file));
        }
        let Spot::File(path) = spot else { return Err(io::ErrorKind::InvalidInput.into()) };
        let there = path.metadata().ok();
        let new = match create(path) {
            // Only the file itself is this user's to write.
            Err(error) if there.is_some() && is_fixed(&error) => {
                return File::options().write(true).truncate(true).open(path).map(Self::Direct);
            }
            new => new?,
        };
        if let Some(there) = there {
            // A file that is replaced keeps its mode, and its owner where that is allowed.
            let file = new.file();
            match fchown(file, Some(there.uid()), Some(there.gid())) {
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
                _ => file.set_permissions(there.permissions())?,
            }
        }
        Ok(new)
    }

    /// Gives the file its name.
    pub(crate) fn commit(self) -> io::Result<()> {
        match self {
            Self::Direct(mut file) => file.flush(),
            Self::Nameless(mut file, path) => match name(&file, &path) {
                Err(error) if is_fixed(&error) => copy(&mut file, &path),
                outcome => outcome,
            },
            Self::Named(file, path) => match file.persist(&path) {
                Err(refused) if is_fixed(&refused.error) => copy(&mut refused.file.into_file(), &path),
                outcome => outcome.map(drop).map_err(|refused| refused.error),
            },
        }
    }

    fn file(&self) -> &File {
        match self {
            Self::Direct(file) | Self::Nameless(file, _) => file,
            Self::Named(file, _) => file.as_file(),
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

/// Whether a name cannot be taken from its file: something is mounted on it, or its folder is not this user's to write.
fn is_fixed(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | ResourceBusy)
}

fn create(path: &Path) -> io::Result<Target> {
    let mode = Mode::from_raw_mode(0o666);
    match rustix::fs::open(folder(path), OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(file) => Ok(Target::Nameless(file.into(), path.to_owned())),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
            let permissions = std::fs::Permissions::from_mode(0o666);
            let mut builder = tempfile::Builder::new();
            let file = builder.prefix(".archyard-").permissions(permissions).tempfile_in(folder(path))?;
            Ok(Target::Named(file, path.to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Links a nameless file beside its place, and moves it there: a link never replaces anything.
fn name(file: &File, path: &Path) -> io::Result<()> {
    let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut beside = OsString::from(".archyard-");
    beside.push(ulid::Ulid::new().to_string());
    let beside = folder(path).join(beside);
    rustix::fs::linkat(CWD, itself, CWD, &beside, AtFlags::SYMLINK_FOLLOW)?;
    std::fs::rename(&beside, path).inspect_err(|_| drop(std::fs::remove_file(&beside)))
}

/// Into a file that keeps its place.
fn copy(from: &mut File, path: &Path) -> io::Result<()> {
    from.seek(SeekFrom::Start(0))?;
    let mut to = File::options().write(true).truncate(true).open(path)?;
    io::copy(from, &mut to).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn spot(path: &Path) -> Spot {
        Spot::of(path).unwrap()
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        std::fs::write(&path, "old").unwrap();
        let mut target = Target::open(&spot(&path)).unwrap();
        target.write_all(b"half").unwrap();
        drop(target);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        write(&spot(&path), b"whole").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something stayed behind");
    }

    #[test]
    fn a_link_stays_and_its_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        symlink("file", &link).unwrap();
        write(&spot(&link), b"new").unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        clear(&spot(&link)).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink() && !file.exists());
    }

    #[test]
    fn what_is_no_file_is_written_to_and_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        let open = File::create(&file).unwrap();
        symlink(format!("/proc/self/fd/{}", open.as_raw_fd()), &link).unwrap();
        let before = file.metadata().unwrap().ino();
        clear(&spot(&link)).unwrap();
        write(&spot(&link), b"bytes").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"bytes");
        assert_eq!(file.metadata().unwrap().ino(), before, "the file was replaced");
        assert!(link.symlink_metadata().unwrap().is_symlink());
        clear(&spot(Path::new("/dev/null"))).unwrap();
        write(&spot(Path::new("/dev/null")), b"x").unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }

    #[test]
    fn a_pipe_gets_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read(pipe).unwrap()
        });
        clear(&spot(&pipe)).unwrap();
        write(&spot(&pipe), b"bytes").unwrap();
        assert_eq!(reader.join().unwrap(), b"bytes");
        assert!(pipe.exists());
    }

    #[test]
    fn a_replaced_file_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        write(&spot(&path), b"new").unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o640);
    }
}
