//! One layer's tar, read once: its diff id, its compressed form unless that is known, and a look into it for
//! whoever wants one.

use std::io::{self, Read, Write};

use archyard_model::Sha256;
use flate2::{Compression, GzBuilder};
use sha2::Digest as _;

use super::cache::{Cache, Layer};
use super::observe::{LayerObserver, Observer};
use super::tee::{Hashing, Tee};

/// What Docker and BuildKit use: the middle between time and size.
const LEVEL: Compression = Compression::new(6);
/// No operating system: the same bytes wherever it was made.
const UNKNOWN_SYSTEM: u8 = 255;
const BUFFER_BYTES: usize = 128 * 1024;

/// How layers are read.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) cache: &'a Cache,
    /// Whether layers are compressed, for a registry; else they are only hashed and observed.
    pub(super) compress: bool,
    /// Whether a layer that begins like a known one of the same size is taken for that, and only hashed.
    pub(super) guess: bool,
    pub(super) observer: Option<&'a dyn Observer>,
}

/// What is known of a layer before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// The tar's length in bytes.
    Size(u64),
    /// Its diff id, so that it is read only to be seen.
    DiffId(Sha256),
    Nothing,
}

/// What reading a layer gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) diff_id: Sha256,
    /// Whether it was compressed, rather than known or not wanted.
    pub(super) compressed: bool,
}

impl Reading<'_> {
    /// Whether a layer of this diff id need not be read at all.
    pub(super) fn is_done(&self, diff_id: Sha256) -> bool {
        self.has_compressed(diff_id) && self.observer.is_none_or(|observer| observer.knows(diff_id))
    }

    /// Whether a layer need not be compressed.
    fn has_compressed(&self, diff_id: Sha256) -> bool {
        !self.compress || self.cache.layer(diff_id).is_some_and(|layer| self.cache.has_blob(layer.digest))
    }

    /// Reads a layer to its end and keeps it.
    ///
    /// `None`: it was not what was known or guessed of it, and the bytes are gone; read it again knowing nothing.
    pub(super) fn keep(&self, tar: impl Read, known: Known) -> io::Result<Option<Kept>> {
        let mut tee = Tee::new(tar)?;
        let print = match known {
            Known::Size(size) => Some(fingerprint(tee.beginning(), size)),
            Known::DiffId(_) | Known::Nothing => None,
        };
        let expected = match known {
            Known::DiffId(diff_id) => Some(diff_id).filter(|diff_id| self.has_compressed(*diff_id)),
            Known::Size(_) | Known::Nothing => print
                .filter(|_| self.guess && self.compress)
                .and_then(|print| self.cache.by_print(print))
                .filter(|layer| self.cache.has_blob(layer.digest))
                .map(|layer| layer.diff_id),
        };
        if expected.is_some() || !self.compress {
            let mut hashing = Hashing::new(io::sink());
            let seen = self.pass(&mut tee, &mut hashing)?;
            let diff_id = hashing.finish().0;
            if expected.is_some_and(|expected| expected != diff_id) {
                return Ok(None);
            }
            end(seen, diff_id);
            return Ok(Some(Kept { diff_id, compressed: false }));
        }
        let mut file = self.cache.new_file()?;
        let compressed = Hashing::new(io::BufWriter::with_capacity(BUFFER_BYTES, file.as_file_mut()));
        let gzip = GzBuilder::new().mtime(0).operating_system(UNKNOWN_SYSTEM).write(compressed, LEVEL);
        let mut raw = Hashing::new(gzip);
        let seen = self.pass(&mut tee, &mut raw)?;
        let (diff_id, _, gzip) = raw.finish();
        let (digest, size_bytes, mut written) = gzip.finish()?.finish();
        written.flush()?;
        drop(written);
        self.cache.keep_layer(file, &Layer { diff_id, digest, size_bytes }, print)?;
        end(seen, diff_id);
        Ok(Some(Kept { diff_id, compressed: true }))
    }

    /// The one pass over a layer: everything goes into `sink`, whoever reads it.
    fn pass(
        &self,
        tee: &mut Tee<impl Read>,
        sink: &mut impl Write,
    ) -> io::Result<Option<Box<dyn LayerObserver>>> {
        let mut seen = self.observer.map(Observer::begin);
        let mut reader = tee.reader(sink);
        if let Some(layer) = &mut seen {
            layer.read(&mut reader);
        }
        reader.drain()?;
        Ok(seen)
    }
}

fn end(seen: Option<Box<dyn LayerObserver>>, diff_id: Sha256) {
    if let Some(seen) = seen {
        seen.end(diff_id);
    }
}

