//! Which parts of a new file need not be written: a hole reads as zeros and takes no room on a disk.

/// Holes are made of blocks of this size: what common file systems allocate.
pub const BLOCK_BYTES: usize = 4096;

/// A part of what is written to a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run<'a> {
    /// Bytes to write.
    Data(&'a [u8]),
    /// This many zeros: skip them, and set the file's length at the end.
    Hole(usize),
}

impl Run<'_> {
    /// How many bytes of the file it is.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Hole(length) => *length,
        }
    }
}

/// Splits the bytes that belong at `offset` of a new file into data and holes, in order.
///
/// Blocks are counted from the file's start, so a file that arrives in chunks of any size gets the same holes.
pub fn runs(offset: u64, bytes: &[u8]) -> Runs<'_> {
    let into_block = usize::try_from(offset % BLOCK_BYTES as u64).unwrap_or_default();
    Runs { rest: bytes, block: BLOCK_BYTES - into_block }
}

/// The parts of a chunk; see [`runs`].
#[derive(Debug, Clone)]
pub struct Runs<'a> {
    rest: &'a [u8],
    /// Bytes up to the next block's start.
    block: usize,
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let hole = is_zero(self.piece(0));
        let mut length = 0;
        while length < self.rest.len() {
            let piece = self.piece(length);
            if is_zero(piece) != hole {
                break;
            }
            length += piece.len();
            self.block = BLOCK_BYTES;
        }
        let (run, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(if hole { Run::Hole(length) } else { Run::Data(run) })
    }
}

impl<'a> Runs<'a> {
    /// What lies from `from` on within one block.
    fn piece(&self, from: usize) -> &'a [u8] {
        let rest = &self.rest[from..];
        &rest[..rest.len().min(self.block)]
    }
}

fn is_zero(piece: &[u8]) -> bool {
    const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
    // Comparing with zeros is a memcmp, which is fast in every build.
    *piece == ZEROS[..piece.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(offset: u64, bytes: &[u8]) -> Vec<Run<'_>> {
        runs(offset, bytes).collect()
    }

    #[test]
    fn only_blocks_without_data_are_holes() {
        let mut bytes = vec![0; 5 * BLOCK_BYTES];
        bytes[BLOCK_BYTES + 7] = 1;
        let data = &bytes[BLOCK_BYTES..2 * BLOCK_BYTES];
        assert_eq!(split(0, &bytes), [Run::Hole(BLOCK_BYTES), Run::Data(data), Run::Hole(3 * BLOCK_BYTES)]);
        assert_eq!(split(0, &[]), []);
        assert_eq!(split(0, b"text"), [Run::Data(b"text")]);
        assert_eq!(split(0, &[0; 3]), [Run::Hole(3)]);
    }

    #[test]
    fn blocks_are_counted_from_the_files_start() {
        let mut bytes = vec![0; 2 * BLOCK_BYTES];
        bytes[0] = 1;
        // The data's block ends 96 bytes on.
        let offset = 10 * BLOCK_BYTES as u64 + 4000;
        assert_eq!(split(offset, &bytes), [Run::Data(&bytes[..96]), Run::Hole(2 * BLOCK_BYTES - 96)]);
    }

    proptest! {
        #[test]
        fn a_file_in_chunks_reads_as_it_was_with_every_empty_block_a_hole(
            blocks in prop::collection::vec((any::<bool>(), 1..=BLOCK_BYTES), 0..12),
            cuts in prop::collection::vec(1..20_000_usize, 1..8),
        ) {
            let mut content = Vec::new();
            for (filled, length) in blocks {
                content.extend(std::iter::repeat_n(u8::from(filled) * 7, length));
            }
            let (mut file, mut written) = (vec![0; content.len()], vec![false; content.len()]);
            let (mut at, mut cuts) = (0, cuts.iter().cycle());
            while at < content.len() {
                let end = content.len().min(at + cuts.next().unwrap());
                let mut to = at;
                for run in runs(at as u64, &content[at..end]) {
                    if let Run::Data(data) = run {
                        file[to..to + data.len()].copy_from_slice(data);
                        written[to..to + data.len()].fill(true);
                    }
                    to += run.bytes();
                }
                prop_assert_eq!(to, end);
                at = end;
            }
            for (block, written) in content.chunks(BLOCK_BYTES).zip(written.chunks(BLOCK_BYTES)) {
                prop_assert!(block.iter().any(|byte| *byte != 0) || !written.contains(&true));
            }
            prop_assert_eq!(file, content);
        }
    }
}
