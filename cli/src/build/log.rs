//! Reads logs: byte for byte what a runner spooled, frame by frame.

use std::time::Duration;

use anyhow::Result;
use archyard_model::{BuildEvent, limits};
use archyard_proto::v1 as proto;
use bytes::{Buf as _, BytesMut};
use prost::Message as _;
use proto::LogFrame;
use tokio::sync::watch;
use tonic::Status;

use crate::build::Updates;
use crate::build::retry::{Away, Backoff};
use crate::farm::Farm;
use crate::progress::Update;
use crate::status::{describe, is_transient};

/// Silence after which the log of an attempt that has ended is given up. The scheduler gives up sooner, and says why.
const GRACE: Duration = Duration::from_secs(20);

/// What is known of a job's attempts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempts {
    /// Tokens of those that have started, in order.
    started: Vec<u64>,
    /// The last that has ended.
    pub(crate) ended: u64,
    over: bool,
    /// What to tell after the last line.
    last: Option<Box<BuildEvent>>,
}

impl Attempts {
    /// One more.
    pub(crate) fn start(&mut self, token: u64) {
        if self.started.last().is_none_or(|last| *last < token) {
            self.started.push(token);
        }
    }

    /// There will be no more; `event` says why.
    pub(crate) fn end(&mut self, event: Option<Box<BuildEvent>>) {
        self.over = true;
        self.ended = u64::MAX;
        self.last = event.or_else(|| self.last.take());
    }

    fn after(&self, token: u64) -> Option<u64> {
        self.started.iter().copied().find(|started| *started > token)
    }
}

/// The logs of one job.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) farm: Farm,
    pub(crate) build: String,
    pub(crate) job: u16,
    /// How long the farm may be away.
    pub(crate) patience: Duration,
    pub(crate) updates: Updates,
}

impl Source {
    /// Tells the logs of all attempts, one after the other, until there will be no more.
    pub(crate) async fn follow(&self, mut attempts: watch::Receiver<Attempts>) {
        let mut read = 0;
        loop {
            let news = attempts.wait_for(|known| known.over || known.after(read).is_some()).await;
            let Ok((next, last)) = news.map(|known| (known.after(read), known.last.clone())) else { return };
            let Some(token) = next else {
                if let Some(event) = last {
                    self.updates.send(Update::Event(event)).await.ok();
                }
                return;
            };
            read = token;
            if let Err(status) = self.attempt(token, true, &mut attempts).await {
                self.note(&format!("the log of attempt {token} cannot be read: {}", describe(&status))).await;
            }
        }
    }

    /// Tells what there is of an attempt's log now.
    pub(crate) async fn print(&self, token: u64) -> Result<()> {
        let (_sender, mut attempts) = watch::channel(Attempts::default());
        Ok(self.attempt(token, false, &mut attempts).await?)
    }

    async fn attempt(
        &self,
        token: u64,
        follow: bool,
        attempts: &mut watch::Receiver<Attempts>,
    ) -> Result<(), Status> {
        let mut frames = Frames::default();
        let mut backoff = Backoff::new();
        let mut away = Away::new(self.patience);
        loop {
            let offset = frames.offset;
            match self.stream(token, follow, &mut frames, attempts).await {
                Err(status) if follow && is_transient(&status) => {
                    if frames.offset > offset {
                        (away, backoff) = (Away::new(self.patience), Backoff::new());
                    }
                    if away.is_too_long() {
                        return Err(status);
                    }
                    backoff.pause().await;
                }
                outcome => return outcome,
            }
        }
    }

    /// One connection's worth; resumes at the byte after the last that came.
    async fn stream(
        &self,
        token: u64,
        follow: bool,
        frames: &mut Frames,
        attempts: &mut watch::Receiver<Attempts>,
    ) -> Result<(), Status> {
        let request = proto::ReadLogRequest {
            build_id: self.build.clone(),
            job_index: self.job.into(),
            token,
            offset: frames.offset,
            follow,
        };
        let mut stream = self.farm.builds().read_log(request).await?.into_inner();
        loop {
            let silence = async {
                // Nobody will say that it has ended: then it has not.
                if attempts.wait_for(|known| known.ended >= token).await.is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(GRACE).await;
            };
            let chunk = tokio::select! {
                chunk = stream.message() => chunk?,
                () = silence => {
                    let seconds = GRACE.as_secs();
                    return Err(Status::data_loss(format!("its end did not arrive within {seconds} s")));
                }
            };
            let Some(chunk) = chunk else {
                return match frames.rest() {
                    _ if !follow => Ok(()),
                    0 => Ok(()),
                    _ => Err(Status::data_loss(
                        "it ends in the middle: its runner was stopped, or its worker lost",
                    )),
                };
            };
            if chunk.token != token {
                continue;
            }
            if frames.push(chunk.offset, &chunk.data).is_err() {
                return Err(Status::data_loss(format!("it is damaged at byte {}", chunk.offset)));
            }
            while let Some(frame) = frames.next().map_err(|()| Status::data_loss("it is damaged"))? {
                self.updates.send(Update::Frame { job: self.job.into(), token, frame }).await.ok();
            }
        }
    }

