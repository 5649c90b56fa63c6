//! An attempt's spool: what its runner saw, as length-delimited `LogFrame` messages in one append-only file.
//!
//! The runner alone writes it; the agent copies its bytes to the scheduler without looking into them. It is
//! never rewritten: a reader that stopped at an offset goes on from there.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use archyard_model::limits;
use archyard_proto::v1::LogFrame;
use archyard_proto::v1::log_frame::{Clipped, Frame, Output};
use bytes::{Bytes, BytesMut};
use prost::Message as _;

/// Kept free for what is no step's output: vertices and phases tell how the build ended.
const RESERVE_BYTES: u64 = 1024 * 1024;
/// Written at once when this much waits.
const BUFFER_BYTES: usize = 64 * 1024;
/// Kept free beyond that for the marker that says that everything is dropped.
const MARKER_BYTES: u64 = 8 * 1024;
/// What a frame needs beside a step's bytes: times, digest, lengths.
const FRAME_OVERHEAD_BYTES: usize = 1024;

/// Writes a spool.
#[derive(Debug)]
pub struct Writer {
    file: File,
    buffer: Vec<u8>,
    length: u64,
    limit: u64,
    /// The spool itself is full, and says so.
    clipped: bool,
    /// What the first `Clipped` frame says, and how many there are.
    missing: Option<(String, u64)>,
}

impl Writer {
    /// A new spool at `path`.
    ///
    /// # Errors
    /// When there is one already, or it cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::with_limit(path, limits::SPOOL_BYTES)
    }

    fn with_limit(path: &Path, limit: u64) -> io::Result<Self> {
        let file = File::options().append(true).create_new(true).open(path)?;
        Ok(Self { file, buffer: Vec::new(), length: 0, limit, clipped: false, missing: None })
    }

    /// Adds a frame. It may stay in memory until [`flush`](Self::flush).
    ///
    /// Near the limit the output of steps and the progress of transfers are dropped, with one `Clipped` frame in their
    /// place; at the limit everything is.
    ///
    /// # Errors
    /// When the disk is full or broken; the frame may then be there in part, as the last one.
    pub fn append(&mut self, frame: LogFrame) -> io::Result<()> {
        match frame.frame {
            Some(Frame::Output(output))
                if output.data.len() > limits::LOG_FRAME_BYTES - FRAME_OVERHEAD_BYTES =>
            {
                for part in split(&output) {
                    self.append_one(&LogFrame { at: frame.at, frame: Some(Frame::Output(part)) })?;
                }
                Ok(())
            }
            _ => self.append_one(&frame),
        }
    }

    /// Hands everything to the kernel: readers see it, and this process's death loses nothing of it.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.buffer);
        self.buffer.clear();
        written
    }

    /// Why the log is not whole: what its first `Clipped` frame says.
    pub fn warning(&self) -> Option<String> {
        let (first, count) = self.missing.as_ref()?;
        Some(match count {
            1 => first.clone(),
            _ => format!("{first} (the first of {count} places where something is missing)"),
        })
    }

    /// Bytes so far, those not yet flushed included.
    pub fn length(&self) -> u64 {
        self.length
    }

    fn append_one(&mut self, frame: &LogFrame) -> io::Result<()> {
        let size = frame.encoded_len();
        let size = (size + prost::length_delimiter_len(size)) as u64;
        let spare = match &frame.frame {
            Some(Frame::Output(_) | Frame::Status(_)) => RESERVE_BYTES,
            Some(Frame::Clipped(clipped)) => {
                self.missing.get_or_insert_with(|| (clipped.message.clone(), 0)).1 += 1;
                0
            }
            _ => MARKER_BYTES,
        };
        if self.length + size <= self.limit.saturating_sub(spare) {
            self.write(frame, size)
        } else if spare > 0 {
            self.clip(frame)
        } else {
            Ok(())
        }
    }

    fn clip(&mut self, dropped: &LogFrame) -> io::Result<()> {
        if std::mem::replace(&mut self.clipped, true) {
            return Ok(());
        }
        let vertex = match &dropped.frame {
            Some(Frame::Output(output)) => output.vertex.clone(),
            _ => String::new(),
        };
        let message =
            format!("the log reached its limit of {} bytes; what comes after is dropped", self.limit);
        let marker = LogFrame { at: dropped.at, frame: Some(Frame::Clipped(Clipped { vertex, message })) };
        self.append_one(&marker)
    }

    fn write(&mut self, frame: &LogFrame, size: u64) -> io::Result<()> {
        // A Vec grows as needed, so encoding into it cannot fail.
        frame.encode_length_delimited(&mut self.buffer).map_err(io::Error::other)?;
        self.length += size;
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }
}

