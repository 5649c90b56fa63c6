//! What waits in the driver's inbox.

use std::sync::Arc;

use archyard_model::{AttemptId, BuildId, BuildRecord, WorkerOffer};
use tokio::sync::oneshot::Sender;

use super::error::Error;
use super::handle::{AttemptStatus, Events, FarmCounts, Filter, NewBuild, Source, Submitted, WorkerView};
use super::mailbox::Mailbox;
use crate::core::{ConnectionId, Input, RunningAttempt, Standing};

/// One thing for the driver to do. An answer is sent after the commit; a dropped one means it stopped.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all of them are inputs, and boxes would cost more than room"
)]
pub(super) enum Message {
    Submit {
        build: NewBuild,
        credentials: bool,
        answer: Sender<Result<Submitted, Error>>,
    },
    Connect {
        offer: Arc<WorkerOffer>,
        running: Vec<RunningAttempt>,
        mailbox: Arc<Mailbox>,
        answer: Sender<Result<ConnectionId, Error>>,
    },
    Disconnected(ConnectionId),
    Input {
        input: Input,
        answer: Option<Sender<Result<(), Error>>>,
    },
    Query(Query),
}

/// A question about the committed state.
#[derive(Debug)]
pub(super) enum Query {
    Record { build: BuildId, answer: Sender<Option<BuildRecord>> },
    Events { build: BuildId, after: u64, answer: Sender<Option<Events>> },
    Standing { build: BuildId, answer: Sender<Option<(BuildRecord, Standing)>> },
    List { filter: Filter, answer: Sender<Vec<(BuildRecord, Standing)>> },
    Workers { answer: Sender<Vec<WorkerView>> },
    Counts { answer: Sender<FarmCounts> },
    Attempt { attempt: AttemptId, answer: Sender<Option<AttemptStatus>> },
    Sources { after: Option<BuildId>, limit: usize, answer: Sender<Vec<Source>> },
}
