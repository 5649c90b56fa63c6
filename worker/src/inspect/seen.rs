//! The parts of a file that were kept while it streamed by, for a parser that wants to look around in it.

use std::cell::Cell;
use std::ops::Range;

use object::ReadRef;

/// A file of which only some parts are here. Says which part was asked for and is not.
#[derive(Debug, Default)]
pub(super) struct Seen {
    size: u64,
    parts: Vec<(u64, Vec<u8>)>,
    wanted: Cell<Option<(u64, u64)>>,
}

impl Seen {
    /// A file of `size` bytes that begins with these.
    pub(super) fn new(size: u64, head: Vec<u8>) -> Self {
        Self { size, parts: vec![(0, head)], wanted: Cell::new(None) }
    }

    /// One more part.
    pub(super) fn add(&mut self, offset: u64, bytes: Vec<u8>) {
        self.parts.push((offset, bytes));
    }

    /// Of the whole file, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The part within the file that was asked for last and is not here, as offset and length.
    pub(super) fn take_wanted(&self) -> Option<Range<u64>> {
        self.wanted.take().map(|(offset, size)| offset..offset + size)
    }
}

impl<'a> ReadRef<'a> for &'a Seen {
    fn len(self) -> Result<u64, ()> {
        Ok(self.size)
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        let end = offset.checked_add(size).filter(|end| *end <= self.size).ok_or(())?;
        let inside = |(start, bytes): &'a (u64, Vec<u8>)| {
            let from = usize::try_from(offset.checked_sub(*start)?).ok()?;
            let to = usize::try_from(end - start).ok()?;
            bytes.get(from..to)
        };
        if let Some(bytes) = self.parts.iter().find_map(inside) {
            return Ok(bytes);
        }
        self.wanted.set(Some((offset, size)));
        Err(())
    }

    /// Nothing that is read here ends by a delimiter.
    fn read_bytes_at_until(self, _: Range<u64>, _: u8) -> Result<&'a [u8], ()> {
        Err(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_it_lacks_and_what_cannot_be() {
        let mut seen = Seen::new(100, vec![1; 10]);
        assert_eq!((&seen).read_bytes_at(2, 8), Ok(&[1; 8][..]));
        assert_eq!(seen.take_wanted(), None);
        assert_eq!((&seen).read_bytes_at(8, 4), Err(()));
        assert_eq!(seen.take_wanted(), Some(8..12));
        for (offset, size) in [(99, 2), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!((&seen).read_bytes_at(offset, size), Err(()));
            assert_eq!(seen.take_wanted(), None, "{offset}+{size} lies within no file of 100 bytes");
        }
        seen.add(50, vec![2; 5]);
        assert_eq!((&seen).read_bytes_at(51, 3), Ok(&[2; 3][..]));
    }
}
