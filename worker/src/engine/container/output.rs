//! What a program writes, on its way into the log.
//!
//! Past its limit everything is still read, or the program would stand still; it is dropped where it comes in.

use std::time::{Duration, SystemTime};

use archyard_model::limits;
use archyard_proto::v1::LogFrame;
use archyard_proto::v1::log_frame::{self, Clipped, Frame};
use bollard::container::LogOutput;
use bollard::errors::Error;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What came meanwhile goes into one frame: a program may write byte by byte.
const AT_ONCE: usize = 64;
/// What a frame takes beside its data.
const FRAME_BYTES: usize = 128;
/// What is kept of the end.
const TAIL_BYTES: usize = 8 * 1024;

/// Tells a program's output, and keeps the end of it.
#[derive(Debug)]
pub(super) struct Output {
    step: String,
    sink: mpsc::Sender<LogFrame>,
    /// Bytes that the log still takes.
    left: usize,
    is_clipped: bool,
    tail: Vec<u8>,
}

impl Output {
    /// The output of a step of this digest.
    pub(super) fn new(step: String, sink: mpsc::Sender<LogFrame>) -> Self {
        let left = usize::try_from(limits::SMOKE_OUTPUT_BYTES).unwrap_or(usize::MAX);
        Self { step, sink, left, is_clipped: false, tail: Vec::new() }
    }

    /// Takes all of it. Once the program has `ended`, silence of the Engine for `patience` ends it too; the log then says
    /// that something may be missing, as it does where the stream breaks.
    pub(super) async fn take(
        &mut self,
        stream: impl Stream<Item = Result<LogOutput, Error>>,
        ended: &CancellationToken,
        patience: Duration,
    ) {
        let mut stream = std::pin::pin!(stream.ready_chunks(AT_ONCE));
        loop {
            let silence = async {
                ended.cancelled().await;
                tokio::time::sleep(patience).await;
            };
            let batch = tokio::select! {
                biased;
                batch = stream.next() => batch,
                () = silence => return self.incomplete("the Engine did not end it").await,
            };
            let Some(batch) = batch else { return };
            let mut broken = None;
            let whole = batch.into_iter().map_while(|part| part.map_err(|error| broken = Some(error)).ok());
            for (number, data) in merge(whole) {
                self.keep(&data);
                self.tell(number, data).await;
            }
            if let Some(error) = broken {
                return self.incomplete(&error.to_string()).await;
            }
        }
    }

    /// Says in the log that the rest is missing.
    async fn incomplete(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.is_clipped, true) {
            let message = format!("the rest of this output is missing: {reason}");
            self.send(Frame::Clipped(Clipped { vertex: self.step.clone(), message })).await;
        }
    }

    /// The last of it, as text.
    pub(super) fn tail(&self) -> String {
        String::from_utf8_lossy(&self.tail).into_owned()
    }

    fn keep(&mut self, data: &[u8]) {
        self.tail.extend_from_slice(&data[data.len().saturating_sub(TAIL_BYTES)..]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES));
    }

    async fn tell(&mut self, stream: u32, mut data: Bytes) {
        let most = limits::LOG_FRAME_BYTES - 1024;
        while !data.is_empty() && self.left > FRAME_BYTES {
            let part = data.split_to(data.len().min(most).min(self.left - FRAME_BYTES));
            self.left -= part.len() + FRAME_BYTES;
            let output = log_frame::Output { vertex: self.step.clone(), stream, data: part, at: Some(now()) };
            self.send(Frame::Output(output)).await;
        }
        if !data.is_empty() && !std::mem::replace(&mut self.is_clipped, true) {
            let most = limits::SMOKE_OUTPUT_BYTES >> 20;
            let message = format!("output clipped, log limit {most}MiB reached");
            self.send(Frame::Clipped(Clipped { vertex: self.step.clone(), message })).await;
        }
    }

    async fn send(&self, frame: Frame) {
        // Nobody listens any more: the program goes on without.
        self.sink.send(LogFrame { at: Some(now()), frame: Some(frame) }).await.ok();
    }
}

/// What came at once: neighbours of one stream as one.
fn merge(batch: impl Iterator<Item = LogOutput>) -> Vec<(u32, Bytes)> {
    let mut merged: Vec<(u32, BytesMut)> = Vec::new();
    for output in batch {
        let number = if matches!(output, LogOutput::StdErr { .. }) { 2 } else { 1 };
        let data = output.into_bytes();
        match merged.last_mut() {
            Some((last, gathered)) if *last == number => gathered.extend_from_slice(&data),
            _ => merged.push((number, BytesMut::from(data))),
        }
    }
    merged.into_iter().map(|(number, data)| (number, data.freeze())).collect()
}

