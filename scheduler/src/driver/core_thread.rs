//! The loop: take a batch, decide and fold, journal the group, release, answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use archyard_model::BuildId;
use tokio::sync::{oneshot, watch};
use ulid::Ulid;

use super::error::Error;
use super::handle::{NewBuild, Submitted};
use super::ids::Ids;
use super::inbox::Inbox;
use super::mailbox::Mailbox;
use super::message::{Message, Query};
use super::queries;
use super::shell::Shell;
use crate::core::{
    ConnectionId, Effect, Input, Moment, Outcome, Refusal, State, Submission, follow, snapshot, step,
};
use crate::journal::{self, Journal, codec};

/// What waits for the commit.
enum Answer {
    Done(oneshot::Sender<Result<(), Error>>, Result<(), Error>),
    Submitted(oneshot::Sender<Result<Submitted, Error>>, Result<Submitted, Error>),
    Connected(oneshot::Sender<Result<ConnectionId, Error>>, Result<ConnectionId, Error>),
}

/// Owns the state, and nothing else touches it.
pub(super) struct CoreThread<S> {
    state: State,
    journal: Box<dyn Journal>,
    shell: S,
    inbox: Arc<Inbox<Message>>,
    mailboxes: BTreeMap<ConnectionId, Arc<Mailbox>>,
    watchers: BTreeMap<BuildId, watch::Sender<u64>>,
    last_connection: u64,
    ids: Ids,
    started: Instant,
}

/// One batch between two commits.
#[derive(Default)]
struct Batch {
    outcome: Outcome,
    answers: Vec<Answer>,
    queries: Vec<Query>,
}

impl<S: Shell> CoreThread<S> {
    pub(super) fn new(state: State, journal: Box<dyn Journal>, shell: S, inbox: Arc<Inbox<Message>>) -> Self {
        Self {
            ids: Ids::after(&state),
            state,
            journal,
            shell,
            inbox,
            mailboxes: BTreeMap::new(),
            watchers: BTreeMap::new(),
            last_connection: 0,
            started: Instant::now(),
        }
    }

    /// Until the inbox is closed and empty, or the journal fails.
    pub(super) fn run(mut self) -> Result<(), journal::Error> {
        let mut messages = Vec::new();
        // What the recovered state asks for goes out before anything new comes in.
        let mut patience = Some(Duration::ZERO);
        loop {
            self.inbox.take(&mut messages, patience);
            if messages.is_empty() && self.inbox.is_closed() {
                return Ok(());
            }
            let moment = self.moment();
            let mut batch = Batch::default();
            for message in messages.drain(..) {
                self.handle(moment, message, &mut batch);
            }
            follow(&mut self.state, moment, &mut batch.outcome);
            if let Err(error) = self.commit(moment, &batch.outcome) {
                refuse(batch.answers, &error);
                return Err(error);
            }
            for effect in batch.outcome.effects {
                self.release(effect);
            }
            for answer in batch.answers {
                answer.send();
            }
            for query in batch.queries {
                queries::answer(&self.state, &mut self.watchers, query);
            }
            patience = self.state.next_deadline().map(|at| at.saturating_sub(self.started.elapsed()));
        }
    }

    fn handle(&mut self, moment: Moment, message: Message, batch: &mut Batch) {
        match message {
            Message::Submit { build, credentials, answer } => {
                let outcome = self.submit(moment, build, credentials, &mut batch.outcome);
                batch.answers.push(Answer::Submitted(answer, outcome.map_err(Error::Refused)));
            }
            Message::Connect { offer, running, mailbox, answer } => {
                self.last_connection += 1;
                let connection = ConnectionId(self.last_connection);
                self.mailboxes.insert(connection, mailbox);
                let input = Input::WorkerJoined { connection, offer, running };
                let joined = step(&mut self.state, moment, input, &mut batch.outcome);
                if joined.is_err() {
                    self.mailboxes.remove(&connection);
                }
                let outcome = joined.map(|()| connection).map_err(Error::Refused);
                batch.answers.push(Answer::Connected(answer, outcome));
            }
            Message::Disconnected(connection) => {
                self.mailboxes.remove(&connection);
                // Refused where a newer stream took over: nothing is left to do.
                let input = Input::WorkerLeft { connection };
                drop(step(&mut self.state, moment, input, &mut batch.outcome));
            }
            Message::Input { input, answer } => {
                let outcome = step(&mut self.state, moment, input, &mut batch.outcome);
                match (answer, outcome) {
                    (Some(answer), outcome) => {
                        batch.answers.push(Answer::Done(answer, outcome.map_err(Error::Refused)));
                    }
                    (None, Err(refusal)) => tracing::debug!(%refusal, "a worker's message changed nothing"),
                    (None, Ok(())) => {}
                }
            }
            Message::Query(query) => batch.queries.push(query),
        }
    }

