//! The entries of one tar, as they stream by, read the way Go's `archive/tar` reads them: it is what Engines
//! unpack layers with, and an archive that two readers understand differently is how things are hidden.
//!
//! The `tar` crate's own iterator reads a long name whole, however long, and skips content that Go does not
//! believe in; so of that crate only the header's fields are used. Nothing is read back: what an entry's
//! reader leaves is skipped.

use std::io::{self, Read};

use archyard_model::limits;
use tar::{EntryType, Header};

const BLOCK_BYTES: usize = 512;
const SKIP_BYTES: usize = 64 * 1024;

/// Why an archive could not be walked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// What the archive comes from failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no archive, or goes past a limit.
    #[error("{0}")]
    Malformed(String),
}

/// What a header, with its extensions, says.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: EntryType,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) link: Vec<u8>,
    /// Of the content that follows, in bytes.
    pub(super) size: u64,
    /// The content is a map and some pieces, not the file's bytes from its first.
    pub(super) is_sparse: bool,
}

/// A tar.
#[derive(Debug)]
pub(super) struct Walk<R> {
    source: R,
    /// Of the entry's content, not yet read.
    content: u64,
    padding: u64,
    buffer: Vec<u8>,
}

/// What extension headers say of the next entry.
#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    is_sparse: bool,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> Walk<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, content: 0, padding: 0, buffer: vec![0; SKIP_BYTES] }
    }

    /// The next entry; none at the archive's end, after which more may follow in the stream.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_content()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            let size = header.entry_size().map_err(|_| malformed("a size that is no number"))?;
            match kind {
                EntryType::XHeader => extensions.pax(&self.special(size)?)?,
                EntryType::XGlobalHeader => self.content(size),
                EntryType::GNULongName => extensions.long_path = Some(text(&self.special(size)?)),
                EntryType::GNULongLink => extensions.long_link = Some(text(&self.special(size)?)),
                _ => return self.entry(&header, size, extensions).map(Some),
            }
        }
    }

    /// Reads up to `most` bytes of the entry's content, from where it was left.
    pub(super) fn read(&mut self, most: u64) -> Result<Vec<u8>, Error> {
        let length = most.min(self.content);
        let mut bytes = Vec::new();
        let read = self.source.by_ref().take(length).read_to_end(&mut bytes)?;
        self.content -= read as u64;
        if (read as u64) < length {
            return Err(cut_off());
        }
        Ok(bytes)
    }

    /// Skips bytes of the entry's content.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), Error> {
        let mut left = count.min(self.content);
        self.content -= left;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            match self.source.read(&mut self.buffer[..length]) {
                Ok(0) => return Err(cut_off()),
                Ok(read) => left -= read as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn entry(&mut self, header: &Header, size: u64, extensions: Extensions) -> Result<Entry, Error> {
        let mut kind = header.entry_type();
        let link = header.link_name_bytes().map(std::borrow::Cow::into_owned);
        let path = header.path_bytes().into_owned();
        let path = extensions.long_path.or(extensions.path).unwrap_or(path);
        let link = extensions.long_link.or(extensions.link).or(link).unwrap_or_default();
        for (what, text) in [("path", &path), ("link", &link)] {
            if text.len() > limits::INSPECT_PATH_BYTES {
                let most = limits::INSPECT_PATH_BYTES;
                return Err(malformed(format!("a {what} of {} bytes; at most {most} are taken", text.len())));
            }
        }
        let is_old_gnu_sparse = kind == EntryType::GNUSparse;
        if is_old_gnu_sparse {
            self.skip_sparse_map(header)?;
            kind = EntryType::Regular;
        }
        // Archives of before there were folders.
        if header.as_bytes()[156] == 0 && path.ends_with(b"/") {
            kind = EntryType::Directory;
        }
        let has_content = !matches!(
            kind,
            EntryType::Link
                | EntryType::Symlink
                | EntryType::Char
                | EntryType::Block
                | EntryType::Directory
                | EntryType::Fifo
        );
        let size = if has_content { extensions.size.unwrap_or(size) } else { 0 };
        self.content(size);
        let mode = header.mode().map_err(|_| malformed("a mode that is no number"))?;
        let is_sparse = is_old_gnu_sparse || extensions.is_sparse;
        // Numbers that are none say nothing: whose a file is decides only about a warning.
        let owner = |own: Option<u32>, header: io::Result<u64>| {
            own.or_else(|| header.ok().and_then(|id| u32::try_from(id).ok())).unwrap_or_default()
        };
        let (uid, gid) = (owner(extensions.uid, header.uid()), owner(extensions.gid, header.gid()));
        Ok(Entry { path, kind, mode, uid, gid, link, size, is_sparse })
    }

    /// The next header; none where the archive ends.
    fn header(&mut self) -> Result<Option<Header>, Error> {
        let Some(block) = self.block()? else { return Ok(None) };
        if is_zero(&block) {
            return match self.block()? {
                Some(second) if !is_zero(&second) => Err(malformed("an empty block amid its headers")),
                _ => Ok(None),
            };
        }
        let header = Header::from_byte_slice(&block);
        let checksum = header.cksum().map_err(|_| malformed("a checksum that is no number"))?;
        if i64::from(checksum) != sum(&block, i64::from) && i64::from(checksum) != sum(&block, signed) {
            return Err(malformed("a header whose checksum is wrong"));
        }
        Ok(Some(header.clone()))
    }

    /// One block; none at the stream's end.
    fn block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, Error> {
        let mut block = [0; BLOCK_BYTES];
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(cut_off()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(block))
    }

    /// Old GNU archives continue a sparse file's map in blocks of their own.
    fn skip_sparse_map(&mut self, header: &Header) -> Result<(), Error> {
        let mut continues = header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
        while continues {
            continues = self.block()?.ok_or_else(cut_off)?[504] != 0;
        }
        Ok(())
    }

    /// The content of an extension header.
    fn special(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > limits::INSPECT_HEADER_BYTES {
            let most = limits::INSPECT_HEADER_BYTES;
            return Err(malformed(format!("an extension header of {size} bytes; at most {most} are taken")));
        }
        self.content(size);
        self.read(size)
    }

    fn content(&mut self, size: u64) {
        self.content = size;
        self.padding = size.wrapping_neg() % BLOCK_BYTES as u64;
    }

    fn skip_content(&mut self) -> Result<(), Error> {
        self.skip(self.content)?;
        self.content = std::mem::take(&mut self.padding);
        self.skip(self.content)
    }
}