    async fn note(&self, text: &str) {
        self.updates.send(Update::Note(text.to_owned())).await.ok();
    }
}

/// Chunks become frames: each is preceded by its length.
#[derive(Debug, Default)]
struct Frames {
    /// Of the next byte that is wanted.
    offset: u64,
    buffer: BytesMut,
}

impl Frames {
    /// Takes a chunk, leaving out what came before; an error where bytes are missing.
    fn push(&mut self, offset: u64, data: &[u8]) -> Result<(), ()> {
        let known = self.offset.checked_sub(offset).ok_or(())?;
        let new = usize::try_from(known).ok().and_then(|known| data.get(known..)).unwrap_or_default();
        self.buffer.extend_from_slice(new);
        self.offset += new.len() as u64;
        Ok(())
    }

    /// Bytes of a frame that is not complete.
    fn rest(&self) -> usize {
        self.buffer.len()
    }

    /// The next frame that is complete; an error where there is none.
    fn next(&mut self) -> Result<Option<LogFrame>, ()> {
        let mut peek = &self.buffer[..];
        let Ok(length) = prost::encoding::decode_varint(&mut peek) else {
            return if self.buffer.len() < 10 { Ok(None) } else { Err(()) };
        };
        let length = usize::try_from(length).map_err(|_| ())?;
        // Twice the limit: it counts what a frame holds, not how it is packed.
        if length > 2 * limits::LOG_FRAME_BYTES {
            return Err(());
        }
        if peek.len() < length {
            return Ok(None);
        }
        let prefix = self.buffer.len() - peek.len();
        self.buffer.advance(prefix);
        LogFrame::decode(self.buffer.split_to(length).freeze()).map(Some).map_err(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use proto::log_frame::{Frame, PhaseStarted};

    use super::*;

    fn frame(name: &str) -> LogFrame {
        let phase = PhaseStarted { name: name.to_owned(), detail: String::new() };
        LogFrame { at: None, frame: Some(Frame::Phase(phase)) }
    }

    fn drain(frames: &mut Frames) -> Vec<LogFrame> {
        std::iter::from_fn(|| frames.next().unwrap()).collect()
    }

    #[test]
    fn frames_come_whole_however_they_are_cut_and_repeated() {
        let want: Vec<_> = ["context", &"x".repeat(300), "push"].iter().map(|name| frame(name)).collect();
        let bytes: Vec<u8> = want.iter().flat_map(LogFrame::encode_length_delimited_to_vec).collect();
        for size in [1, 2, 7, 100, bytes.len()] {
            let mut frames = Frames::default();
            let mut got = Vec::new();
            for (at, chunk) in bytes.chunks(size).enumerate() {
                frames.push((at * size) as u64, chunk).unwrap();
                got.extend(drain(&mut frames));
                // What was resumed too early comes again.
                let early = (at * size).saturating_sub(3);
                frames.push(early as u64, &bytes[early..at * size + chunk.len()]).unwrap();
            }
            assert_eq!(got, want, "chunks of {size}");
            assert_eq!(frames.offset, bytes.len() as u64);
        }
    }

    #[test]
    fn gaps_and_garbage_are_errors() {
        let mut frames = Frames::default();
        assert!(frames.push(5, b"x").is_err());
        frames.push(0, &[0xff; 12]).unwrap();
        assert!(frames.next().is_err());
        let mut frames = Frames::default();
        frames.push(0, &[0xff, 0xff, 0xff, 0x7f]).unwrap();
        assert!(frames.next().is_err(), "a frame beyond the limit was waited for");
    }

    #[test]
    fn attempts_come_in_order_and_once() {
        let mut attempts = Attempts::default();
        for token in [1, 1, 3] {
            attempts.start(token);
        }
        assert_eq!((attempts.after(0), attempts.after(1), attempts.after(3)), (Some(1), Some(3), None));
    }
}