    fn submit(
        &mut self,
        moment: Moment,
        new: NewBuild,
        credentials: bool,
        outcome: &mut Outcome,
    ) -> Result<Submitted, Refusal> {
        let NewBuild { request_id, principal, plan, pool, heritage, lock } = new;
        let fresh = self.ids.next(moment.wall_ms, Ulid::new().random());
        let submission = Submission {
            build: fresh,
            request_id: request_id.clone(),
            principal: principal.clone(),
            plan,
            pool,
            credentials,
            heritage,
            lock,
        };
        step(&mut self.state, moment, Input::Submit(submission), outcome)?;
        let build = self.state.ledger.request(&principal, &request_id).unwrap_or(fresh);
        Ok(Submitted { build, existing: build != fresh })
    }

    /// Makes the group durable. Nothing of it may be released before.
    fn commit(&mut self, moment: Moment, outcome: &Outcome) -> Result<(), journal::Error> {
        let group: Vec<_> =
            outcome.facts.iter().filter_map(|fact| codec::encode(moment.wall_ms, fact)).collect();
        if group.is_empty() {
            return Ok(());
        }
        self.journal.append(&group)?;
        if self.journal.wants_snapshot() {
            let state = &self.state;
            let mut records = snapshot(state).filter_map(|fact| codec::encode(moment.wall_ms, &fact));
            self.journal.snapshot(&mut records)?;
        }
        Ok(())
    }

    fn release(&mut self, effect: Effect) {
        match effect {
            Effect::ResolveLock { build, plan } => self.shell.resolve(build, plan),
            Effect::ToWorker { connection, message } => {
                if let Some(mailbox) = self.mailboxes.get(&connection) {
                    mailbox.leave(message);
                }
            }
            Effect::Disconnect { connection, parting } => {
                if let Some(mailbox) = self.mailboxes.remove(&connection) {
                    mailbox.close(Some(parting));
                }
            }
            Effect::Publish(order) => self.shell.publish(*order),
            Effect::Archive(ended) => self.shell.archive(*ended),
            Effect::ForgetBuild { build } => drop(self.watchers.remove(&build)),
            Effect::NotifyBuild { build, events } => queries::notify(&mut self.watchers, build, events),
        }
    }

    fn moment(&self) -> Moment {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment {
            since_start: self.started.elapsed(),
            wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl<S> Drop for CoreThread<S> {
    fn drop(&mut self) {
        for mailbox in self.mailboxes.values() {
            mailbox.close(None);
        }
    }
}

impl Answer {
    /// A caller that has gone away is no loss: what it asked for is durable.
    fn send(self) {
        match self {
            Self::Done(sender, outcome) => drop(sender.send(outcome)),
            Self::Submitted(sender, outcome) => drop(sender.send(outcome)),
            Self::Connected(sender, outcome) => drop(sender.send(outcome)),
        }
    }
}

/// The journal failed: none of these was recorded.
fn refuse(answers: Vec<Answer>, error: &journal::Error) {
    let error = match error {
        journal::Error::DiskFull(_) => Error::DiskFull,
        journal::Error::Io { .. }
        | journal::Error::Corrupt { .. }
        | journal::Error::InUse(_)
        | journal::Error::Crashed => Error::Stopped,
    };
    for answer in answers {
        match answer {
            Answer::Done(sender, _) => drop(sender.send(Err(error.clone()))),
            Answer::Submitted(sender, _) => drop(sender.send(Err(error.clone()))),
            Answer::Connected(sender, _) => drop(sender.send(Err(error.clone()))),
        }
    }
}
