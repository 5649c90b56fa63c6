//! Puts a finished tree where the user wants it: what is there already stays, unless the tree has a file of that name.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Moves everything in `from` into `to`, which is made where it is not there. Nothing is moved where anything could not
/// be: only files and links make way, and a device, a pipe or a socket for nothing but
/// its like.
pub(crate) fn place(from: &Path, to: &Path) -> Result<()> {
    check(from, to)?;
    move_all(from, to)
}

fn check(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        let there = kind(&place)?;
        match (entry.file_type()?.is_dir(), there) {
            (true, Some(kind)) if kind.is_dir() => check(&entry.path(), &place)?,
            (false, Some(kind)) if kind.is_dir() => {
                bail!("{} is a folder, and the build has a file there; remove it first", place.display());
            }
            // What the build itself left there before may be replaced by the same.
            (_, Some(kind))
                if kind != entry.file_type()? && !(kind.is_dir() || kind.is_file() || kind.is_symlink()) =>
            {
                bail!("{} is a device, a pipe or a socket; remove it first", place.display());
            }
            _ => {}
        }
    }
    Ok(())
}

fn move_all(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        let moved = match (entry.file_type()?.is_dir(), kind(&place)?) {
            (true, Some(kind)) if kind.is_dir() => {
                move_all(&entry.path(), &place)?;
                continue;
            }
            // As buildx: a file or link makes way for a folder.
            (true, Some(_)) => fs::remove_file(&place).and_then(|()| fs::rename(entry.path(), &place)),
            _ => fs::rename(entry.path(), &place),
        };
        moved.with_context(|| format!("cannot write {}", place.display()))?;
    }
    Ok(())
}

fn kind(path: &Path) -> io::Result<Option<fs::FileType>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata.file_type())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_and_what_collides_is_refused_before_anything_moves() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for folder in ["from/a/new", "to/a", "to/file"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(to.join("a/kept"), "kept").unwrap();
        fs::write(to.join("a/old"), "old").unwrap();
        fs::write(from.join("a/old"), "new").unwrap();
        fs::write(from.join("file"), "").unwrap();
        let error = place(&from, &to).unwrap_err().to_string();
        assert!(error.contains("to/file is a folder"), "{error}");
        assert_eq!(fs::read(to.join("a/old")).unwrap(), b"old", "something was moved");
        fs::remove_dir(to.join("file")).unwrap();
        place(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("a/old")).unwrap(), b"new");
        assert_eq!(fs::read(to.join("a/kept")).unwrap(), b"kept");
        assert!(to.join("a/new").is_dir() && to.join("file").is_file());
    }

    #[test]
    fn a_pipe_or_a_device_does_not_make_way() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir_all(to.join("sub")).unwrap();
        fs::write(from.join("a"), "new").unwrap();
        fs::write(from.join("sub/pipe"), "new").unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let pipe = to.join("sub/pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let error = place(&from, &to).unwrap_err().to_string();
        assert!(error.contains("sub/pipe is a device, a pipe or a socket"), "{error}");
        assert!(!to.join("a").exists(), "something was moved");
        // The same image, once more.
        fs::remove_file(from.join("sub/pipe")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, from.join("sub/pipe"), rustix::fs::FileType::Fifo, mode, 0)
            .unwrap();
        place(&from, &to).unwrap();
        assert!(to.join("a").exists() && pipe.exists());
    }

    #[test]
    fn a_link_that_the_user_has_there_is_replaced_and_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to, other) = (dir.path().join("from"), dir.path().join("to"), dir.path().join("other"));
        for folder in [&from.join("x"), &to, &other] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(from.join("x/file"), "").unwrap();
        std::os::unix::fs::symlink(&other, to.join("x")).unwrap();
        place(&from, &to).unwrap();
        assert!(to.join("x/file").is_file());
        assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
    }
}
