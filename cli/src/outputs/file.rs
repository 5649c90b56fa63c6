//! Where one stream of bytes ends: standard output, or a file that appears whole or not at all.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use tempfile::NamedTempFile;

use super::spec::Dest;

/// An open end.
#[derive(Debug)]
pub(crate) struct Target {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Standard output, or what is no file: written as it comes.
    Direct(File),
    /// A file without a name: the death of this process leaves nothing of it.
    Nameless(File),
    /// Where the file system has no such files.
    Named(NamedTempFile),
}

impl Target {
    /// Opens it. Nothing is seen of a file before [`commit`](Self::commit).
    pub(crate) fn open(dest: &Dest) -> Result<Self> {
        let path = match dest {
            Dest::Stdout => PathBuf::from("/dev/stdout"),
            Dest::File(path) => path.clone(),
        };
        let kind = match dest {
            Dest::Stdout => io::stdout().as_fd().try_clone_to_owned().map(|fd| Kind::Direct(fd.into())),
            Dest::File(path) => open_file(path),
        };
        let kind = kind.with_context(|| format!("--output: cannot write {dest}"))?;
        Ok(Self { path, kind })
    }

    /// Gives the file its name.
    pub(crate) fn commit(self) -> Result<()> {
        let Self { path, kind } = self;
        let named = match kind {
            Kind::Direct(mut file) => file.flush(),
            Kind::Nameless(file) => name(&file, &path),
            Kind::Named(file) => file.persist(&path).map(drop).map_err(|error| error.error),
        };
        named.with_context(|| format!("--output: cannot write {}", path.display()))
    }

    /// An error of writing to it, with its name.
    pub(crate) fn wrong(path: &Dest, error: io::Error) -> anyhow::Error {
        anyhow::Error::from(error).context(format!("--output: cannot write {path}"))
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.kind {
            Kind::Direct(file) | Kind::Nameless(file) => file.write(bytes),
            Kind::Named(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Direct(file) | Kind::Nameless(file) => file.flush(),
            Kind::Named(file) => file.flush(),
        }
    }
}

fn open_file(path: &Path) -> io::Result<Kind> {
    if path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
        return File::options().write(true).open(path).map(Kind::Direct);
    }
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mode = Mode::from_raw_mode(0o666);
    match rustix::fs::open(folder(path), OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, mode) {
        Ok(file) => Ok(Kind::Nameless(file.into())),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
            let permissions = std::fs::Permissions::from_mode(0o666);
            let mut builder = tempfile::Builder::new();
            builder.prefix(".archyard-").permissions(permissions).tempfile_in(folder(path)).map(Kind::Named)
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

/// The folder that a file is in.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        std::fs::write(&path, "old").unwrap();
        let dest = Dest::File(path.clone());
        let mut target = Target::open(&dest).unwrap();
        target.write_all(b"half").unwrap();
        drop(target);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        let mut target = Target::open(&dest).unwrap();
        target.write_all(b"whole").unwrap();
        target.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something stayed behind");
    }

    #[test]
    fn what_is_no_file_is_written_to_and_a_folder_refused() {
        let mut target = Target::open(&Dest::File("/dev/null".into())).unwrap();
        target.write_all(b"x").unwrap();
        target.commit().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let error = Target::open(&Dest::File(dir.path().into())).unwrap_err().to_string();
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
    }
}
