//! Listening on a Unix socket that only its owner may open.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// What the system takes for a socket's path, less the suffix it is made under.
const PATH_BYTES: usize = 107 - NEW.len();
const NEW: &str = ".new";

/// Why a socket could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers there.
    #[error("another scheduler listens on unix:{}; stop it, or choose another path with --listen", .0.display())]
    InUse(PathBuf),
    /// The system's own limit.
    #[error("unix:{} is longer than the {PATH_BYTES} bytes that a socket's path may have; choose a shorter one with --listen", .0.display())]
    TooLong(PathBuf),
    /// Something else is there.
    #[error("{} exists and is no socket; move it away, or choose another path with --listen", .0.display())]
    NoSocket(PathBuf),
    /// The file system.
    #[error("cannot listen on unix:{}: {source}; see that its folder exists and is yours", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        source: std::io::Error,
    },
}

/// A socket's file, removed when dropped unless another process has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

/// Listens on a Unix socket of mode 0600. A dead process's socket is replaced, a live one's is not.
pub fn listen_unix(path: &Path) -> Result<(UnixListener, SocketFile), ListenError> {
    let wrong = |source| ListenError::Io { path: path.to_owned(), source };
    if path.as_os_str().as_bytes().len() > PATH_BYTES {
        return Err(ListenError::TooLong(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => return Err(ListenError::InUse(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            use std::os::unix::fs::FileTypeExt as _;
            if !std::fs::symlink_metadata(path).map_err(wrong)?.file_type().is_socket() {
                return Err(ListenError::NoSocket(path.to_owned()));
            }
        }
        Err(error) => return Err(wrong(error)),
    }
    // Nobody can open it before it has its mode, and its name goes from the dead one to this in one step.
    let mut new = path.as_os_str().to_owned();
    new.push(NEW);
    let new = PathBuf::from(new);
    if let Err(error) = std::fs::remove_file(&new)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(wrong(error));
    }
    let listener = UnixListener::bind(&new).map_err(wrong)?;
    std::fs::set_permissions(&new, Permissions::from_mode(0o600)).map_err(wrong)?;
    let inode = inode(&new).map_err(wrong)?;
    std::fs::rename(&new, path).map_err(wrong)?;
    Ok((listener, SocketFile { path: path.to_owned(), inode }))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file that stays is replaced by the next start.
        if inode(&self.path).is_ok_and(|now| now == self.inode) {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

fn inode(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (listener, file) = listen_unix(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = listen_unix(&path).unwrap_err().to_string();
        assert!(
            error.contains("another scheduler listens on unix:") && error.contains("--listen"),
            "{error}"
        );
        drop((listener, file));
        assert!(!path.exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(listen_unix(&path), Err(ListenError::NoSocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
        let long = dir.path().join("x".repeat(200));
        assert!(matches!(listen_unix(&long), Err(ListenError::TooLong(_))));
        let nowhere = dir.path().join("no/folder.sock");
        assert!(listen_unix(&nowhere).unwrap_err().to_string().contains("folder exists"));
    }
}
