//! The control stream: one connection after another for as long as the agent lives.
//!
//! What is to be said follows from how the attempts stand, not from what was said on an earlier connection: so a
//! broken stream loses nothing, and a result is repeated on every connection until it is acknowledged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use archyard_model::{AttemptId, Invalid, convert, limits};
use archyard_net::{Outlook, TlsFault, outlook};
use archyard_proto::v1 as proto;
use proto::scheduler_message::Message as Down;
use proto::worker_message::Message as Up;
use proto::worker_service_client::WorkerServiceClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::attempt::Attempt;
use super::health::State;
use super::hello::hello;
use super::lease;
use super::{Shared, WorkerError};
use crate::backoff::Backoff;

/// How long the first probe of the Engine may keep a worker from saying hello.
const PROBE_PATIENCE: Duration = Duration::from_secs(3);
/// How long the scheduler may take to welcome a worker, and a message to leave.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the last words may take to arrive.
const FAREWELL_PATIENCE: Duration = Duration::from_millis(500);
/// So many heartbeats without any word from the scheduler end a connection.
const SILENT_HEARTBEATS: u32 = 5;

/// Messages between this task and the connection.
const QUEUE: usize = 64;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Connect(#[from] archyard_net::Error),
    #[error("the scheduler ended the stream: {}", said(.0))]
    Status(#[from] tonic::Status),
    #[error("the scheduler closed the stream")]
    Closed,
    #[error("the scheduler is silent: {0}")]
    Silent(&'static str),
    #[error("the scheduler said something that makes no sense: {0}")]
    Malformed(#[from] Invalid),
    /// What was said at the start is not true any more.
    #[error("the Engine changed")]
    HelloIsStale,
}

impl Lost {
    /// Whether dialing again is of no use before somebody changes something.
    fn is_permanent(&self) -> bool {
        match self {
            Self::Connect(error) => outlook(error) == Outlook::Permanent,
            Self::Status(status) => outlook(status) == Outlook::Permanent,
            Self::Closed | Self::Silent(_) | Self::Malformed(_) | Self::HelloIsStale => false,
        }
    }
}

/// Connects, and again when the connection is lost.
///
/// # Errors
/// When the scheduler, or a file that is needed to dial it, refuses this worker for good.
pub(super) async fn run(shared: Arc<Shared>) -> Result<(), WorkerError> {
    let mut supervisors = JoinSet::new();
    let mut engine = shared.health.changes();
    let known = engine.wait_for(|state| !state.description.is_empty());
    if timeout(PROBE_PATIENCE, known).await.is_err() {
        tracing::debug!("joins without having heard of the Engine");
    }
    let mut backoff = Backoff::new();
    let mut last_reason = String::new();
    let mut dial = 0;
    while !shared.stop.is_cancelled() {
        dial += 1;
        let connected = tokio::select! {
            connected = Connection::open(&shared, dial) => connected,
            () = shared.stop.cancelled() => return Ok(()),
        };
        let lost = match connected {
            Ok(connection) => {
                backoff = Backoff::new();
                last_reason.clear();
                match connection.serve(&mut supervisors).await {
                    Ok(()) => return Ok(()),
                    Err(Lost::HelloIsStale) => continue,
                    Err(lost) => lost,
                }
            }
            Err(lost) if lost.is_permanent() => {
                return Err(WorkerError::Refused {
                    worker: shared.config.name.clone(),
                    reason: lost.to_string(),
                });
            }
            Err(lost) => lost,
        };
        // One line for each reason, not for each try.
        let reason = lost.to_string();
        if reason != last_reason {
            tracing::warn!(worker = %shared.config.name, "not connected: {reason}; running attempts go on");
            last_reason = reason;
        }
        tokio::select! {
            () = backoff.wait() => {}
            () = shared.stop.cancelled() => return Ok(()),
        }
    }
    Ok(())
}

/// What a status says, for people: the reason of a broken connection stands in its source.
fn said(status: &tonic::Status) -> String {
    match TlsFault::of(status) {
        Some(fault) => fault.to_string(),
        None => format!("{} ({})", status.message(), status.code()),
    }
}

/// One connection, from Hello on.
struct Connection<'a> {
    shared: &'a Arc<Shared>,
    up: mpsc::Sender<proto::WorkerMessage>,
    down: Streaming<proto::SchedulerMessage>,
    heartbeat: Duration,
    /// What Hello said of the Engine.
    engine: State,
    /// The scheduler wants no lease to be taken here.
    drained: bool,
    /// Results that were said on this connection.
    told: BTreeSet<AttemptId>,
    sequence: u64,
}

impl<'a> Connection<'a> {
    async fn open(shared: &'a Arc<Shared>, dial: u64) -> Result<Self, Lost> {
        let channel = shared.config.scheduler.connect().await?;
        let mut client = WorkerServiceClient::new(channel).max_decoding_message_size(limits::MESSAGE_BYTES);
        let engine = shared.health.state();
        let (up, messages) = mpsc::channel(QUEUE);
        let first = Up::Hello(hello(shared, &engine, dial));
        if up.try_send(proto::WorkerMessage { message: Some(first) }).is_err() {
            return Err(Lost::Closed);
        }
        let welcomed = async {
            let mut down = client.control(ReceiverStream::new(messages)).await?.into_inner();
            match down.message().await?.and_then(|first| first.message) {
                Some(Down::Welcome(welcome)) => Ok((down, welcome)),
                Some(_) => Err(Invalid::new("welcome", "", "another message came first").into()),
                None => Err(Lost::Closed),
            }
        };
        let (down, welcome) =
            timeout(PATIENCE, welcomed).await.map_err(|_| Lost::Silent("no Welcome came"))??;
        tracing::info!(
            worker = %shared.config.name,
            scheduler = %shared.config.scheduler.endpoint,
            adopted = welcome.adopt.len(),
            stopped = welcome.stop.len(),
            "joined the farm"
        );
        for stale in welcome.stop {
            if let Some(attempt) = find(shared, Some(stale))? {
                tracing::info!(attempt = %attempt.id, "is stale: stopping its runner");
                attempt.discard();
                shared.attempts.update(&attempt);
            }
        }
        let heartbeat = match welcome.heartbeat_ms {
            0 => limits::HEARTBEAT,
            ms => Duration::from_millis(ms),
        };
        let (drained, told) = (welcome.draining, BTreeSet::new());
        shared.warm.set_drained(drained);
        Ok(Self { shared, up, down, heartbeat, engine, drained, told, sequence: 0 })
    }

    /// Until the agent stops, or the connection is lost.
    async fn serve(mut self, supervisors: &mut JoinSet<()>) -> Result<(), Lost> {
        let shared = self.shared;
        let mut attempts = shared.attempts.changes();
        attempts.mark_changed();
        let mut engine = shared.health.changes();
        let mut heartbeats = tokio::time::interval(self.heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard_at = Instant::now();
        let mut drain_told = false;
        loop {
            tokio::select! {
                message = self.down.message() => {
                    heard_at = Instant::now();
                    let message = message?.ok_or(Lost::Closed)?;
                    self.heard(message, supervisors).await?;
                }
                _ = attempts.changed() => self.tell_results().await?,
                _ = heartbeats.tick() => {
                    if heard_at.elapsed() > self.heartbeat * SILENT_HEARTBEATS {
                        return Err(Lost::Silent("no heartbeat was acknowledged"));
                    }
                    self.beat().await?;
                }
                _ = engine.changed() => {
                    if shared.health.state().description != self.engine.description {
                        return Err(Lost::HelloIsStale);
                    }
                    self.beat().await?;
                }
                () = shared.drain.cancelled(), if !drain_told => {
                    self.say(Up::DrainRequested(proto::DrainRequested { draining: true })).await?;
                    drain_told = true;
                }
                () = shared.stop.cancelled() => {
                    if !drain_told {
                        self.say(Up::DrainRequested(proto::DrainRequested { draining: true })).await?;
                    }
                    self.farewell().await;
                    return Ok(());
                }
                Some(ended) = supervisors.join_next(), if !supervisors.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(worker = %shared.config.name, %error, "a runner's watch ended early; a restart of this worker adopts it again");
                    }
                }
            }
        }
    }

    async fn heard(
        &mut self,
        message: proto::SchedulerMessage,
        supervisors: &mut JoinSet<()>,
    ) -> Result<(), Lost> {
        match message.message {
            Some(Down::Lease(lease)) => {
                let answer = lease::answer(self.shared, lease, self.drained, supervisors).await?;
                self.say(answer).await
            }
            Some(Down::Cancel(cancel)) => {
                if let Some(attempt) = find(self.shared, cancel.attempt)? {
                    tracing::info!(build = %attempt.id.job.build, job = attempt.id.job.index, attempt = attempt.id.token.0, reason = cancel.reason, "canceling");
                    attempt.cancel();
                }
                Ok(())
            }
            Some(Down::Drain(drain)) => {
                tracing::info!(worker = %self.shared.config.name, draining = drain.draining, "told");
                self.drained = drain.draining;
                self.shared.warm.set_drained(self.drained);
                Ok(())
            }
            Some(Down::ResultAck(ack)) => {
                if let Some(attempt) = find(self.shared, ack.attempt)? {
                    attempt.set_acked();
                    if let Err(error) = attempt.dir.set_acked() {
                        tracing::warn!(attempt = %attempt.id, %error, "cannot note that a result was acknowledged");
                    }
                    self.shared.attempts.update(&attempt);
                }
                Ok(())
            }
            Some(Down::HeartbeatAck(_) | Down::Welcome(_)) | None => Ok(()),
        }
    }

    /// Every result that is not acknowledged, once a connection.
    async fn tell_results(&mut self) -> Result<(), Lost> {
        for attempt in self.shared.attempts.all() {
            if !attempt.is_unacked() || self.told.contains(&attempt.id) {
                continue;
            }
            let Some(result) = attempt.result() else { continue };
            if result.failure.is_some() {
                // It may be the Engine's doing, and then the next lease fares no better.
                self.shared.health.doubt();
            }
            self.say(Up::Result(result)).await?;
            self.told.insert(attempt.id);
        }
        Ok(())
    }

    async fn beat(&mut self) -> Result<(), Lost> {
        self.sequence += 1;
        let all = self.shared.attempts.all();
        // A stale one keeps its slot until it has stopped; one that has ended would seem lost until its result
        // was said.
        let running = all.iter().filter(|attempt| {
            attempt.is_running() || attempt.is_unacked() && !self.told.contains(&attempt.id)
        });
        let heartbeat = proto::Heartbeat {
            sequence: self.sequence,
            running: running.map(|attempt| attempt.reference()).collect(),
            engine_problem: self.shared.health.state().problem,
        };
        self.say(Up::Heartbeat(heartbeat)).await
    }

    async fn say(&self, message: Up) -> Result<(), Lost> {
        let sent = self.up.send(proto::WorkerMessage { message: Some(message) });
        match timeout(PATIENCE, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Lost::Closed),
            Err(_) => Err(Lost::Silent("it takes no message")),
        }
    }

    /// Ends the stream so that what was said last arrives.
    async fn farewell(self) {
        let Self { up, mut down, .. } = self;
        drop(up);
        let end = async { while let Ok(Some(_)) = down.message().await {} };
        if timeout(FAREWELL_PATIENCE, end).await.is_err() {
            tracing::debug!("the scheduler does not end the stream");
        }
    }
}

/// The attempt that a message is about; none when it is gone already.
fn find(shared: &Shared, reference: Option<proto::AttemptRef>) -> Result<Option<Arc<Attempt>>, Invalid> {
    Ok(shared.attempts.get(convert::attempt_from_proto(reference)?))
}