impl Extensions {
    /// Records are `LENGTH KEY=VALUE\n`; a value may hold anything, newlines too.
    fn pax(&mut self, mut records: &[u8]) -> Result<(), Error> {
        let wrong = || malformed("a PAX header that makes no sense");
        *self =
            Self { long_path: self.long_path.take(), long_link: self.long_link.take(), ..Self::default() };
        while !records.is_empty() {
            let space = records.iter().take(20).position(|byte| *byte == b' ').ok_or_else(wrong)?;
            let length = number(&records[..space]).and_then(|length| usize::try_from(length).ok());
            let length = length.filter(|length| *length > space).ok_or_else(wrong)?;
            let record = records.get(space + 1..length).ok_or_else(wrong)?;
            let record = record.strip_suffix(b"\n").ok_or_else(wrong)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
            self.record(&record[..equals], &record[equals + 1..])?;
            records = &records[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.is_sparse |= key.starts_with(b"GNU.sparse.");
        if value.is_empty() {
            return Ok(());
        }
        match key {
            b"path" | b"GNU.sparse.name" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => {
                let size = number(value).ok_or_else(|| malformed("a PAX size that is no number"))?;
                self.size = Some(size);
            }
            b"uid" => self.uid = number(value).and_then(|id| u32::try_from(id).ok()),
            b"gid" => self.gid = number(value).and_then(|id| u32::try_from(id).ok()),
            _ => {}
        }
        Ok(())
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// What stands before the first zero.
fn text(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// The sum of a header's bytes, those of the checksum itself taken for spaces. Some systems' bytes have a sign.
fn sum(block: &[u8], byte: fn(u8) -> i64) -> i64 {
    let spaces = 8 * i64::from(b' ');
    block[..148].iter().chain(&block[156..]).map(|value| byte(*value)).sum::<i64>() + spaces
}

fn signed(byte: u8) -> i64 {
    i64::from(i8::from_ne_bytes([byte]))
}

fn malformed(why: impl Into<String>) -> Error {
    Error::Malformed(why.into())
}

fn cut_off() -> Error {
    malformed("it ends in the middle of an entry")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> Result<Vec<(String, EntryType, u64)>, Error> {
        let mut walk = Walk::new(bytes);
        let mut entries = Vec::new();
        while let Some(entry) = walk.next()? {
            entries.push((String::from_utf8_lossy(&entry.path).into_owned(), entry.kind, entry.size));
        }
        Ok(entries)
    }

    fn header(kind: EntryType, path: &str, size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(path).unwrap();
        header.set_mode(0o755);
        header.set_size(size);
        header.set_cksum();
        header
    }

    fn entry(kind: EntryType, path: &str, content: &[u8]) -> Vec<u8> {
        let mut bytes = header(kind, path, content.len() as u64).as_bytes().to_vec();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    #[test]
    fn long_names_of_either_kind_are_names() {
        let long = format!("{}/file", "folder".repeat(40));
        let mut gnu = tar::Builder::new(Vec::new());
        let mut plain = header(EntryType::Regular, "x", 3);
        gnu.append_data(&mut plain, &long, &b"abc"[..]).unwrap();
        assert_eq!(walk(&gnu.into_inner().unwrap()).unwrap(), [(long.clone(), EntryType::Regular, 3)]);

        let record = |length: usize| format!("{length} path={long}\n");
        let pax = record(record(100).len());
        let trap = "30 SCHILY.xattr.user.x=\n9 path=y\n";
        let trap = trap.replacen("30", &trap.len().to_string(), 1);
        let bytes = [
            entry(EntryType::XHeader, "pax", format!("{pax}{trap}").as_bytes()),
            entry(EntryType::Regular, "short", b"abc"),
            entry(EntryType::Regular, "next", b""),
        ];
        let found = walk(&bytes.concat()).unwrap();
        assert_eq!(found, [(long, EntryType::Regular, 3), ("next".to_owned(), EntryType::Regular, 0)]);
    }

    #[test]
    fn sizes_are_believed_where_go_believes_them() {
        let hidden = entry(EntryType::Regular, "hidden", b"");
        // A folder has no content, whatever its header says: what follows is the next entry.
        let folder = header(EntryType::Directory, "folder/", 512).as_bytes().to_vec();
        let found = walk(&[folder, hidden.clone()].concat()).unwrap();
        assert_eq!(found.len(), 2);
        // A PAX size counts more than the header's.
        let pax = entry(EntryType::XHeader, "pax", b"12 size=512\n");
        let file = header(EntryType::Regular, "file", 0).as_bytes().to_vec();
        let found = walk(&[pax, file, hidden].concat()).unwrap();
        assert_eq!(found, [("file".to_owned(), EntryType::Regular, 512)]);
    }

    #[test]
    fn archives_that_make_no_sense_are_refused() {
        let whole = entry(EntryType::Regular, "file", b"content");
        let mut checksum = whole.clone();
        checksum[0] ^= 1;
        for (bytes, why) in [
            (whole[..515].to_vec(), "in the middle"),
            (whole[..100].to_vec(), "in the middle"),
            (checksum, "checksum"),
            ([vec![0; 512], whole.clone()].concat(), "empty block"),
            (header(EntryType::GNULongName, "x", 1 << 40).as_bytes().to_vec(), "extension header"),
            (header(EntryType::Regular, "x", u64::MAX >> 2).as_bytes().to_vec(), "in the middle"),
            (entry(EntryType::XHeader, "x", b"9999 path=x\n"), "PAX"),
            (entry(EntryType::XHeader, "x", b"11 size=-1\n"), "PAX size"),
            (entry(EntryType::XHeader, "x", b"99999999999999999999999 x=\n"), "PAX"),
            (
                [entry(EntryType::GNULongName, "x", &[b'a'; 5000]), whole.clone()].concat(),
                "path of 5000 bytes",
            ),
        ] {
            let error = walk(&bytes).unwrap_err().to_string();
            assert!(error.contains(why), "{error} lacks {why}");
        }
        assert!(walk(&[]).unwrap().is_empty());
        assert_eq!(walk(&[whole, vec![0; 1024], vec![7; 512]].concat()).unwrap().len(), 1);
    }
}
