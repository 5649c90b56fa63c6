//! What a file is, by its first bytes, as they stream by.

use std::io::Read;
use std::sync::Arc;

use super::elf::{self, Elf, Unreadable};
use super::seen::Seen;
use super::walk::{Error, Walk};

/// What is kept of an ELF file while its headers are read.
const HEAD_BYTES: u64 = 64 * 1024;
/// What the kernel looks at to tell a script.
const SCRIPT_BYTES: u64 = 256;
/// Parts beyond the head that are kept, when headers point there: their table, and the loader's name.
const PARTS: u32 = 4;

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Content {
    /// Nothing a kernel could run.
    Data,
    /// A program, a library, an object.
    Elf(Arc<Elf>),
    /// Begins with `#!`; what follows of its first line, at most 254 bytes, and whether that was all of it.
    Script(Arc<[u8]>, bool),
    /// Claims to be ELF, but its headers make no sense.
    Broken(Arc<str>),
    /// Stored in pieces: its first bytes were not read.
    Pieces,
}

/// A file's bytes from its first, once.
pub(super) trait Body {
    /// Up to `most` of the next.
    fn read(&mut self, most: u64) -> Result<Vec<u8>, Error>;
    /// Leaves out as many.
    fn skip(&mut self, count: u64) -> Result<(), Error>;
}

impl<R: Read> Body for Walk<R> {
    fn read(&mut self, most: u64) -> Result<Vec<u8>, Error> {
        Self::read(self, most)
    }

    fn skip(&mut self, count: u64) -> Result<(), Error> {
        Self::skip(self, count)
    }
}

impl Content {
    /// Looks at the content of a file of `size` bytes, and leaves most of it unread.
    pub(super) fn read(body: &mut impl Body, size: u64) -> Result<Self, Error> {
        let mut head = body.read(SCRIPT_BYTES)?;
        if let Some(rest) = head.strip_prefix(b"#!") {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let is_whole = end.is_some() || (head.len() as u64) < SCRIPT_BYTES;
            return Ok(Self::Script(rest[..end.unwrap_or(rest.len())].into(), is_whole));
        }
        if !head.starts_with(elf::MAGIC) {
            return Ok(Self::Data);
        }
        head.extend(body.read(HEAD_BYTES - SCRIPT_BYTES)?);
        let mut position = head.len() as u64;
        let mut seen = Seen::new(size, head);
        for _ in 0..PARTS {
            let part = match elf::read(&seen, false) {
                Err(Unreadable::Beyond(part)) if part.start >= position => part,
                other => return Ok(Self::of(other, &seen)),
            };
            body.skip(part.start - position)?;
            seen.add(part.start, body.read((part.end - part.start).min(HEAD_BYTES))?);
            position = part.end;
        }
        Ok(Self::of(elf::read(&seen, true), &seen))
    }

    /// `seen`: all that was ever to be seen of the file.
    fn of(read: Result<Elf, Unreadable>, seen: &Seen) -> Self {
        match read {
            Ok(elf) => Self::Elf(elf.into()),
            Err(Unreadable::Broken(why)) => Self::Broken(why.as_ref().into()),
            Err(Unreadable::Beyond(_)) => match elf::read(seen, true) {
                Ok(elf) => Self::Elf(elf.into()),
                Err(_) => Self::Broken("its program headers lie where they were not looked for".into()),
            },
        }
    }
}
