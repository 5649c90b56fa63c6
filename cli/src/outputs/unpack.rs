//! A root file system's tar becomes files in a folder that is ours alone.
//!
//! No entry is ever reached through a link, whoever made it: every folder on the way is opened without following any.
//! Folders get their modes, owners and times last, where they end up, for files are still to be put into them.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, openat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::entry::{each, names, shown};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// How tar has extended attributes.
const XATTR: &str = "SCHILY.xattr.";

/// What a folder is to be, once everything is in it.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Below the root.
    names: Vec<Vec<u8>>,
    meta: Meta,
}

/// Owner, mode and time.
#[derive(Debug, Clone, Copy)]
struct Meta {
    uid: u32,
    gid: u32,
    mode: u32,
    modified: Timespec,
}

/// Unpacks below `root`, an empty folder. Returns its folders, for [`settle`].
pub(crate) fn unpack(from: impl Read, root: &Path) -> Result<Vec<Folder>> {
    let root = openat(CWD, root, FOLDER, Mode::empty()).with_context(|| root.display().to_string())?;
    let mut unpacking = Unpacking { root, parent: None, folders: Vec::new() };
    each(from, |entry| {
        let path = entry.path_bytes().into_owned();
        unpacking.entry(entry, &path).with_context(|| format!("{:?} in the archive", shown(&path)))
    })?;
    Ok(unpacking.folders)
}

/// Gives folders below `root` their owners, modes and times.
pub(crate) fn settle(root: &Path, folders: &[Folder]) -> Result<()> {
    let root = openat(CWD, root, FOLDER, Mode::empty())?;
    // The innermost first: what is done to one changes the time of the one around it.
    let mut order: Vec<&Folder> = folders.iter().collect();
    order.sort_by_key(|folder| std::cmp::Reverse(folder.names.len()));
    for folder in order {
        let mut at = root.try_clone()?;
        for name in &folder.names {
            at = openat(&at, name.as_slice(), FOLDER, Mode::empty())?;
        }
        folder.meta.put(&at)?;
    }
    Ok(())
}

struct Unpacking {
    root: OwnedFd,
    /// The folder of the last entry: the next is mostly in it too.
    parent: Option<(Vec<Vec<u8>>, OwnedFd)>,
    folders: Vec<Folder>,
}

impl Unpacking {
    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, path: &[u8]) -> Result<()> {
        let names = names(path)?;
        // The root itself stays as it is.
        let Some((name, above)) = names.split_last() else { return Ok(()) };
        let meta = Meta::of(entry)?;
        let kind = entry.header().entry_type();
        let name = CString::new(*name)?;
        if kind == tar::EntryType::Link {
            return self.link(entry, &name, above);
        }
        let parent = self.open(above)?;
        match kind {
            tar::EntryType::Directory => match mkdirat(&parent, &name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {
                    let folder =
                        openat(&parent, &name, FOLDER, Mode::empty()).context("it is a file already")?;
                    attributes(entry, &folder)?;
                    let names = names.iter().map(|name| name.to_vec()).collect();
                    self.folders.push(Folder { names, meta });
                }
                Err(error) => return Err(error.into()),
            },
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().context("it has no target")?.into_owned();
                replace(&parent, &name)?;
                symlinkat(target.as_slice(), &parent, &name)?;
                meta.put_link(&parent, &name)?;
            }
            tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => {
                node(entry.header(), &parent, &name, meta)?;
            }
            _ => {
                replace(&parent, &name)?;
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(openat(&parent, &name, flags, Mode::RUSR | Mode::WUSR)?);
                io::copy(entry, &mut file)?;
                // Before the mode: to change an owner takes special bits away.
                meta.own(&file)?;
                attributes(entry, &file)?;
                meta.put(&file)?;
            }
        }
        Ok(())
    }

    fn link<R: Read>(&mut self, entry: &tar::Entry<'_, R>, name: &CString, above: &[&[u8]]) -> Result<()> {
        let target = entry.link_name_bytes().context("it has no target")?.into_owned();
        let target = names(&target)?;
        let Some((target, target_above)) = target.split_last() else { bail!("it links to a folder") };
        let from = self.open(target_above)?.try_clone()?;
        let parent = self.open(above)?;
        replace(&parent, name)?;
        // The link itself where the target is one.
        linkat(&from, *target, &parent, name, AtFlags::empty()).context("its target cannot be linked to")?;
        Ok(())
    }

    /// Opens a folder, and makes it where it is not there.
    fn open(&mut self, names: &[&[u8]]) -> Result<OwnedFd> {
        if let Some((known, fd)) = &self.parent
            && known.iter().map(Vec::as_slice).eq(names.iter().copied())
        {
            return Ok(fd.try_clone()?);
        }
        let mut at = self.root.try_clone()?;
        for name in names {
            at = match openat(&at, *name, FOLDER, Mode::empty()) {
                Err(Errno::NOENT) => {
                    mkdirat(&at, *name, Mode::from_raw_mode(0o755))?;
                    openat(&at, *name, FOLDER, Mode::empty())?
                }
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    bail!("it leads through {:?}, which is a link or a file", shown(name))
                }
                opened => opened?,
            };
        }
        self.parent = Some((names.iter().map(|name| name.to_vec()).collect(), at.try_clone()?));
        Ok(at)
    }
}

