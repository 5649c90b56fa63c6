//! What a path that a user gave leads to: a file that may be replaced, or something that may only be written to.
//!
//! Links are followed and stay links. A name in `/proc` is never replaced, for it stands for something open: so
//! `/dev/stdout` is standard output, whatever that is.

use std::fs::{File, Metadata};
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, OFlags, PROC_SUPER_MAGIC};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Links on the way to one file, as many as the kernel follows.
const LINKS: usize = 40;
/// A folder where everybody may make files, but not remove those of others: `/tmp`.
const SHARED: u32 = 0o1002;

/// The end of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spot {
    /// A regular file, or a name that is free: may be replaced whole.
    File(PathBuf),
    /// What this process has open under this number.
    Open(RawFd),
    /// A device, a pipe, or a file in `/proc`: written to as it is.
    Special(PathBuf),
}

/// The number of standard output.
pub(crate) const STDOUT: RawFd = 1;
/// The number of standard error.
pub(crate) const STDERR: RawFd = 2;

impl Spot {
    /// Follows a path to its end. Opens nothing.
    ///
    /// # Errors
    /// What cannot be written to, in words for a person.
    pub(crate) fn of(path: &Path) -> Result<Self, String> {
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err("this names a directory; name a file".to_owned());
        }
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            let folder = folder(&path);
            let around = folder.metadata().map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => "its folder does not exist; make it first".to_owned(),
                _ => format!("its folder cannot be used: {error}"),
            })?;
            if !around.is_dir() {
                return Err(format!("{} is no directory; name another", folder.display()));
            }
            if is_proc(folder) {
                return in_proc(path);
            }
            let there = match path.symlink_metadata() {
                Ok(there) => there,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return writable(path),
                Err(error) => return Err(error.to_string()),
            };
            let kind = there.file_type();
            if kind.is_dir() {
                return Err("this is a directory; name a file".to_owned());
            }
            if kind.is_socket() {
                return Err("this is a socket; name a file, a pipe or a device".to_owned());
            }
            if !kind.is_symlink() {
                return if kind.is_file() { writable(path) } else { Ok(Self::Special(path)) };
            }
            if !may_follow(&there, &around) {
                return Err(format!(
                    "{} is another user's link in a folder that everybody may write to; name a file elsewhere",
                    path.display()
                ));
            }
            path = folder.join(path.read_link().map_err(|error| error.to_string())?);
        }
        Err("its links lead nowhere; name a file".to_owned())
    }

    /// Whether it is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        // To open a pipe is to wait for its reader.
        let is_device = match self {
            Self::Special(path) => {
                path.metadata().is_ok_and(|metadata| metadata.file_type().is_char_device())
            }
            Self::Open(_) => true,
            Self::File(_) => false,
        };
        is_device && matches!(self.open(), Ok(Some(file)) if file.is_terminal())
    }

    /// Opens what is only written to. None: it is a file, to be replaced.
    pub(crate) fn open(&self) -> io::Result<Option<File>> {
        match self {
            Self::File(_) => Ok(None),
            Self::Open(number) => open_again(*number).map(|fd| Some(fd.into())),
            Self::Special(path) => {
                // A file that another process has open is not overwritten from its start.
                let append = path.metadata().is_ok_and(|metadata| metadata.is_file());
                File::options().write(true).append(append).open(path).map(Some)
            }
        }
    }
}

/// The folder that a file is in.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file that this user may replace or write to.
fn writable(path: PathBuf) -> Result<Spot, String> {
    let may = |path: &Path| rustix::fs::access(path, Access::WRITE_OK).is_ok();
    match may(folder(&path)) || may(&path) {
        true => Ok(Spot::File(path)),
        false => Err("this user may not write there; name another file".to_owned()),
    }
}

/// The kernel's own rule for links in shared folders, which it only applies where it follows them itself.
fn may_follow(link: &Metadata, around: &Metadata) -> bool {
    let shared = around.mode() & SHARED == SHARED;
    !shared || link.uid() == around.uid() || link.uid() == rustix::process::geteuid().as_raw()
}

fn is_proc(folder: &Path) -> bool {
    rustix::fs::statfs(folder).is_ok_and(|system| system.f_type == PROC_SUPER_MAGIC)
}

