//! How a group of records lies in the store: packed, then cut into chunks.
//!
//! A group is its records, each after its length, and a checksum over them. Chunks are small because the store puts
//! larger values into files of their own that it never syncs. The first chunk of a group and the last are marked, so
//! a group is whole or it is not there, whatever the store kept of it. Each chunk carries the number of its group in a
//! stamp that can be found in the raw file: see [`super::witness`].

/// A chunk with its head. The store was seen to keep values up to 8 KiB in its log.
pub(super) const CHUNK_BYTES: usize = 4096;
/// The head: a mark and a stamp.
pub(super) const HEAD_BYTES: usize = 1 + STAMP_BYTES;
/// Of a stamp.
pub(super) const STAMP_BYTES: usize = 16;
/// What a stamp begins with.
pub(super) const MAGIC: [u8; 4] = [0xF5, b'A', b'y', 0xC1];

const FIRST: u8 = 1;
const LAST: u8 = 2;
const CHECKSUM_BYTES: usize = 8;

/// Why bytes are no group.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("it has no valid head")]
    Head,
    #[error("its group begins before the last one ended, or does not begin")]
    Order,
    #[error("its group is number {found}, and {expected} was to follow")]
    Number { expected: u64, found: u64 },
    #[error("its group does not match its checksum")]
    Checksum,
    #[error("a record is longer than its group")]
    Length,
}

/// The chunks of one group.
pub(super) fn split(number: u64, records: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let length: usize = records.iter().map(|record| record.len() + 5).sum();
    let mut packed = Vec::with_capacity(length + CHECKSUM_BYTES);
    for record in records {
        prost::encoding::encode_varint(record.len() as u64, &mut packed);
        packed.extend_from_slice(record);
    }
    let checksum = blake3::hash(&packed);
    packed.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
    let parts = packed.chunks(CHUNK_BYTES - HEAD_BYTES);
    let last = parts.len() - 1;
    let mark = |at: usize| (if at == 0 { FIRST } else { 0 }) | (if at == last { LAST } else { 0 });
    let stamp = stamp(number);
    parts.enumerate().map(|(at, part)| [&[mark(at)], &stamp[..], part].concat()).collect()
}

/// The group that a stamp names, if these bytes are one.
pub(super) fn stamped(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(*bytes.get(MAGIC.len()..)?.first_chunk()?);
    (bytes.get(..STAMP_BYTES)? == stamp(number)).then_some(number)
}

fn stamp(number: u64) -> [u8; STAMP_BYTES] {
    let mut stamp = [0; STAMP_BYTES];
    stamp[..4].copy_from_slice(&MAGIC);
    stamp[4..12].copy_from_slice(&number.to_le_bytes());
    let check = blake3::hash(&stamp[..12]);
    stamp[12..].copy_from_slice(&check.as_bytes()[..4]);
    stamp
}

/// Puts chunks together again, in order.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    packed: Vec<u8>,
    open: bool,
    /// The number of the next group.
    next: u64,
}

impl Joiner {
    /// Takes the next chunk; with the last of a group, hands each of its records out.
    pub(super) fn take<E: From<Damage>>(
        &mut self,
        chunk: &[u8],
        each: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (head, part) = chunk.split_first_chunk::<HEAD_BYTES>().ok_or(Damage::Head)?;
        let (mark, found) = (head[0], stamped(&head[1..]).ok_or(Damage::Head)?);
        if (mark & FIRST != 0) == self.open {
            return Err(Damage::Order.into());
        }
        if found != self.next {
            return Err(Damage::Number { expected: self.next, found }.into());
        }
        self.open = true;
        self.packed.extend_from_slice(part);
        if mark & LAST != 0 {
            self.open = false;
            self.next += 1;
            let packed = std::mem::take(&mut self.packed);
            unpack(&packed, each)?;
            self.packed = packed;
            self.packed.clear();
        }
        Ok(())
    }

    /// How many groups were whole.
    pub(super) fn whole(&self) -> u64 {
        self.next
    }

    /// Whether a group has begun and not ended.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }
}

fn unpack<E: From<Damage>>(packed: &[u8], each: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let (mut records, checksum) = packed.split_last_chunk::<CHECKSUM_BYTES>().ok_or(Damage::Checksum)?;
    if blake3::hash(records).as_bytes()[..CHECKSUM_BYTES] != checksum[..] {
        return Err(Damage::Checksum.into());
    }
    while !records.is_empty() {
        let length = prost::encoding::decode_varint(&mut records).map_err(|_| Damage::Length)?;
        let length = usize::try_from(length).map_err(|_| Damage::Length)?;
        let (record, rest) = records.split_at_checked(length).ok_or(Damage::Length)?;
        each(record)?;
        records = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn join(chunks: &[Vec<u8>]) -> Result<(Vec<Vec<u8>>, bool), Damage> {
        let (mut joiner, mut records) = (Joiner::default(), Vec::new());
        for chunk in chunks {
            joiner.take::<Damage>(chunk, &mut |record| {
                records.push(record.to_vec());
                Ok(())
            })?;
        }
        Ok((records, joiner.is_open()))
    }

    proptest! {
        #[test]
        fn groups_round_trip(sizes in proptest::collection::vec(0usize..9000, 0..6)) {
            let records: Vec<Vec<u8>> = sizes.iter().map(|size| vec![7; *size]).collect();
            let chunks = split(0, &records);
            prop_assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES));
            prop_assert_eq!(join(&chunks).unwrap(), (records, false));
        }
    }

    #[test]
    fn a_torn_group_gives_nothing_and_a_changed_one_is_damage() {
        let chunks = split(0, &[vec![1; 5000], vec![2; 5000]]);
        assert_eq!(join(&chunks[..2]).unwrap(), (Vec::new(), true));
        assert_eq!(join(&chunks[1..]).unwrap_err(), Damage::Order);
        let mut changed = chunks.clone();
        changed[1][HEAD_BYTES] ^= 1;
        assert_eq!(join(&changed).unwrap_err(), Damage::Checksum);
        assert_eq!(join(&split(3, &[])).unwrap_err(), Damage::Number { expected: 0, found: 3 });
        let twice = [chunks[..1].to_vec(), chunks].concat();
        assert_eq!(join(&twice).unwrap_err(), Damage::Order);
    }
}