/// Tells layers apart: several tar headers, times and all.
fn fingerprint(beginning: &[u8], size: u64) -> Sha256 {
    let digest = sha2::Sha256::new().chain_update(size.to_le_bytes()).chain_update(beginning).finalize();
    Sha256::from_bytes(digest.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn content(last: u8) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..400_000_u32).flat_map(u32::to_le_bytes).collect();
        bytes.push(last);
        bytes
    }

    fn reading(cache: &Cache) -> Reading<'_> {
        Reading { cache, compress: true, guess: true, observer: None }
    }

    fn read(bytes: &[u8], reading: Reading<'_>) -> Option<Kept> {
        reading.keep(bytes, Known::Size(bytes.len() as u64)).unwrap()
    }

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        (folder, cache)
    }

    #[test]
    fn compresses_once_and_the_same_way_everywhere() {
        let ((_one, one), (_two, two)) = (cache(), cache());
        let bytes = content(0);
        let first = read(&bytes, reading(&one)).unwrap();
        assert_eq!(first, Kept { diff_id: Sha256::of(&bytes), compressed: true });
        assert_eq!(read(&bytes, reading(&two)), Some(first));
        assert_eq!(read(&bytes, reading(&one)), Some(Kept { compressed: false, ..first }));
        let layer = one.layer(first.diff_id).unwrap();
        assert_eq!(two.layer(first.diff_id), Some(layer));

        let mut stored = Vec::new();
        one.open_blob(layer.digest).unwrap().unwrap().read_to_end(&mut stored).unwrap();
        assert_eq!((Sha256::of(&stored), stored.len() as u64), (layer.digest, layer.size_bytes));
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

    /// Reads this much of each layer, and remembers it by diff id.
    #[derive(Default)]
    struct Seeing {
        limit: u64,
        seen: std::sync::Arc<Mutex<Vec<(Sha256, usize)>>>,
    }

    struct SeeingOne(u64, usize, std::sync::Arc<Mutex<Vec<(Sha256, usize)>>>);

    impl Observer for Seeing {
        fn knows(&self, diff_id: Sha256) -> bool {
            self.seen.lock().unwrap().iter().any(|(known, _)| *known == diff_id)
        }

        fn begin(&self) -> Box<dyn LayerObserver> {
            Box::new(SeeingOne(self.limit, 0, self.seen.clone()))
        }
    }

    impl LayerObserver for SeeingOne {
        fn read(&mut self, tar: &mut dyn Read) {
            let mut small = [0; 700];
            while let Ok(count @ 1..) = Read::take(&mut *tar, self.0).read(&mut small) {
                (self.0, self.1) = (self.0 - count as u64, self.1 + count);
            }
        }

        fn end(self: Box<Self>, diff_id: Sha256) {
            self.2.lock().unwrap().push((diff_id, self.1));
        }
    }

    #[test]
    fn how_bytes_arrive_and_who_looks_at_them_does_not_matter() {
        let text = |n: u32| format!("{} {}\n", n.wrapping_mul(2_654_435_761), n % 97).into_bytes();
        let bytes: Vec<u8> = (0..150_000).flat_map(text).collect();
        let ((_one, one), (_two, two)) = (cache(), cache());
        let whole = read(&bytes, reading(&one)).unwrap();
        let observer = Seeing { limit: 300_001, ..Seeing::default() };
        let watched = Reading { observer: Some(&observer), ..reading(&two) };
        let dripped = watched.keep(Dripping(&bytes, 1), Known::Nothing).unwrap().unwrap();
        assert_eq!(whole, dripped);
        assert_eq!(one.layer(whole.diff_id), two.layer(whole.diff_id));
        assert_eq!(*observer.seen.lock().unwrap(), [(whole.diff_id, 300_001)]);
        assert!(watched.is_done(whole.diff_id) && !watched.is_done(Sha256::of(b"other")));
    }

    #[test]
    fn a_layer_that_nobody_sends_is_seen_and_not_compressed() {
        let (_folder, cache) = cache();
        let observer = Seeing { limit: u64::MAX, ..Seeing::default() };
        let reading = Reading { compress: false, observer: Some(&observer), ..reading(&cache) };
        let kept = read(&content(0), reading).unwrap();
        assert_eq!(kept, Kept { diff_id: Sha256::of(&content(0)), compressed: false });
        assert_eq!(*observer.seen.lock().unwrap(), [(kept.diff_id, content(0).len())]);
        assert!(cache.layer(kept.diff_id).is_none());
    }

    #[test]
    fn a_layer_that_only_begins_like_a_known_one_is_not_taken_for_it() {
        let (_folder, cache) = cache();
        let observer = Seeing { limit: 1, ..Seeing::default() };
        let guessing = Reading { observer: Some(&observer), ..reading(&cache) };
        read(&content(0), guessing).unwrap();
        assert_eq!(read(&content(1), guessing), None);
        assert_eq!(guessing.keep(&content(1)[..], Known::DiffId(Sha256::of(&content(0)))).unwrap(), None);
        assert_eq!(observer.seen.lock().unwrap().len(), 1, "a layer was told under a wrong name");
        let sure = Reading { guess: false, ..guessing };
        assert_eq!(read(&content(1), sure).unwrap().diff_id, Sha256::of(&content(1)));
    }

    #[test]
    fn a_reader_that_breaks_is_an_error_whoever_met_it() {
        struct Broken(usize);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += buffer.len();
                if self.0 > 1_000_000 { Err(io::Error::other("cut")) } else { Ok(buffer.len()) }
            }
        }
        let (_folder, cache) = cache();
        for limit in [1, u64::MAX] {
            let observer = Seeing { limit, ..Seeing::default() };
            let reading = Reading { observer: Some(&observer), ..reading(&cache) };
            let error = reading.keep(Broken(0), Known::Nothing).unwrap_err();
            assert_eq!(error.to_string(), "cut");
            assert!(observer.seen.lock().unwrap().is_empty());
        }
    }

    #[test]
    fn an_empty_layer_is_a_layer() {
        let (_folder, cache) = cache();
        assert_eq!(read(b"", reading(&cache)).unwrap().diff_id, Sha256::of(b""));
    }
}
