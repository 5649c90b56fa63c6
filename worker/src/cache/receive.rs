//! Blobs as they arrive: written, verified, and given their name last.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use archyard_model::Blake3;
use archyard_model::sparse::{Run, runs};
use archyard_proto::v1::{BlobPart, DownloadResponse};
use tokio::sync::mpsc;

use super::Cache;

/// Why a download was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    /// The disk refused.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// Whole, and not what it is called.
    #[error("blob {0} arrived with other content")]
    Corrupt(Blake3),
    /// Parts that make no blob.
    #[error("the scheduler's download makes no sense: {0}")]
    Protocol(String),
}

/// Writes what comes through `responses`, until it ends. Blocks: for a thread of its own.
pub(super) fn receive(
    cache: &Cache,
    mut responses: mpsc::Receiver<DownloadResponse>,
) -> Result<u64, ReceiveError> {
    let mut receiver = Receiver { cache, current: None, stored: 0 };
    while let Some(response) = responses.blocking_recv() {
        for part in &response.parts {
            receiver.part(part)?;
        }
    }
    Ok(receiver.stored)
}

struct Receiver<'a> {
    cache: &'a Cache,
    current: Option<Incoming>,
    stored: u64,
}

/// A blob of which more is to come. Dropping it leaves nothing behind.
struct Incoming {
    digest: Blake3,
    size: u64,
    written: u64,
    /// How long the file is by what was written to it: zeros are skipped.
    length: u64,
    hasher: blake3::Hasher,
    file: tempfile::NamedTempFile,
}

impl Receiver<'_> {
    fn part(&mut self, part: &BlobPart) -> Result<(), ReceiveError> {
        let digest = Blake3::try_from(part.digest.as_ref())
            .map_err(|error| ReceiveError::Protocol(error.to_string()))?;
        let mut incoming = match self.current.take() {
            Some(incoming) if incoming.digest == digest => incoming,
            Some(incoming) => {
                return Err(ReceiveError::Protocol(format!(
                    "{digest} came in the midst of {}",
                    incoming.digest
                )));
            }
            None => Incoming {
                digest,
                size: part.size_bytes,
                written: 0,
                length: 0,
                hasher: blake3::Hasher::new(),
                file: tempfile::NamedTempFile::new_in(self.cache.tmp())?,
            },
        };
        if part.data.len() as u64 > incoming.size - incoming.written {
            return Err(ReceiveError::Protocol(format!("{digest} is longer than {} bytes", incoming.size)));
        }
        incoming.hasher.update(&part.data);
        incoming.write(&part.data)?;
        if part.last {
            self.keep(incoming)
        } else {
            self.current = Some(incoming);
            Ok(())
        }
    }

    fn keep(&mut self, incoming: Incoming) -> Result<(), ReceiveError> {
        if incoming.written != incoming.size || Blake3::from(incoming.hasher.finalize()) != incoming.digest {
            return Err(ReceiveError::Corrupt(incoming.digest));
        }
        let path = self.cache.blob_path(&incoming.digest);
        if incoming.length < incoming.size {
            // It ends in a hole.
            incoming.file.as_file().set_len(incoming.size)?;
        }
        let file = incoming.file.into_temp_path();
        match file.persist(&path) {
            Ok(()) => {}
            Err(failed) if failed.error.kind() == io::ErrorKind::NotFound => {
                // The first blob of its shard.
                fs::create_dir_all(path.parent().map_or_else(PathBuf::new, PathBuf::from))?;
                failed.path.persist(&path).map_err(|failed| failed.error)?;
            }
            Err(failed) => return Err(failed.error.into()),
        }
        self.stored += 1;
        Ok(())
    }
}

impl Incoming {
    /// Writes the next bytes; zeros become holes.
    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        for run in runs(self.written, data) {
            if let Run::Data(data) = run {
                self.file.as_file().write_all_at(data, self.written)?;
                self.length = self.written + data.len() as u64;
            }
            self.written += run.bytes() as u64;
        }
        Ok(())
    }
}

/// Notes that the cache grew, so that whoever bounds it looks again.
pub(super) fn mark_grown(cache: &Cache) -> io::Result<()> {
    File::create(cache.root.join("grown")).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(parts: Vec<BlobPart>) -> (tempfile::TempDir, Cache, Result<u64, ReceiveError>) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let (sender, receiver) = mpsc::channel(16);
        for part in parts {
            sender.try_send(DownloadResponse { parts: vec![part] }).unwrap();
        }
        drop(sender);
        let received = receive(&cache, receiver);
        (folder, cache, received)
    }

    fn part(content: &[u8], range: std::ops::Range<usize>) -> BlobPart {
        BlobPart {
            digest: bytes::Bytes::copy_from_slice(Blake3::of(content).as_bytes()),
            size_bytes: if range.start == 0 { content.len() as u64 } else { 0 },
            data: bytes::Bytes::copy_from_slice(&content[range.clone()]),
            last: range.end == content.len(),
        }
    }

    #[test]
    fn blobs_in_one_part_and_in_many() {
        let (_folder, cache, received) =
            run(vec![part(b"abc", 0..1), part(b"abc", 1..3), part(b"", 0..0), part(b"x", 0..1)]);
        assert_eq!(received.unwrap(), 3);
        for content in [&b"abc"[..], b"", b"x"] {
            assert_eq!(fs::read(cache.blob_path(&Blake3::of(content))).unwrap(), content);
        }
    }

    #[test]
    fn zeros_take_no_room_on_the_disk() {
        use std::os::unix::fs::MetadataExt as _;
        // 8 MiB with one byte in the middle, and zeros at the end.
        let mut content = vec![0; 8 * 1024 * 1024];
        content[5_000_000] = 1;
        let parts = (0..content.len())
            .step_by(999_999)
            .map(|from| part(&content, from..content.len().min(from + 999_999)));
        let (_folder, cache, received) = run(parts.collect());
        assert_eq!(received.unwrap(), 1);
        let path = cache.blob_path(&Blake3::of(&content));
        assert!(fs::read(&path).unwrap() == content);
        let occupied = fs::metadata(&path).unwrap().blocks() * 512;
        assert!(occupied <= 64 * 1024, "{occupied} bytes on the disk");
    }

    #[test]
    fn what_is_not_what_it_is_called_is_not_kept() {
        let mut wrong = part(b"abc", 0..3);
        wrong.digest = bytes::Bytes::copy_from_slice(Blake3::of(b"other").as_bytes());
        let (_folder, cache, received) = run(vec![wrong]);
        assert!(matches!(received, Err(ReceiveError::Corrupt(_))));
        assert!(!cache.has(&Blake3::of(b"other")));
        assert_eq!(fs::read_dir(cache.tmp()).unwrap().count(), 0);
    }

    #[test]
    fn parts_out_of_order_are_refused() {
        for parts in [
            vec![part(b"abc", 0..1), part(b"xyz", 0..3)],
            vec![BlobPart { size_bytes: 1, ..part(b"abc", 0..3) }],
            vec![BlobPart { digest: bytes::Bytes::from_static(&[1]), ..part(b"abc", 0..3) }],
        ] {
            let (_folder, cache, received) = run(parts);
            assert!(matches!(received, Err(ReceiveError::Protocol(_))), "{received:?}");
            assert_eq!(fs::read_dir(cache.tmp()).unwrap().count(), 0);
        }
    }
}
