//! What can go wrong between flags and a plan: each says where, what, and how to mend it.

use std::io;
use std::path::{Path, PathBuf};

use archyard_model::Invalid;

/// Why there is no plan, or why a blob of its context could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag's value, or a limit.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The Dockerfile does not parse, or names something that cannot be.
    #[error("{name}:{line}: {problem}")]
    Dockerfile {
        /// As the user named it.
        name: String,
        /// From 1.
        line: u32,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A line of an ignore file is no pattern.
    #[error("{name}:{line}: pattern {pattern:?}: {problem}")]
    Ignore {
        /// The ignore file.
        name: String,
        /// From 1.
        line: u32,
        /// As written.
        pattern: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A file or directory that this user may not read.
    #[error("{}: not readable by this user; change its mode or owner, or name it in .dockerignore", path.display())]
    Denied {
        /// As the user would write it.
        path: PathBuf,
    },
    /// A file was written to while it was hashed or uploaded.
    #[error("context: {} changed while it was read; build again when nothing writes to it, or name it in .dockerignore", path.display())]
    FileChanged {
        /// Relative to the context.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was being read.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// Who can mend an error, which is what an exit code tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The user, in flags, Dockerfile or context. Trying again unchanged fails again: exit 2.
    Usage,
    /// The machine. Trying again may help: exit 1.
    Io,
}

impl Error {
    /// Whether the user's input is to blame.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) | Self::Dockerfile { .. } | Self::Ignore { .. } | Self::Denied { .. } => {
                ErrorKind::Usage
            }
            Self::FileChanged { .. } | Self::Io { .. } => ErrorKind::Io,
        }
    }

    /// Stable and short, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_argument",
            Self::Dockerfile { .. } => "dockerfile_invalid",
            Self::Ignore { .. } => "ignore_file_invalid",
            Self::Denied { .. } => "unreadable_file",
            Self::FileChanged { .. } => "file_changed",
            Self::Io { .. } => "io",
        }
    }

    /// The error that a blob's reader hid in an [`io::Error`], or one that names `path`.
    pub fn from_read(error: io::Error, path: &Path) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(source) => Self::read(path, source),
        }
    }

    /// An error of the operating system about `path`.
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied { path },
            // Our own words about the file, not the operating system's.
            io::ErrorKind::InvalidInput if source.raw_os_error().is_none() => {
                Invalid::new("context", path.display(), source.to_string()).into()
            }
            _ => Self::Io { path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readers_error_comes_back_as_itself() {
        let path = Path::new("a/b");
        let hidden = io::Error::other(Error::FileChanged { path: path.to_owned() });
        assert_eq!(Error::from_read(hidden, path).code(), "file_changed");
        let denied = Error::from_read(io::ErrorKind::PermissionDenied.into(), path);
        assert_eq!((denied.code(), denied.kind()), ("unreadable_file", ErrorKind::Usage));
        assert!(denied.to_string().starts_with("a/b: not readable"));
        let other = Error::from_read(io::ErrorKind::StorageFull.into(), path);
        assert_eq!((other.code(), other.kind()), ("io", ErrorKind::Io));
    }
}