impl Meta {
    fn of<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Self> {
        let number = |id: u64| u32::try_from(id).map_err(io::Error::other);
        let modified = match extension(entry, "mtime")? {
            Some(decimal) => {
                let wrong = || io::Error::other(format!("its time {:?} is none", shown(&decimal)));
                time(&decimal).ok_or_else(wrong)?
            }
            None => Timespec {
                tv_sec: i64::try_from(entry.header().mtime()?).map_err(io::Error::other)?,
                tv_nsec: 0,
            },
        };
        let header = entry.header();
        Ok(Self {
            uid: number(header.uid()?)?,
            gid: number(header.gid()?)?,
            mode: header.mode()? & 0o7777,
            modified,
        })
    }

    fn times(self) -> Timestamps {
        Timestamps { last_access: self.modified, last_modification: self.modified }
    }

    /// Owners are root's to give; for everybody else files are their own, as with buildx.
    fn own(self, file: impl AsFd) -> rustix::io::Result<()> {
        match privileged() {
            true => fchown(file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid))),
            false => Ok(()),
        }
    }

    fn put(self, file: impl AsFd) -> rustix::io::Result<()> {
        self.own(&file)?;
        fchmod(&file, Mode::from_raw_mode(self.mode))?;
        futimens(&file, &self.times())
    }

    fn put_link(self, parent: &OwnedFd, name: &CString) -> rustix::io::Result<()> {
        if privileged() {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        utimensat(parent, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// What a record beside the header says.
fn extension<R: Read>(entry: &mut tar::Entry<'_, R>, key: &str) -> io::Result<Option<Vec<u8>>> {
    let mut found = None;
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            if extension.key_bytes() == key.as_bytes() {
                found = Some(extension.value_bytes().to_vec());
            }
        }
    }
    Ok(found)
}

/// A time as PAX has it: decimal seconds, `-1.5`. Digits beyond nanoseconds are left out.
fn time(decimal: &[u8]) -> Option<Timespec> {
    let text = std::str::from_utf8(decimal).ok()?;
    let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || !is_number(seconds) || !is_number(fraction) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let nanoseconds: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let (tv_sec, tv_nsec) = match (is_negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    };
    Some(Timespec { tv_sec, tv_nsec })
}

fn privileged() -> bool {
    rustix::process::geteuid().is_root()
}

/// Takes away what an earlier entry of the same name left.
fn replace(parent: &OwnedFd, name: &CString) -> Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => bail!("it is a folder already"),
        Err(error) => Err(error.into()),
    }
}

fn node(header: &tar::Header, parent: &OwnedFd, name: &CString, meta: Meta) -> Result<()> {
    let device = |header: &tar::Header| -> io::Result<u64> {
        Ok(makedev(header.device_major()?.unwrap_or_default(), header.device_minor()?.unwrap_or_default()))
    };
    let (kind, device) = match header.entry_type() {
        tar::EntryType::Char => (FileType::CharacterDevice, device(header)?),
        tar::EntryType::Block => (FileType::BlockDevice, device(header)?),
        // Its fields for a device may hold anything.
        _ => (FileType::Fifo, 0),
    };
    replace(parent, name)?;
    match mknodat(parent, name, kind, Mode::from_raw_mode(meta.mode), device) {
        Ok(()) => {}
        Err(Errno::PERM) => bail!("only root may make a device; run as root, or use type=tar"),
        Err(error) => return Err(error.into()),
    }
    rustix::fs::chmodat(parent, name, Mode::from_raw_mode(meta.mode), AtFlags::empty())?;
    Ok(meta.put_link(parent, name)?)
}