fn now() -> prost_types::Timestamp {
    SystemTime::now().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use prost::Message as _;

    async fn told(parts: Vec<LogOutput>) -> (Vec<LogFrame>, String) {
        taken(stream::iter(parts.into_iter().map(Ok))).await
    }

    /// Of a program that has ended.
    async fn taken(stream: impl Stream<Item = Result<LogOutput, Error>>) -> (Vec<LogFrame>, String) {
        let (sink, mut frames) = mpsc::channel(100_000);
        let mut output = Output::new("s".to_owned(), sink);
        let ended = CancellationToken::new();
        ended.cancel();
        output.take(stream, &ended, Duration::from_millis(200)).await;
        let tail = output.tail();
        drop(output);
        let mut all = Vec::new();
        while let Some(frame) = frames.recv().await {
            all.push(frame);
        }
        (all, tail)
    }

    fn out(data: &[u8]) -> LogOutput {
        LogOutput::StdOut { message: Bytes::copy_from_slice(data) }
    }

    fn err(data: &[u8]) -> LogOutput {
        LogOutput::StdErr { message: Bytes::copy_from_slice(data) }
    }

    fn data(frames: &[LogFrame]) -> Vec<(u32, Vec<u8>)> {
        let outputs = frames.iter().filter_map(|frame| match &frame.frame {
            Some(Frame::Output(output)) => Some((output.stream, output.data.to_vec())),
            _ => None,
        });
        outputs.collect()
    }

    #[tokio::test]
    async fn streams_are_told_apart_and_neighbours_joined() {
        let (frames, tail) = told(vec![out(b"a"), out(b"b"), err(b"c"), out(b"d")]).await;
        assert_eq!(data(&frames), [(1, b"ab".to_vec()), (2, b"c".to_vec()), (1, b"d".to_vec())]);
        assert_eq!(tail, "abcd");
    }

    #[tokio::test]
    async fn a_flood_is_cut_once_and_read_to_its_end() {
        let most = usize::try_from(limits::SMOKE_OUTPUT_BYTES).unwrap();
        let mut parts = vec![out(&[b'x'; 10_000]); most / 10_000 + 20];
        parts.push(err(b"the end"));
        let (frames, tail) = told(parts).await;
        assert!(tail.ends_with("xthe end") && tail.len() == TAIL_BYTES);
        let bytes: usize = data(&frames).iter().map(|(_, data)| data.len()).sum();
        assert!(bytes <= most && bytes > most / 10 * 9, "{bytes}");
        let clipped: Vec<_> =
            frames.iter().filter(|frame| matches!(frame.frame, Some(Frame::Clipped(_)))).collect();
        assert_eq!(clipped.len(), 1);
        assert!(frames.iter().all(|frame| frame.encoded_len() <= limits::LOG_FRAME_BYTES));
    }

    fn missing(frames: &[LogFrame]) -> Option<String> {
        match frames.last().and_then(|frame| frame.frame.as_ref()) {
            Some(Frame::Clipped(clipped)) => Some(clipped.message.clone()),
            _ => None,
        }
    }

    #[tokio::test]
    async fn what_comes_late_is_taken_while_it_comes() {
        let slow = stream::iter(0..4).then(|_| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(out(b"x"))
        });
        let (frames, tail) = taken(slow).await;
        assert_eq!((tail.as_str(), missing(&frames)), ("xxxx", None));
    }

    #[tokio::test]
    async fn output_that_breaks_off_says_so() {
        let silent = stream::iter([Ok(out(b"x"))]).chain(stream::pending());
        let (frames, tail) = taken(silent).await;
        assert!(missing(&frames).unwrap().contains("did not end it") && tail == "x");
        let parts = vec![Ok(out(b"x")), Err(Error::RequestTimeoutError), Ok(out(b"y"))];
        let (frames, tail) = taken(stream::iter(parts)).await;
        assert!(missing(&frames).unwrap().starts_with("the rest of this output is missing") && tail == "x");
    }

    #[tokio::test]
    async fn single_bytes_do_not_swell_the_log() {
        let parts = (0..100_000).map(|n| if n % 2 == 0 { out(b"o") } else { err(b"e") }).collect();
        let (frames, _) = told(parts).await;
        let bytes: usize = frames.iter().map(LogFrame::encoded_len).sum();
        assert!(bytes <= usize::try_from(limits::SMOKE_OUTPUT_BYTES).unwrap(), "{bytes}");
    }
}