/// One output frame as several that each fit the limit.
fn split(output: &Output) -> impl Iterator<Item = Output> + '_ {
    let most = limits::LOG_FRAME_BYTES - FRAME_OVERHEAD_BYTES;
    (0..output.data.len()).step_by(most).map(move |start| {
        let end = output.data.len().min(start + most);
        Output { data: output.data.slice(start..end), ..output.clone() }
    })
}

/// Copies a spool's bytes from any offset, while it may still grow.
#[derive(Debug)]
pub struct Tail {
    file: File,
}

impl Tail {
    /// The spool at `path`.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)? })
    }

    /// At most [`limits::LOG_CHUNK_BYTES`] bytes from `offset` on, and whether its present end comes after them.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn read(&self, offset: u64) -> io::Result<(Bytes, bool)> {
        let waiting = self.file.metadata()?.len().saturating_sub(offset);
        let most = usize::try_from(waiting).unwrap_or(usize::MAX).min(limits::LOG_CHUNK_BYTES);
        let mut chunk = BytesMut::zeroed(most);
        let read = self.file.read_at(&mut chunk, offset)?;
        chunk.truncate(read);
        Ok((chunk.freeze(), read as u64 == waiting))
    }
}

/// Reads a whole spool's frames. A last frame that its runner's death cut off ends it like the end itself.
#[derive(Debug)]
pub struct Frames<R> {
    reader: io::BufReader<R>,
}

impl<R: io::Read> Frames<R> {
    /// The frames of what `reader` gives.
    pub fn new(reader: R) -> Self {
        Self { reader: io::BufReader::new(reader) }
    }

    fn next_frame(&mut self) -> io::Result<Option<LogFrame>> {
        let mut length: u64 = 0;
        for shift in (0..).step_by(7) {
            let mut byte = [0];
            match self.reader.read_exact(&mut byte) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                other => other?,
            }
            length |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                break;
            }
            if shift >= 28 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame's length is absurd"));
            }
        }
        if length > limits::MESSAGE_BYTES as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame's length is absurd"));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        match self.reader.read_exact(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        LogFrame::decode(bytes.as_slice()).map(Some).map_err(io::Error::other)
    }
}

impl<R: io::Read> Iterator for Frames<R> {
    type Item = io::Result<LogFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_frame().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(bytes: usize) -> LogFrame {
        let data = Bytes::from(vec![b'x'; bytes]);
        LogFrame { at: None, frame: Some(Frame::Output(Output { data, stream: 1, ..Output::default() })) }
    }

    fn frames(path: &Path) -> Vec<Frame> {
        Frames::new(File::open(path).unwrap()).map(|frame| frame.unwrap().frame.unwrap()).collect()
    }