fn in_proc(path: PathBuf) -> Result<Spot, String> {
    let own = format!("/proc/{}/", std::process::id());
    let within = folder(&path).canonicalize().map_err(|error| error.to_string())?;
    let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    if let Some(number) = number.filter(|_| within.starts_with(&own) && within.ends_with("fd")) {
        let open = open_again(number).map_err(|_| "nothing is open under this number".to_owned())?;
        let flags = rustix::fs::fcntl_getfl(&open).map_err(|error| error.to_string())?;
        return match flags & OFlags::ACCMODE {
            OFlags::RDONLY => Err("it is open for reading only".to_owned()),
            _ => Ok(Spot::Open(number)),
        };
    }
    match path.metadata() {
        Ok(there) if there.is_dir() => Err("this is a directory; name a file".to_owned()),
        Ok(_) => Ok(Spot::Special(path)),
        Err(error) => Err(error.to_string()),
    }
}

/// A second descriptor of what is open under a number: it shares the position, and works for sockets too.
fn open_again(number: RawFd) -> io::Result<OwnedFd> {
    for standard in [io::stdout().as_fd(), io::stderr().as_fd()] {
        if standard.as_raw_fd() == number {
            return standard.try_clone_to_owned();
        }
    }
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(&this, number, PidfdGetfdFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_and_free_names_may_be_replaced_and_links_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        symlink("file", at("link")).unwrap();
        symlink(at("link"), at("far")).unwrap();
        symlink("free", at("dangling")).unwrap();
        for (name, want) in
            [("file", "file"), ("free", "free"), ("link", "file"), ("far", "file"), ("dangling", "free")]
        {
            assert_eq!(Spot::of(&at(name)).unwrap(), Spot::File(at(want)), "{name}");
        }
    }

    #[test]
    fn what_is_open_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("file")).unwrap();
        let number = file.as_raw_fd();
        for path in [format!("/proc/self/fd/{number}"), format!("/dev/fd/{number}")] {
            assert_eq!(Spot::of(Path::new(&path)).unwrap(), Spot::Open(number));
        }
        assert_eq!(Spot::of(Path::new("/dev/stdout")).unwrap(), Spot::Open(STDOUT));
        assert_eq!(Spot::of(Path::new("/dev/stderr")).unwrap(), Spot::Open(STDERR));
        let link = dir.path().join("link");
        symlink(format!("/proc/self/fd/{number}"), &link).unwrap();
        assert_eq!(Spot::of(&link).unwrap(), Spot::Open(number));
        let unreadable = File::open(dir.path().join("file")).unwrap();
        let path = format!("/dev/fd/{}", unreadable.as_raw_fd());
        assert_eq!(Spot::of(Path::new(&path)).unwrap_err(), "it is open for reading only");
        assert_eq!(Spot::of(Path::new("/dev/fd/999")).unwrap_err(), "nothing is open under this number");
    }

    #[test]
    fn a_second_descriptor_goes_on_where_the_first_one_was() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut first = File::create(&path).unwrap();
        first.write_all(b"one ").unwrap();
        let mut second = Spot::Open(first.as_raw_fd()).open().unwrap().unwrap();
        second.write_all(b"two ").unwrap();
        first.write_all(b"three").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one two three");
    }

    #[test]
    fn devices_and_pipes_are_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for path in [Path::new("/dev/null"), &pipe] {
            assert_eq!(Spot::of(path).unwrap(), Spot::Special(path.to_owned()));
        }
    }

    #[test]
    fn what_cannot_be_written_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        symlink("loop", at("loop")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        for (path, want) in [
            (dir.path().to_owned(), "a directory"),
            (at("new/"), "a directory"),
            (at("no/file"), "does not exist"),
            (at("file/x"), "no directory"),
            (at("socket"), "a socket"),
            (at("loop"), "links lead nowhere"),
            ("/proc/self".into(), "a directory"),
        ] {
            let error = Spot::of(&path).unwrap_err();
            assert!(error.contains(want), "{}: {error}", path.display());
        }
    }

    #[test]
    fn a_link_that_another_user_left_in_a_shared_folder_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().metadata().unwrap();
        symlink("x", dir.path().join("link")).unwrap();
        let link = dir.path().join("link").symlink_metadata().unwrap();
        assert!(may_follow(&link, &shared));
        let tmp = Path::new("/tmp").metadata().unwrap();
        assert_eq!(tmp.mode() & SHARED, SHARED, "/tmp is not as usual");
        assert!(may_follow(&link, &tmp), "the user's own link");
    }
}
