//! Follows a build to its end: its events, and through them the logs of its attempts.
//!
//! The scheduler may go away at any time. Both streams resume where they stopped, by sequence number and by byte
//! offset, and an attached build gets its credentials again; the build itself goes on meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use archyard_model::{BuildEvent, EventKind, convert};
use archyard_plan::Planned;
use archyard_proto::v1 as proto;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use crate::build::Updates;
use crate::build::credentials::Login;
use crate::build::log::{self, Attempts};
use crate::build::retry::{Away, Backoff, persist};
use crate::build::{queue, rest};
use crate::exit::Refusal;
use crate::farm::Farm;
use crate::progress::{Known, Update};
use crate::status::{describe, is_transient};

/// Which build, and what of it.
#[derive(Debug, Clone)]
pub(crate) struct Follow {
    pub(crate) farm: Farm,
    pub(crate) build: String,
    /// Given again whenever the scheduler was away. Empty: the build needs none of ours.
    pub(crate) logins: Vec<Login>,
    /// Jobs whose logs are wanted; None: all.
    pub(crate) jobs: Option<Vec<u16>>,
    /// What the build was planned from, to send the rest of its context. None: it was not submitted from here.
    pub(crate) planned: Option<Arc<Planned>>,
    /// Whether it matters who builds: a job may be built on another platform's machine.
    pub(crate) crosses: bool,
    /// How long the farm may be away.
    pub(crate) patience: Duration,
    pub(crate) updates: Updates,
}

impl Follow {
    /// Returns when the build has ended and all of its logs were told. That it has ended is left to be
    /// [told](Self::tell).
    ///
    /// # Errors
    /// What the farm says, and that it has been away for too long; the build may go on all the same.
    pub(crate) async fn to_the_end(&self) -> Result<Box<BuildEvent>> {
        let mut logs = Logs::new(self.clone());
        let ended = tokio::select! {
            ended = self.events(&mut logs) => ended?,
            never = queue::tell(&self.farm, &self.build, &self.updates) => match never {},
        };
        // The end comes last, however far behind the logs are.
        logs.finish().await;
        self.record().await;
        Ok(ended)
    }

    /// Tells the build's events until it has ended.
    async fn events(&self, logs: &mut Logs) -> Result<Box<BuildEvent>> {
        let mut after_seq = 0;
        let mut backoff = Backoff::new();
        let mut again = false;
        let mut away = Away::new(self.patience);
        loop {
            match self.watch(again, &mut after_seq, logs).await {
                Ok(Watched::Ended(event)) => return Ok(event),
                // It would wait for nothing.
                Ok(Watched::Stuck(error)) => {
                    self.cancel("its client cannot send its whole context").await;
                    return Err(error);
                }
                Ok(Watched::CutShort { got_some }) => {
                    away = Away::new(self.patience);
                    if got_some {
                        backoff = Backoff::new();
                    }
                }
                Err(status) if is_transient(&status) => {}
                Err(status) => return Err(status.into()),
            }
            self.updates.send(Update::Reachable(false)).await.ok();
            if away.is_too_long() {
                return Err(self.left());
            }
            backoff.pause().await;
            again = true;
        }
    }

    /// Tells how it ended.
    pub(crate) async fn tell(&self, ended: Box<BuildEvent>) {
        self.updates.send(Update::Event(ended)).await.ok();
    }

    fn left(&self) -> anyhow::Error {
        Refusal::unavailable(format!(
            "the farm has been away for {}; build {build} may go on without this client: once the farm is back, follow \
             it with archyard logs -f {build}, or see how it ended with archyard show {build}",
            humantime::format_duration(self.patience),
            build = self.build
        ))
    }

    /// Tells what no event says. Whoever cannot be asked now is asked again later, at the latest at the end.
    async fn record(&self) {
        let request = proto::GetBuildRequest { build_id: self.build.clone() };
        let Ok(answer) = self.farm.builds().get_build(request).await else { return };
        if let Some(record) = answer.into_inner().build {
            self.updates.send(Update::Record(Box::new(Known::from(&record)))).await.ok();
        }
    }

    /// Cancels the build as soon as `stop` fires, and repeats it until the farm has heard.
    pub(crate) async fn cancel_on(&self, stop: &CancellationToken) {
        stop.cancelled().await;
        self.cancel("interrupted at its client").await;
    }

    async fn cancel(&self, reason: &str) {
        let request =
            || proto::CancelBuildRequest { build_id: self.build.clone(), reason: reason.to_owned() };
        let answer = persist(&self.updates, None, || {
            let (mut client, request) = (self.farm.builds(), request());
            async move { client.cancel_build(request).await }
        });
        if let Err(status) = answer.await {
            let note = format!("not canceled: {}; waiting for its end", describe(&status));
            self.updates.send(Update::Note(note)).await.ok();
        }
    }

