//! The receiving half of FileSend, as BuildKit's `local` exporter speaks it: file by file, with exact times.
//!
//! BuildKit lists what there is and sends the files that it is asked for, up to four at a time. They leave here as one
//! tar, in the order of the list. A file is asked for ahead of its turn only while few bytes are under way, so that what
//! waits in memory is bounded whatever the sizes.

use std::collections::{HashMap, VecDeque};

use archyard_model::limits;
use bytes::Bytes;

use super::wire::Stat;

/// Content that may be under way ahead of its turn.
const AHEAD_BYTES: u64 = 1024 * 1024;
/// Files that may be: as many as BuildKit lets wait.
const AHEAD_FILES: usize = 64;
/// Tar blocks.
const BLOCK_BYTES: usize = 512;
/// How tar has extended attributes.
const XATTR: &str = "SCHILY.xattr.";
/// What fits a header's field of a time without an extension.
const OCTAL_SECONDS: i64 = 0o7_7777_7777;

/// Go's mode bits.
mod go {
    pub(super) const DIRECTORY: u32 = 1 << 31;
    pub(super) const SYMLINK: u32 = 1 << 27;
    pub(super) const DEVICE: u32 = 1 << 26;
    pub(super) const FIFO: u32 = 1 << 25;
    pub(super) const SOCKET: u32 = 1 << 24;
    pub(super) const SETUID: u32 = 1 << 23;
    pub(super) const SETGID: u32 = 1 << 22;
    pub(super) const CHARACTER: u32 = 1 << 21;
    pub(super) const STICKY: u32 = 1 << 20;
}

/// A tree on its way into a tar.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Listed and not yet written, with its number.
    waiting: VecDeque<(u32, Stat)>,
    listed: u32,
    is_complete: bool,
    /// How many of `waiting` were looked at for asking.
    looked: usize,
    /// Asked for and not yet written in full, by number.
    coming: HashMap<u32, Coming>,
    ahead_bytes: u64,
    /// Bytes of the first of `waiting` that are still to be written; none while its header is.
    left: Option<u64>,
    padding: usize,
    out: Vec<Bytes>,
}

#[derive(Debug, Default)]
struct Coming {
    data: VecDeque<Bytes>,
    ended: bool,
}

/// What is wrong with what BuildKit sends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Wrong {
    #[error("the root file system has more than {} files", limits::INSPECT_ENTRIES)]
    TooMany,
    #[error("BuildKit sent content of a file that it was not asked for")]
    Unasked,
    #[error("BuildKit sent {0:?} with another length than it had told")]
    Length(String),
    #[error("{0:?} cannot be written into a tar: {1}")]
    Header(String, std::io::Error),
}

impl Tree {
    /// One more entry of the list; its end is none.
    pub(super) fn list(&mut self, stat: Option<Stat>) -> Result<(), Wrong> {
        match stat {
            Some(stat) => {
                if self.waiting.len() >= limits::INSPECT_ENTRIES {
                    return Err(Wrong::TooMany);
                }
                self.waiting.push_back((self.listed, stat));
                self.listed += 1;
            }
            None => self.is_complete = true,
        }
        self.write()
    }

    /// Content of a file; none is its end.
    pub(super) fn content(&mut self, id: u32, data: Bytes) -> Result<(), Wrong> {
        let coming = self.coming.get_mut(&id).filter(|coming| !coming.ended).ok_or(Wrong::Unasked)?;
        if data.is_empty() {
            coming.ended = true;
        } else {
            coming.data.push_back(data);
        }
        self.write()
    }

    /// The next file to ask for, as far as there is room.
    pub(super) fn ask(&mut self) -> Option<u32> {
        while let Some((id, stat)) = self.waiting.get(self.looked) {
            let size = content_bytes(stat);
            if size > 0 {
                let room = self.ahead_bytes + size <= AHEAD_BYTES && self.coming.len() < AHEAD_FILES;
                if !room && !self.coming.is_empty() {
                    return None;
                }
                self.ahead_bytes += size;
                self.coming.insert(*id, Coming::default());
                self.looked += 1;
                return Some(*id);
            }
            self.looked += 1;
        }
        None
    }

    /// What is ready of the tar.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.out)
    }

    /// Whether all of it was taken; then comes the [`end`].
    pub(super) fn is_done(&self) -> bool {
        self.is_complete && self.waiting.is_empty()
    }

    /// Writes what can be written: everything up to the first file whose content is not here.
    fn write(&mut self) -> Result<(), Wrong> {
        while let Some((id, stat)) = self.waiting.front() {
            let size = content_bytes(stat);
            let wrong = || Wrong::Length(shown(&stat.path));
            let left = match self.left {
                Some(left) => left,
                None => {
                    let header = header(stat).map_err(|error| Wrong::Header(shown(&stat.path), error))?;
                    self.out.push(header.into());
                    self.padding = padding(size);
                    *self.left.insert(size)
                }
            };
            if size > 0 {
                let Some(coming) = self.coming.get_mut(id) else { return Ok(()) };
                let mut left = left;
                while let Some(data) = coming.data.pop_front() {
                    left = left.checked_sub(data.len() as u64).ok_or_else(wrong)?;
                    self.out.push(data);
                }
                self.left = Some(left);
                if !coming.ended {
                    return Ok(());
                }
                if left > 0 {
                    return Err(wrong());
                }
                self.coming.remove(id);
                self.ahead_bytes -= size;
                self.out.push(Bytes::from_static(&[0; BLOCK_BYTES]).slice(..self.padding));
            }
            self.left = None;
            self.waiting.pop_front();
            self.looked = self.looked.saturating_sub(1);
        }
        Ok(())
    }
}

