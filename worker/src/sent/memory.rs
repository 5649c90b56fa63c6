//! What was sent under one name, as a file has it.
//!
//! A header, then a batch for every context that told anything new: how many records, the manifest's digest, the records,
//! and a hash over this batch and all before it. What does not end with the right hash is damaged as a whole.

use std::collections::{HashMap, HashSet};

use archyard_model::Blake3;

use super::Mark;

const MAGIC: &[u8; 16] = b"archyard sent v1";
const HEADER_BYTES: usize = 32;
const RECORD_BYTES: usize = 32;
const HASH_BYTES: usize = 32;
/// A batch without its records.
const BATCH_BYTES: usize = 4 + HASH_BYTES + HASH_BYTES;
/// A memory is kept up to this length, or this many times its present context, before it starts anew.
const LEAST_BYTES: usize = 2 << 20;
const TIMES: usize = 4;

/// A memory that is whole.
#[derive(Debug)]
pub(super) struct Memory {
    epoch: [u8; 16],
    contents: HashMap<[u8; 16], [u8; 16]>,
    manifests: HashSet<Blake3>,
    /// Over everything so far.
    hash: Blake3,
    length: usize,
}

impl Memory {
    /// What a file holds; none where it is damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_BYTES)?;
        let mut memory = Self {
            epoch: header.strip_prefix(MAGIC)?.try_into().ok()?,
            contents: HashMap::with_capacity(bytes.len() / RECORD_BYTES),
            manifests: HashSet::new(),
            hash: Blake3::of(header),
            length: HEADER_BYTES,
        };
        let mut rest = &bytes[HEADER_BYTES..];
        while let Some(count) = rest.first_chunk::<4>() {
            let records = usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(RECORD_BYTES)?;
            let batch = rest.get(..records.checked_add(BATCH_BYTES)?)?;
            let (body, hash) = batch.split_at(batch.len() - HASH_BYTES);
            memory.hash = chained(&memory.hash, body);
            if memory.hash.as_bytes() != hash {
                return None;
            }
            memory.manifests.insert(Blake3::try_from(&body[4..4 + HASH_BYTES]).ok()?);
            for record in body[4 + HASH_BYTES..].chunks_exact(RECORD_BYTES) {
                let (identity, content) = record.split_at(16);
                memory.contents.insert(identity.try_into().ok()?, content.try_into().ok()?);
            }
            memory.length += batch.len();
            rest = &rest[batch.len()..];
        }
        rest.is_empty().then_some(memory)
    }

    /// The file of a memory of one context.
    pub(super) fn fresh(epoch: [u8; 16], manifest: &Blake3, marks: &[Mark]) -> Vec<u8> {
        let mut bytes = [*MAGIC, epoch].concat();
        let batch = batch(&Blake3::of(&bytes), manifest, marks.iter());
        bytes.extend(batch);
        bytes
    }

    /// What is to be appended for this context; none where it may not be sent under this name.
    pub(super) fn add(&self, manifest: &Blake3, marks: &[Mark]) -> Option<Vec<u8>> {
        let mut new = Vec::new();
        for mark in marks {
            match self.contents.get(&mark.identity) {
                Some(content) if *content == mark.content => {}
                Some(_) => return None,
                None => new.push(mark),
            }
        }
        let length = self.length + BATCH_BYTES + new.len() * RECORD_BYTES;
        let most = LEAST_BYTES.max(TIMES * marks.len() * RECORD_BYTES);
        (length <= most).then(|| batch(&self.hash, manifest, new.into_iter()))
    }

    /// Whether this very context was sent.
    pub(super) fn knows(&self, manifest: &Blake3) -> bool {
        self.manifests.contains(manifest)
    }

    /// What tells its name from all others.
    pub(super) fn epoch(&self) -> [u8; 16] {
        self.epoch
    }

    /// Of its file, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length as u64
    }
}

fn batch<'a>(before: &Blake3, manifest: &Blake3, marks: impl ExactSizeIterator<Item = &'a Mark>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BATCH_BYTES + marks.len() * RECORD_BYTES);
    // A context has far fewer entries than this can count.
    bytes.extend(u32::try_from(marks.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(manifest.as_bytes());
    for mark in marks {
        bytes.extend(mark.identity);
        bytes.extend(mark.content);
    }
    let hash = chained(before, &bytes);
    bytes.extend(hash.as_bytes());
    bytes
}

fn chained(before: &Blake3, body: &[u8]) -> Blake3 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before.as_bytes());
    hasher.update(body);
    hasher.finalize().into()
}