    #[test]
    fn frames_come_back_as_they_went() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let mut writer = Writer::create(&path).unwrap();
        writer.append(output(3)).unwrap();
        writer.append(output(200_000)).unwrap();
        writer.flush().unwrap();
        assert_eq!(writer.length(), std::fs::metadata(&path).unwrap().len());
        let total: usize = frames(&path)
            .iter()
            .map(|frame| match frame {
                Frame::Output(output) => output.data.len(),
                other => panic!("{other:?}"),
            })
            .sum();
        assert_eq!(total, 200_003);
        assert!(Writer::create(&path).is_err(), "a spool is never rewritten");
    }

    #[test]
    fn no_frame_is_larger_than_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let mut writer = Writer::create(&path).unwrap();
        writer.append(output(3 * limits::LOG_FRAME_BYTES)).unwrap();
        writer.flush().unwrap();
        for frame in Frames::new(File::open(&path).unwrap()) {
            assert!(frame.unwrap().encoded_len() <= limits::LOG_FRAME_BYTES);
        }
    }

    #[test]
    fn past_the_limit_one_marker_stands_for_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let mut writer = Writer::with_limit(&path, RESERVE_BYTES + 10_000).unwrap();
        for _ in 0..10 {
            writer.append(output(4_000)).unwrap();
        }
        let vertex = LogFrame { at: None, frame: Some(Frame::Vertex(Default::default())) };
        writer.append(vertex).unwrap();
        writer.flush().unwrap();
        let frames = frames(&path);
        assert_eq!(frames.len(), 4, "{frames:?}");
        assert!(matches!(&frames[2], Frame::Clipped(clipped) if clipped.message.contains("limit")));
        assert!(writer.warning().is_some_and(|warning| warning.contains("limit")));
        assert!(matches!(&frames[3], Frame::Vertex(_)));
        assert!(writer.length() <= RESERVE_BYTES + 10_000);
    }

    #[test]
    fn a_full_spool_says_so_whatever_filled_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let mut writer = Writer::with_limit(&path, 2 * MARKER_BYTES).unwrap();
        assert_eq!(writer.warning(), None);
        let name = "x".repeat(500);
        for _ in 0..100 {
            let vertex = archyard_proto::v1::log_frame::Vertex { name: name.clone(), ..Default::default() };
            writer.append(LogFrame { at: None, frame: Some(Frame::Vertex(vertex)) }).unwrap();
        }
        writer.flush().unwrap();
        let clipped = |frame: &&Frame| matches!(frame, Frame::Clipped(_));
        assert_eq!(frames(&path).iter().filter(clipped).count(), 1);
        assert!(writer.length() <= 2 * MARKER_BYTES && writer.warning().is_some());
    }

    #[test]
    fn the_first_missing_place_is_remembered_and_all_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(&folder.path().join("spool")).unwrap();
        for message in ["first", "second"] {
            let clipped = Clipped { vertex: String::new(), message: message.to_owned() };
            writer.append(LogFrame { at: None, frame: Some(Frame::Clipped(clipped)) }).unwrap();
        }
        assert_eq!(writer.warning().unwrap(), "first (the first of 2 places where something is missing)");
    }

    #[test]
    fn a_cut_frame_ends_the_spool() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let mut writer = Writer::create(&path).unwrap();
        writer.append(output(10)).unwrap();
        writer.append(output(10)).unwrap();
        writer.flush().unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(writer.length() - 3).unwrap();
        assert_eq!(frames(&path).len(), 1);
    }

    #[test]
    fn a_tail_goes_on_where_it_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let mut writer = Writer::create(&path).unwrap();
        let tail = Tail::open(&path).unwrap();
        assert_eq!(tail.read(0).unwrap(), (Bytes::new(), true));
        let mut copied = Vec::new();
        for _ in 0..3 {
            writer.append(output(200_000)).unwrap();
            writer.flush().unwrap();
            loop {
                let (chunk, is_end) = tail.read(copied.len() as u64).unwrap();
                assert!(chunk.len() <= limits::LOG_CHUNK_BYTES);
                copied.extend_from_slice(&chunk);
                if is_end {
                    break;
                }
            }
        }
        assert_eq!(copied, std::fs::read(&path).unwrap());
    }
}