/// The end of a tar.
pub(super) fn end() -> Bytes {
    Bytes::from_static(&[0; 2 * BLOCK_BYTES])
}

/// How much content an entry has: only a regular file that is no further name has any.
fn content_bytes(stat: &Stat) -> u64 {
    let special = go::DIRECTORY | go::SYMLINK | go::DEVICE | go::FIFO | go::SOCKET | go::CHARACTER;
    let is_file = stat.mode & special == 0 && stat.link.is_empty();
    if is_file { u64::try_from(stat.size).unwrap_or_default() } else { 0 }
}

fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK_BYTES as u64).unwrap_or_default();
    (BLOCK_BYTES - over) % BLOCK_BYTES
}

/// An entry's header, with the records before it that it needs; nothing for a socket, which no tar holds.
fn header(stat: &Stat) -> std::io::Result<Vec<u8>> {
    use tar::EntryType;
    let kind = match stat.mode {
        mode if mode & go::SOCKET != 0 => return Ok(Vec::new()),
        mode if mode & go::DIRECTORY != 0 => EntryType::Directory,
        mode if mode & go::SYMLINK != 0 => EntryType::Symlink,
        mode if mode & go::FIFO != 0 => EntryType::Fifo,
        mode if mode & go::DEVICE != 0 && mode & go::CHARACTER != 0 => EntryType::Char,
        mode if mode & go::DEVICE != 0 => EntryType::Block,
        _ if !stat.link.is_empty() => EntryType::Link,
        _ => EntryType::Regular,
    };
    let mut path = stat.path.clone();
    if kind == EntryType::Directory && !path.ends_with(b"/") {
        path.push(b'/');
    }
    let mut records: Vec<(String, Vec<u8>)> = Vec::new();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(content_bytes(stat));
    header.set_uid(stat.uid.into());
    header.set_gid(stat.gid.into());
    let special = [(go::SETUID, 0o4000), (go::SETGID, 0o2000), (go::STICKY, 0o1000)];
    let special: u32 = special.iter().filter(|(go, _)| stat.mode & go != 0).map(|(_, posix)| posix).sum();
    header.set_mode(stat.mode & 0o777 | special);
    if matches!(kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(u32::try_from(stat.device_major).unwrap_or_default())?;
        header.set_device_minor(u32::try_from(stat.device_minor).unwrap_or_default())?;
    }
    let (seconds, nanoseconds) =
        (stat.modified_ns.div_euclid(1_000_000_000), stat.modified_ns.rem_euclid(1_000_000_000));
    header.set_mtime(seconds.clamp(0, OCTAL_SECONDS).unsigned_abs());
    if nanoseconds != 0 || !(0..=OCTAL_SECONDS).contains(&seconds) {
        records.push(("mtime".to_owned(), decimal(stat.modified_ns).into_bytes()));
    }
    name(&mut header, 0..100, &path, "path", &mut records);
    name(&mut header, 157..257, &stat.link, "linkpath", &mut records);
    records.extend(stat.xattrs.iter().map(|(name, value)| (format!("{XATTR}{name}"), value.clone())));
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    if !records.is_empty() {
        tar.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
    }
    // Without the end of an archive.
    let mut bytes = std::mem::take(tar.get_mut());
    bytes.extend_from_slice(header.as_bytes());
    Ok(bytes)
}

/// Puts a name into a field of a header, and in full beside it where it is too long.
fn name(
    header: &mut tar::Header,
    field: std::ops::Range<usize>,
    value: &[u8],
    key: &str,
    records: &mut Vec<(String, Vec<u8>)>,
) {
    let field = &mut header.as_mut_bytes()[field];
    let fits = value.len().min(field.len());
    field[..fits].copy_from_slice(&value[..fits]);
    if fits < value.len() {
        records.push((key.to_owned(), value.to_vec()));
    }
}

