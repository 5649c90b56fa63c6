//! What leaving the Engine looks like in the log: a step of its own, for BuildKit knows nothing of it.

use std::time::SystemTime;

use archyard_model::limits;
use archyard_proto::v1::LogFrame;
use archyard_proto::v1::log_frame::{Frame, Status, Vertex};
use tokio::sync::mpsc;

/// Where progress is told.
pub(super) struct Told {
    sender: mpsc::Sender<LogFrame>,
    started: SystemTime,
    /// What the step is called in frames: no digest of BuildKit's.
    id: &'static str,
    name: String,
}

impl Told {
    /// A step that begins now.
    pub(super) async fn begin(sender: mpsc::Sender<LogFrame>, id: &'static str, name: String) -> Self {
        let told = Self { sender, started: SystemTime::now(), id, name };
        told.step(None, String::new()).await;
        told
    }

    /// The step is over: with an error, or empty.
    pub(super) async fn end(&self, error: String) {
        self.step(Some(SystemTime::now()), error).await;
    }

    async fn step(&self, completed: Option<SystemTime>, error: String) {
        let vertex = Vertex {
            digest: self.id.to_owned(),
            name: self.name.clone(),
            cached: false,
            started_at: Some(self.started.into()),
            completed_at: completed.map(Into::into),
            error,
        };
        self.send(Frame::Vertex(vertex)).await;
    }

    /// How far a transfer is; `total` 0 where that is not known.
    pub(super) async fn transfer(&self, name: &str, current: u64, total: u64, completed: bool) {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let status = Status {
            vertex: self.id.to_owned(),
            name: name.chars().take(limits::ERROR_VALUE_BYTES).collect(),
            current_bytes: signed(current),
            total_bytes: signed(total),
            completed,
        };
        self.send(Frame::Status(status)).await;
    }

    async fn send(&self, frame: Frame) {
        let frame = LogFrame { at: Some(SystemTime::now().into()), frame: Some(frame) };
        // Nobody listens any more: the work goes on without.
        self.sender.send(frame).await.ok();
    }
}
