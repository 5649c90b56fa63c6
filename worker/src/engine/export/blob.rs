//! One blob of an OCI layout: a layer in whatever form the Engine keeps it, or a document.

use std::io::{self, BufRead, BufReader, Read};

use archyard_model::Sha256;
use flate2::bufread::MultiGzDecoder;

use super::blame::Error;
use super::layer::{Kept, Known, Reading};
use super::lists::Lists;
use super::tee::Hashing;

/// A tar's first header.
const HEADER_BYTES: u64 = 512;
const BUFFER_BYTES: usize = 128 * 1024;
/// A decoder may hold this much of a layer, as a power of two: what zstd's own tools take without being asked.
const ZSTD_WINDOW_LOG: u32 = 27;

/// What a blob is, by its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Tar,
    Gzip,
    Zstd,
    Document,
}

impl Form {
    fn of(head: &[u8]) -> Self {
        let is_tar = head.get(257..262).is_some_and(|magic| magic == b"ustar");
        match head {
            _ if is_tar => Self::Tar,
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [b'{', ..] => Self::Document,
            _ => Self::Tar,
        }
    }
}

/// Reads a blob that is not known, and keeps what is in it; none where a document was kept.
///
/// # Errors
/// [`Error::Archive`] for content that is not what its name says.
pub(super) fn keep(
    mut blob: impl Read,
    size: u64,
    digest: Sha256,
    reading: Reading<'_>,
    lists: &mut Lists,
) -> Result<Option<Kept>, Error> {
    if let Some(diff_id) = reading.cache.stored(digest)
        && reading.is_done(diff_id)
    {
        return Ok(Some(Kept { diff_id, compressed: false }));
    }
    let mut head = Vec::new();
    blob.by_ref().take(HEADER_BYTES).read_to_end(&mut head).map_err(Error::read)?;
    let form = Form::of(&head);
    let mut stored = Hashing::new(Entry { inner: head.chain(blob), is_cut: false });
    if form == Form::Document {
        return lists.keep(digest, size, stored).map(|()| None);
    }
    let kept = match form {
        Form::Gzip => layer(MultiGzDecoder::new(buffered(&mut stored)), digest, reading),
        Form::Zstd => zstd(buffered(&mut stored)).and_then(|decoder| layer(decoder, digest, reading)),
        Form::Tar | Form::Document => layer(&mut stored, digest, reading),
    };
    let kept = kept.map_err(|error| Error::inside(error, stored.inner().is_cut))?;
    let wrong = || Error::Archive(format!("the content of {digest} is not what its name says"));
    let kept = kept.ok_or_else(wrong)?;
    // What follows the compressed layer is nothing of it, but is under its digest.
    io::copy(&mut stored, &mut io::sink()).map_err(Error::read)?;
    if stored.finish().0 != digest {
        return Err(wrong());
    }
    reading.cache.keep_stored(digest, kept.diff_id)?;
    Ok(Some(kept))
}

fn layer(tar: impl Read, digest: Sha256, reading: Reading<'_>) -> io::Result<Option<Kept>> {
    reading.keep(tar, reading.cache.stored(digest).map_or(Known::Nothing, Known::DiffId))
}

fn zstd<R: BufRead>(blob: R) -> io::Result<zstd::Decoder<'static, R>> {
    let mut decoder = zstd::Decoder::with_buffer(blob)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

fn buffered(reader: impl Read) -> BufReader<impl Read> {
    BufReader::with_capacity(BUFFER_BYTES, reader)
}

/// An entry of the archive, which knows whether it was the archive that ended.
struct Entry<R> {
    inner: R,
    is_cut: bool,
}

impl<R: Read> Read for Entry<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|_| self.is_cut = true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::cache::Cache;
    use super::*;
    use std::io::Write as _;

    fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn take(blob: &[u8], cache: &Cache) -> Result<Option<Kept>, Error> {
        let reading = Reading { cache, compress: true, guess: true, observer: None };
        keep(blob, blob.len() as u64, Sha256::of(blob), reading, &mut Lists::default())
    }

    #[test]
    fn a_layer_is_the_same_however_the_engine_keeps_it() {
        let tar: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let (first, second) = tar.split_at(500_000);
        let parted = [gzip(first, 6), gzip(second, 1)].concat();
        let forms =
            [tar.clone(), gzip(&tar, 1), gzip(&tar, 9), parted, zstd::encode_all(&tar[..], 3).unwrap()];
        let layers = forms.map(|form| {
            let folder = tempfile::tempdir().unwrap();
            let cache = Cache::open(folder.path()).unwrap();
            let kept = take(&form, &cache).unwrap().unwrap();
            assert_eq!(kept, Kept { diff_id: Sha256::of(&tar), compressed: true });
            let again = take(&form, &cache).unwrap().unwrap();
            assert_eq!(again, Kept { compressed: false, ..kept });
            cache.layer(kept.diff_id).unwrap()
        });
        assert!(layers.iter().all(|layer| *layer == layers[0]), "{layers:?}");
    }

    #[test]
    fn a_layer_that_is_known_is_not_even_read() {
        struct Unread;
        impl Read for Unread {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("it was read"))
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let blob = gzip(b"a layer", 6);
        take(&blob, &cache).unwrap();
        let reading = Reading { cache: &cache, compress: true, guess: true, observer: None };
        let kept =
            keep(Unread, blob.len() as u64, Sha256::of(&blob), reading, &mut Lists::default()).unwrap();
        assert_eq!(kept, Some(Kept { diff_id: Sha256::of(b"a layer"), compressed: false }));
    }

    #[test]
    fn hostile_blobs_are_refused_and_nothing_is_remembered_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let good = gzip(&vec![7; 100_000], 6);
        let mut flipped = good.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0xff;
        let cut = &good[..good.len() - 9];
        let windowed = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8][..], &[0; 64]].concat();
        for bad in [&flipped[..], cut, b"\x1f\x8b\x08\x00", &windowed] {
            let error = take(bad, &cache).unwrap_err();
            assert!(matches!(error, Error::Archive(_)), "{error:?}");
            assert_eq!(cache.stored(Sha256::of(bad)), None);
        }
        let reading = Reading { cache: &cache, compress: true, guess: true, observer: None };
        let lie = keep(&good[..], good.len() as u64, Sha256::of(b"other"), reading, &mut Lists::default());
        assert!(matches!(lie, Err(Error::Archive(_))), "{lie:?}");
        assert_eq!(cache.stored(Sha256::of(b"other")), None);
    }

    #[test]
    fn documents_are_told_from_layers() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        assert_eq!(take(b"{}", &cache).unwrap(), None);
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        tar.append_data(&mut header, "{file", &b"x"[..]).unwrap();
        assert!(take(&tar.into_inner().unwrap(), &cache).unwrap().is_some());
        assert!(take(&[0; 1024], &cache).unwrap().is_some());
    }
}