/// Nanoseconds as decimal seconds, as PAX has times: `-1.5`.
fn decimal(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let all = nanoseconds.unsigned_abs();
    let (seconds, fraction) = (all / 1_000_000_000, all % 1_000_000_000);
    let fraction = format!("{fraction:09}");
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{seconds}"),
        digits => format!("{sign}{seconds}.{digits}"),
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(256).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn stat(path: &str, mode: u32, size: usize) -> Stat {
        Stat {
            path: path.into(),
            mode,
            size: i64::try_from(size).unwrap(),
            modified_ns: 1_700_000_000_000_000_001,
            ..Stat::default()
        }
    }

    /// The tar's entries: path, kind, link, content, mtime as the record has it.
    fn entries(tar: &[u8]) -> Vec<(String, tar::EntryType, String, Vec<u8>, String)> {
        let mut archive = tar::Archive::new(tar);
        let entry = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let link = entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
            let mut time = String::new();
            for record in entry.pax_extensions().unwrap().into_iter().flatten().map(Result::unwrap) {
                if record.key() == Ok("mtime") {
                    time = record.value().unwrap().to_owned();
                }
            }
            let kind = entry.header().entry_type();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (path, kind, link.unwrap_or_default(), content, time)
        };
        archive.entries().unwrap().map(entry).collect()
    }

    #[test]
    fn files_that_come_in_any_order_leave_in_that_of_the_list() {
        let long = "d/".to_owned() + &"x".repeat(150);
        let list = [
            stat("d", go::DIRECTORY | 0o755, 0),
            stat("d/one", 0o644, 700),
            stat("d/two", 0o644, 512),
            Stat { link: b"d/one".to_vec(), ..stat("hard", 0o644, 0) },
            Stat { link: b"../away".to_vec(), ..stat("soft", go::SYMLINK | 0o777, 7) },
            stat("socket", go::SOCKET | 0o777, 0),
            stat("empty", 0o644, 0),
            stat(&long, 0o644, 1),
        ];
        let mut tree = Tree::default();
        let mut tar = Vec::new();
        for stat in list {
            tree.list(Some(stat)).unwrap();
        }
        tree.list(None).unwrap();
        let asked: Vec<u32> = std::iter::from_fn(|| tree.ask()).collect();
        assert_eq!(asked, [1, 2, 7]);
        for (id, data) in [(7, &b"z"[..]), (2, &[2; 512]), (7, b""), (1, &[1; 400]), (2, b""), (1, &[1; 300])]
        {
            tree.content(id, Bytes::copy_from_slice(data)).unwrap();
            assert!(!tree.is_done());
        }
        tree.content(1, Bytes::new()).unwrap();
        assert!(tree.is_done());
        tar.extend(tree.take().concat());
        tar.extend(end());
        let found = entries(&tar);
        let time = "1700000000.000000001";
        let names: Vec<&str> = found.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!(names, ["d/", "d/one", "d/two", "hard", "soft", "empty", &long]);
        assert!(found.iter().all(|entry| entry.4 == time), "{found:?}");
        assert_eq!(
            (found[1].3.len(), found[2].3.as_slice(), found[6].3.as_slice()),
            (700, &[2; 512][..], &b"z"[..])
        );
        assert_eq!((found[3].1, found[3].2.as_str()), (tar::EntryType::Link, "d/one"));
        assert_eq!((found[4].1, found[4].2.as_str()), (tar::EntryType::Symlink, "../away"));
    }

    #[test]
    fn what_waits_in_memory_is_bounded() {
        let mut tree = Tree::default();
        let large = usize::try_from(AHEAD_BYTES).unwrap() + 1;
        for (at, size) in [10, large, 10, 10].into_iter().enumerate() {
            tree.list(Some(stat(&format!("{at}"), 0o644, size))).unwrap();
        }
        let ask = |tree: &mut Tree| std::iter::from_fn(|| tree.ask()).collect::<Vec<_>>();
        assert_eq!(ask(&mut tree), [0]);
        tree.content(0, Bytes::from_static(&[0; 10])).unwrap();
        tree.content(0, Bytes::new()).unwrap();
        assert_eq!(ask(&mut tree), [1]);
        tree.content(1, Bytes::from(vec![0; large])).unwrap();
        tree.content(1, Bytes::new()).unwrap();
        assert_eq!(ask(&mut tree), [2, 3]);
    }

    #[test]
    fn content_that_is_not_as_told_is_refused() {
        let mut tree = Tree::default();
        tree.list(Some(stat("a", 0o644, 3))).unwrap();
        assert!(matches!(tree.content(0, Bytes::from_static(b"x")), Err(Wrong::Unasked)));
        assert_eq!(tree.ask(), Some(0));
        assert!(matches!(tree.content(0, Bytes::from_static(b"four")), Err(Wrong::Length(_))));
        let mut tree = Tree::default();
        tree.list(Some(stat("a", 0o644, 3))).unwrap();
        tree.ask();
        assert!(matches!(tree.content(0, Bytes::new()), Err(Wrong::Length(_))));
    }

    #[test]
    fn times_are_written_as_pax_has_them() {
        for (nanoseconds, want) in [
            (0, "0"),
            (1, "0.000000001"),
            (-1, "-0.000000001"),
            (-1_500_000_000, "-1.5"),
            (2_000_000_000, "2"),
        ] {
            assert_eq!(decimal(nanoseconds), want);
        }
        let at = |modified_ns| {
            let stat = Stat { modified_ns, ..stat("a", 0o644, 0) };
            entries(&[header(&stat).unwrap(), end().to_vec()].concat())[0].4.clone()
        };
        assert_eq!((at(0).as_str(), at(-1_000_000_000).as_str()), ("", "-1"));
    }
}