/// Extended attributes, where both the file system and this user's rights allow.
fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>, file: impl AsFd) -> Result<()> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix(XATTR)) else { continue };
        match fsetxattr(&file, name, extension.value_bytes(), XattrFlags::empty()) {
            Ok(()) | Err(Errno::PERM | Errno::ACCESS | Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    type Entry<'a> = (tar::EntryType, &'a [u8], &'a [u8], &'a [u8], u32);

    /// A tar with names as hostile as they are given.
    fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (kind, path, link, content, mode) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.as_mut_bytes()[..path.len()].copy_from_slice(path);
            header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
            header.set_size(content.len() as u64);
            header.set_mode(*mode);
            header.set_mtime(1_000_000);
            header.set_uid(rustix::process::geteuid().as_raw().into());
            header.set_gid(rustix::process::getegid().as_raw().into());
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    const FILE: tar::EntryType = tar::EntryType::Regular;
    const DIR: tar::EntryType = tar::EntryType::Directory;
    const SOFT: tar::EntryType = tar::EntryType::Symlink;
    const HARD: tar::EntryType = tar::EntryType::Link;

    #[test]
    fn modes_times_and_links_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let bytes = tar(&[
            (DIR, b"./", b"", b"", 0o700),
            (DIR, b"closed/", b"", b"", 0o555),
            (FILE, b"closed/tool", b"", b"#!", 0o4755),
            (HARD, b"same", b"closed/tool", b"", 0o644),
            (SOFT, b"out", b"../../etc/passwd", b"", 0o777),
            (tar::EntryType::Fifo, b"fifo", b"", b"", 0o600),
            (FILE, b"implied/file", b"", b"x", 0o640),
        ]);
        let folders = unpack(&bytes[..], root.path()).unwrap();
        settle(root.path(), &folders).unwrap();
        let meta = |path: &str| fs::symlink_metadata(root.path().join(path)).unwrap();
        assert_eq!(meta("closed").permissions().mode() & 0o7777, 0o555);
        assert_eq!(meta("closed").mtime(), 1_000_000);
        assert_eq!(meta("closed/tool").permissions().mode() & 0o7777, 0o4755);
        assert_eq!((meta("same").ino(), meta("same").mtime()), (meta("closed/tool").ino(), 1_000_000));
        assert_eq!(fs::read_link(root.path().join("out")).unwrap(), Path::new("../../etc/passwd"));
        assert_eq!(meta("out").mtime(), 1_000_000);
        assert_eq!(fs::read(root.path().join("implied/file")).unwrap(), b"x");
        fs::set_permissions(root.path().join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn exact_times_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let times =
            [("a", "1700000000.123456789", 1_700_000_000, 123_456_789), ("old", "-1.25", -2, 750_000_000)];
        for (path, time, _, _) in times {
            tar.append_pax_extensions([("mtime", time.as_bytes())]).unwrap();
            let mut header = tar::Header::new_ustar();
            header.set_path(path).unwrap();
            header.set_mode(0o644);
            header.set_uid(rustix::process::geteuid().as_raw().into());
            header.set_gid(rustix::process::getegid().as_raw().into());
            header.set_mtime(9);
            header.set_size(0);
            header.set_cksum();
            tar.append(&header, io::empty()).unwrap();
        }
        unpack(&tar.into_inner().unwrap()[..], root.path()).unwrap();
        for (path, _, seconds, nanoseconds) in times {
            let found = fs::metadata(root.path().join(path)).unwrap();
            assert_eq!((found.mtime(), found.mtime_nsec()), (seconds, nanoseconds), "{path}");
        }
        for bad in ["", "-", "x", "1.x", ".5", "1e9", "99999999999999999999"] {
            assert!(time(bad.as_bytes()).is_none(), "{bad}");
        }
        let at = time(b"0.1234567899").unwrap();
        assert_eq!((at.tv_sec, at.tv_nsec), (0, 123_456_789));
    }

    #[test]
    fn nothing_is_written_outside_whatever_the_archive_says() {
        let outside = tempfile::tempdir().unwrap();
        let outside = outside.path().to_str().unwrap().as_bytes();
        let cases: Vec<(&str, Vec<Entry<'_>>)> = vec![
            ("leads out", vec![(FILE, b"../evil", b"", b"x", 0o644)]),
            ("leads out", vec![(FILE, b"a/../../evil", b"", b"x", 0o644)]),
            ("leads through", vec![(SOFT, b"a", outside, b"", 0o777), (FILE, b"a/evil", b"", b"x", 0o644)]),
            ("already", vec![(SOFT, b"a", outside, b"", 0o777), (DIR, b"a", b"", b"", 0o755)]),
            ("leads through", vec![(SOFT, b"a", outside, b"", 0o777), (HARD, b"b", b"a/x", b"", 0o644)]),
            ("leads out", vec![(HARD, b"b", b"../../etc/passwd", b"", 0o644)]),
            ("cannot be linked", vec![(HARD, b"b", b"nowhere", b"", 0o644)]),
            ("folder", vec![(DIR, b"a", b"", b"", 0o755), (FILE, b"a", b"", b"x", 0o644)]),
            ("unknown kind", vec![(tar::EntryType::new(b'Z'), b"a", b"", b"", 0o644)]),
        ];
        for (part, entries) in cases {
            let root = tempfile::tempdir().unwrap();
            let error = unpack(&tar(&entries)[..], root.path()).unwrap_err();
            let text = format!("{error:#}");
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert_eq!(fs::read_dir(Path::new(std::str::from_utf8(outside).unwrap())).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_replaces_a_link_does_not_write_through_it() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let victim = outside.path().join("victim");
        fs::write(&victim, "safe").unwrap();
        symlink(&victim, root.path().join("a")).unwrap();
        unpack(&tar(&[(FILE, b"a", b"", b"evil", 0o644)])[..], root.path()).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"safe");
        assert_eq!(fs::read(root.path().join("a")).unwrap(), b"evil");
    }

    #[test]
    fn an_absolute_name_is_below_the_root_and_a_cut_archive_an_error() {
        let root = tempfile::tempdir().unwrap();
        let bytes = tar(&[(FILE, b"/etc/file", b"", &[7; 2000], 0o644)]);
        unpack(&bytes[..], root.path()).unwrap();
        assert_eq!(fs::read(root.path().join("etc/file")).unwrap().len(), 2000);
        assert!(unpack(&bytes[..1000], root.path()).is_err());
    }
}
