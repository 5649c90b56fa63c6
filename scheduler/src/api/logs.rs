//! ReadLog: one job's log, byte for byte, over all its attempts, while it grows or long after.

use std::sync::Arc;
use std::time::Duration;

use archyard_model::{AttemptId, FencingToken, Invalid, JobId, limits};
use archyard_proto::v1 as proto;
use tokio::sync::watch;
use tonic::Status;

use super::Shared;
use super::builds::build_id;
use super::fate::Fate;
use super::status::IntoStatus;
use super::stream::{Gone, Sink, Stop, Stream, fed_by};
use crate::spools::{Progress, Spool};

/// Chunks that wait for a slow reader.
const DEPTH: usize = 4;
/// How long the rest of a log may take to arrive once its attempt has ended: it travels on another stream.
const REST_PATIENCE: Duration = Duration::from_secs(15);
/// How long more of a lost attempt's log may take: its worker may still be on the line.
const LOST_PATIENCE: Duration = Duration::from_secs(1);

/// One reader of one job's log.
struct Reading {
    shared: Shared,
    job: JobId,
    /// One attempt only.
    only: Option<FencingToken>,
    follow: bool,
    sink: Sink<proto::LogChunk>,
}

/// A job's attempts, and whether there can be more.
struct Attempts {
    tokens: Vec<FencingToken>,
    ended: bool,
}

/// Starts reading; NOT_FOUND at once for a build, job or attempt nobody knows.
pub(super) async fn read(
    shared: &Shared,
    message: proto::ReadLogRequest,
) -> Result<Stream<proto::LogChunk>, Status> {
    let build = build_id(&message.build_id)?;
    let index = u16::try_from(message.job_index)
        .map_err(|_| {
            Invalid::new("job_index", message.job_index, "expected a position in the plan's platforms")
        })
        .map_err(IntoStatus::into_status)?;
    let job = JobId { build, index };
    let only = (message.token != 0).then_some(FencingToken(message.token));
    let attempts = attempts(shared, job).await?;
    if let Some(token) = only.filter(|token| !attempts.tokens.contains(token)) {
        return Err(Status::not_found(format!(
            "job {job} has no attempt {token}; `archyard show {build}` lists them"
        )));
    }
    let checking = shared.clone();
    shared.blocking(move || checking.check_log(build)).await?;
    let (shared_, follow) = (shared.clone(), message.follow);
    Ok(fed_by(shared, DEPTH, |sink| async move {
        let reading = Reading { shared: shared_, job, only, follow, sink };
        match reading.run(message.offset).await {
            Ok(()) => Ok(()),
            Err(Stop::Gone) => Err(Gone),
            Err(Stop::Failed(status)) => reading.sink.fail(status).await,
        }
    }))
}

async fn attempts(shared: &Shared, job: JobId) -> Result<Attempts, Status> {
    let record = shared.record(job.build).await?.ok_or_else(|| shared.no_build(job.build))?;
    let found = record.jobs.iter().find(|found| found.index == u32::from(job.index)).ok_or_else(|| {
        let problem = format!("the build has {} jobs, counted from 0", record.jobs.len());
        Invalid::new("job_index", job.index, problem).into_status()
    })?;
    let state = archyard_model::convert::job_state_from_proto(found.state());
    Ok(Attempts {
        tokens: found.attempts.iter().map(|attempt| FencingToken(attempt.token)).collect(),
        ended: state.is_ok_and(archyard_model::JobState::is_terminal),
    })
}

impl Reading {
    async fn run(&self, mut offset: u64) -> Result<(), Stop> {
        let mut done = FencingToken(0);
        loop {
            let changes = self.changes().await?;
            let attempts = attempts(&self.shared, self.job).await?;
            let wanted = |token: &&FencingToken| match self.only {
                Some(only) => **token == only,
                None => **token > done,
            };
            match attempts.tokens.iter().find(wanted) {
                Some(token) => {
                    self.copy(AttemptId { job: self.job, token: *token }, offset).await?;
                    if self.only.is_some() {
                        return Ok(());
                    }
                    (done, offset) = (*token, 0);
                }
                None if attempts.ended || !self.follow => return Ok(()),
                None => changed(changes).await,
            }
        }
    }

    /// Sends one attempt's log from `offset` on, to its end.
    async fn copy(&self, attempt: AttemptId, mut offset: u64) -> Result<(), Stop> {
        let spools = Arc::clone(&self.shared.spools);
        let spool = self.shared.blocking(move || spools.get(attempt)).await?;
        let mut grows = spool.watch();
        loop {
            let changes = self.changes().await?;
            let fate = self.shared.fate(attempt).await?;
            let Progress { bytes, last } = *grows.borrow_and_update();
            offset = self.send(attempt, &spool, offset, bytes).await?;
            match fate {
                _ if last => return Ok(()),
                Fate::Unknown => return Ok(()),
                Fate::Ended(length) if offset >= length => return Ok(()),
                Fate::Ended(length) => {
                    // Also without `follow`: an attempt that has ended has a whole log, or none that may pass for one.
                    let patience = if self.follow { REST_PATIENCE } else { LOST_PATIENCE };
                    if !within(patience, grows.changed()).await {
                        let (checking, build) = (self.shared.clone(), attempt.job.build);
                        self.shared.blocking(move || checking.check_log(build)).await?;
                        return Err(Status::data_loss(format!(
                            "the log of attempt {attempt} has {length} bytes and only {offset} arrived: its worker is gone"
                        ))
                        .into());
                    }
                }
                _ if !self.follow => return Ok(()),
                Fate::Lost => {
                    if !within(LOST_PATIENCE, grows.changed()).await {
                        tracing::warn!(build = %attempt.job.build, %attempt, offset, "the log of a lost attempt ends here");
                        return Ok(());
                    }
                }
                Fate::Running => {
                    tokio::select! {
                        // The spool is held here: its sender cannot be gone.
                        _ = grows.changed() => {}
                        () = changed(changes) => {}
                    }
                }
            }
        }
    }

    async fn send(
        &self,
        attempt: AttemptId,
        spool: &Arc<Spool>,
        mut offset: u64,
        end: u64,
    ) -> Result<u64, Stop> {
        while offset < end {
            let reader = Arc::clone(spool);
            let data = self.shared.blocking(move || reader.read(offset, end)).await?;
            debug_assert!(!data.is_empty() && data.len() <= limits::LOG_CHUNK_BYTES);
            let length = data.len() as u64;
            self.sink.send(proto::LogChunk { token: attempt.token.0, offset, data }).await?;
            offset += length;
        }
        Ok(offset)
    }

    /// Wakes with the build's next event; taken before looking, so that nothing falls in between. None: archived.
    async fn changes(&self) -> Result<Option<watch::Receiver<u64>>, Status> {
        let events =
            self.shared.driver.events(self.job.build, u64::MAX).await.map_err(IntoStatus::into_status)?;
        Ok(events.map(|events| events.changed))
    }
}

async fn changed(changes: Option<watch::Receiver<u64>>) {
    match changes {
        // Closed means archived, which shows when the record is asked for.
        Some(mut changes) => drop(changes.changed().await),
        // Nothing will happen to it, but nobody shall spin either.
        None => tokio::time::sleep(LOST_PATIENCE).await,
    }
}

async fn within<T>(patience: Duration, what: impl Future<Output = T>) -> bool {
    tokio::time::timeout(patience, what).await.is_ok()
}
