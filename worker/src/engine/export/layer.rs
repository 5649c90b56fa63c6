//! One layer's tar, read once: its diff id, and its compressed form unless that is known.

use std::io::{self, Read, Write};

use archyard_model::Sha256;
use flate2::{Compression, GzBuilder};
use sha2::Digest as _;

use super::cache::{Cache, Layer};

/// The beginning that tells layers apart: several tar headers, times and all.
const PRINT_BYTES: usize = 128 * 1024;
const BLOCK_BYTES: usize = 128 * 1024;
/// What Docker and BuildKit use: the middle between time and size.
const LEVEL: Compression = Compression::new(6);
/// No operating system: the same bytes wherever it was made.
const UNKNOWN_SYSTEM: u8 = 255;

/// What reading a layer gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) layer: Layer,
    /// Whether it was compressed, rather than known.
    pub(super) compressed: bool,
}

/// Reads a layer of `size` bytes to its end and keeps it. `guess`: a layer that begins like a known one of
/// the same size is taken for that, and only hashed.
///
/// `None`: the guess was wrong, and the bytes are gone; read it again without guessing.
pub(super) fn keep(mut tar: impl Read, size: u64, cache: &Cache, guess: bool) -> io::Result<Option<Kept>> {
    let mut beginning = Vec::with_capacity(PRINT_BYTES);
    tar.by_ref().take(PRINT_BYTES as u64).read_to_end(&mut beginning)?;
    let print = fingerprint(&beginning, size);
    let known = cache.by_print(print).filter(|known| guess && cache.has_blob(known.digest));
    if let Some(layer) = known {
        let mut hashing = Hashing::new(io::sink());
        copy(&beginning, tar, &mut hashing)?;
        let same = hashing.finish().0 == layer.diff_id;
        return Ok(same.then_some(Kept { layer, compressed: false }));
    }
    let mut file = cache.new_file()?;
    let compressed = Hashing::new(io::BufWriter::with_capacity(BLOCK_BYTES, file.as_file_mut()));
    let gzip = GzBuilder::new().mtime(0).operating_system(UNKNOWN_SYSTEM).write(compressed, LEVEL);
    let mut raw = Hashing::new(gzip);
    copy(&beginning, tar, &mut raw)?;
    let (diff_id, _, gzip) = raw.finish();
    let (digest, size_bytes, mut written) = gzip.finish()?.finish();
    written.flush()?;
    drop(written);
    let layer = Layer { diff_id, digest, size_bytes };
    cache.keep_layer(file, &layer, print)?;
    Ok(Some(Kept { layer, compressed: true }))
}

fn fingerprint(beginning: &[u8], size: u64) -> Sha256 {
    let digest = sha2::Sha256::new().chain_update(size.to_le_bytes()).chain_update(beginning).finalize();
    Sha256::from_bytes(digest.into())
}

/// In whole blocks, however the bytes arrive: what a compressor makes of them depends on how it is fed.
fn copy(beginning: &[u8], mut rest: impl Read, sink: &mut impl Write) -> io::Result<()> {
    sink.write_all(beginning)?;
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    loop {
        block.clear();
        rest.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok(());
        }
        sink.write_all(&block)?;
    }
}

/// Passes on what is written, and knows its digest and length.
struct Hashing<W> {
    inner: W,
    hasher: sha2::Sha256,
    length: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: sha2::Sha256::new(), length: 0 }
    }

    fn finish(self) -> (Sha256, u64, W) {
        (Sha256::from_bytes(self.hasher.finalize().into()), self.length, self.inner)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::cache::sha256;
    use super::*;

    fn content(last: u8) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..400_000_u32).flat_map(u32::to_le_bytes).collect();
        bytes.push(last);
        bytes
    }

    fn read(bytes: &[u8], cache: &Cache, guess: bool) -> Option<Kept> {
        keep(bytes, bytes.len() as u64, cache, guess).unwrap()
    }

    #[test]
    fn compresses_once_and_the_same_way_everywhere() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, two) = (Cache::open(one.path()).unwrap(), Cache::open(two.path()).unwrap());
        let bytes = content(0);
        let first = read(&bytes, &one, true).unwrap();
        assert!(first.compressed);
        assert_eq!(first.layer.diff_id, sha256(&bytes));
        assert_eq!(read(&bytes, &two, true), Some(first));
        assert_eq!(read(&bytes, &one, true), Some(Kept { compressed: false, ..first }));

        let mut stored = Vec::new();
        one.open_blob(first.layer.digest).unwrap().unwrap().read_to_end(&mut stored).unwrap();
        assert_eq!((sha256(&stored), stored.len() as u64), (first.layer.digest, first.layer.size_bytes));
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&stored[..]).read_to_end(&mut back).unwrap();
        assert_eq!(back, bytes);
    }

    /// Gives a few bytes at a time, as sockets do.
    struct Dripping<'a>(&'a [u8], usize);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1 * 31 % 9973 + 1;
            let limit = self.1.min(buffer.len());
            self.0.read(&mut buffer[..limit])
        }
    }

    #[test]
    fn how_bytes_arrive_does_not_matter() {
        let text = |n: u32| format!("{} {}\n", n.wrapping_mul(2_654_435_761), n % 97).into_bytes();
        let bytes: Vec<u8> = (0..150_000).flat_map(text).collect();
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, two) = (Cache::open(one.path()).unwrap(), Cache::open(two.path()).unwrap());
        let whole = read(&bytes, &one, true);
        let dripped = keep(Dripping(&bytes, 1), bytes.len() as u64, &two, true).unwrap();
        assert_eq!(whole, dripped);
    }

    #[test]
    fn a_layer_that_only_begins_like_a_known_one_is_not_taken_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        read(&content(0), &cache, true).unwrap();
        assert_eq!(read(&content(1), &cache, true), None);
        assert_eq!(read(&content(1), &cache, false).unwrap().layer.diff_id, sha256(&content(1)));
    }

    #[test]
    fn an_empty_layer_is_a_layer() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        assert_eq!(read(b"", &cache, true).unwrap().layer.diff_id, sha256(b""));
    }
}