    /// One connection's worth of events. `again`: the scheduler may have forgotten what it keeps in memory alone.
    async fn watch(&self, again: bool, after_seq: &mut u64, logs: &mut Logs) -> Result<Watched, Status> {
        let request = proto::WatchBuildRequest { build_id: self.build.clone(), after_seq: *after_seq };
        let mut stream: Streaming<proto::BuildEvent> =
            self.farm.builds().watch_build(request).await?.into_inner();
        self.updates.send(Update::Reachable(true)).await.ok();
        if again {
            // If it goes away once more before it hears this, so does the stream, and all begins anew.
            self.attach().await;
        }
        let mut got_some = false;
        loop {
            let message = match stream.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(Watched::CutShort { got_some }),
                Err(status) if is_transient(&status) => return Ok(Watched::CutShort { got_some }),
                Err(status) => return Err(status),
            };
            got_some = true;
            if message.seq <= *after_seq {
                continue;
            }
            *after_seq = message.seq;
            // A newer scheduler may say what this client has no word for.
            let Ok(event) = convert::event_from_proto(message) else { continue };
            if matches!(event.kind, EventKind::Ended { .. }) {
                return Ok(Watched::Ended(Box::new(event)));
            }
            if self.crosses && matches!(event.kind, EventKind::JobStarted { .. }) {
                self.record().await;
            }
            let lacks_context = matches!(event.kind, EventKind::ContextMissed { .. });
            if let Some(event) = logs.event(Box::new(event)) {
                self.updates.send(Update::Event(event)).await.ok();
            }
            if lacks_context && let Err(error) = self.supply_rest().await {
                return Ok(Watched::Stuck(error));
            }
        }
    }

    /// Sends the rest of the build's context.
    async fn supply_rest(&self) -> Result<()> {
        let Some(planned) = &self.planned else { return Ok(()) };
        match rest::supply(&self.farm, &self.build, planned, &self.updates).await {
            // The event was replayed: the build has its context, or has ended.
            Err(error) if error.downcast_ref().is_some_and(is_too_late) => Ok(()),
            sent => sent,
        }
    }

    /// Gives an attached build its credentials again. A build that needs none any more says so by an error.
    async fn attach(&self) {
        if self.logins.is_empty() {
            return;
        }
        let credentials = self.logins.iter().map(Login::message).collect();
        let request = proto::AttachBuildRequest { build_id: self.build.clone(), credentials };
        if let Err(status) = self.farm.builds().attach_build(request).await
            && !matches!(status.code(), Code::Unavailable | Code::FailedPrecondition)
        {
            let note = format!("the build's credentials were not taken: {}", describe(&status));
            self.updates.send(Update::Note(note)).await.ok();
        }
    }
}

enum Watched {
    Ended(Box<BuildEvent>),
    CutShort {
        got_some: bool,
    },
    /// The build waits for what its client cannot send.
    Stuck(anyhow::Error),
}

fn is_too_late(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition
}

/// The readers of a build's logs, one per job.
struct Logs {
    follow: Follow,
    jobs: BTreeMap<u16, watch::Sender<Attempts>>,
    readers: JoinSet<()>,
}

impl Logs {
    fn new(follow: Follow) -> Self {
        Self { follow, jobs: BTreeMap::new(), readers: JoinSet::new() }
    }

    /// Takes note, and gives the event back unless the reader of its job's log is to tell it, after the last line.
    fn event(&mut self, event: Box<BuildEvent>) -> Option<Box<BuildEvent>> {
        match event.kind {
            EventKind::JobStarted { job, token, .. } => self.job(job, |attempts| attempts.start(token.0)),
            EventKind::AttemptEnded { job, token, .. } => {
                self.job(job, |attempts| attempts.ended = attempts.ended.max(token.0));
            }
            EventKind::JobEnded { job, .. } => {
                if let Some(reader) = self.jobs.get(&job) {
                    reader.send_modify(|attempts| attempts.end(Some(event)));
                    return None;
                }
            }
            _ => {}
        }
        Some(event)
    }

    fn job(&mut self, job: u16, change: impl FnOnce(&mut Attempts)) {
        if self.follow.jobs.as_ref().is_some_and(|wanted| !wanted.contains(&job)) {
            return;
        }
        let sender = self.jobs.entry(job).or_insert_with(|| {
            let (sender, receiver) = watch::channel(Attempts::default());
            let Follow { farm, build, patience, updates, .. } = self.follow.clone();
            let source = log::Source { farm, build, job, patience, updates };
            self.readers.spawn(async move { source.follow(receiver).await });
            sender
        });
        sender.send_modify(change);
    }

    async fn finish(mut self) {
        for job in self.jobs.values() {
            job.send_modify(|attempts| attempts.end(None));
        }
        while self.readers.join_next().await.is_some() {}
    }
}
