//! The task that keeps everything within its limits, and what operators ask of it. One pass at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use archyard_model::BuildId;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::budget::Why;
use super::options::{Limits, Options};
use super::pass::{Class, Freed, Kept, Pass, Prune, Reason};
use super::removed::{Note, Notes, What};
use super::usage::Usages;
use crate::artifacts::Artifacts;
use crate::blobs::{self, Cut};
use crate::disk;
use crate::driver::{self, Handle, Source};
use crate::pace::Pace;
use crate::spools::Spools;
use crate::views::Views;

/// Between two passes, at most.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// And at least, however short the limits are.
const EVERY_MIN: Duration = Duration::from_secs(1);
/// Contexts are looked through so often even where nothing seems to have changed.
const THOROUGH_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// A scheduler that lives for one build looks so often.
const ALONE_EVERY: Duration = Duration::from_secs(6 * 60 * 60);
/// Builds that the core is asked for at once.
const PAGE: usize = 1_000;

/// What is bounded.
#[derive(Debug, Clone)]
pub(crate) struct Stores {
    pub(crate) blobs: Arc<blobs::Store>,
    pub(crate) artifacts: Arc<Artifacts>,
    pub(crate) spools: Arc<Spools>,
    pub(crate) views: Arc<Views>,
}

/// Why a pass could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The core.
    #[error(transparent)]
    Driver(#[from] driver::Error),
    /// The scheduler stops.
    #[error("the scheduler is stopping; try again")]
    Stopped,
    /// After a start, while clients may still count on what an earlier scheduler told them.
    #[error(
        "the scheduler started {since:?} ago: contexts are removed only {recent:?} after a start (--recent), for clients \
         may count on what they were told before it; try again then, or name other classes with --class"
    )]
    Settling {
        /// How long ago.
        since: Duration,
        /// How long that must be.
        recent: Duration,
    },
}

impl From<Cut> for Error {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Stopped => Self::Stopped,
            Cut::Disk(error) => Self::Disk(error),
        }
    }
}

/// Keeps everything within its limits.
#[derive(Debug)]
pub struct Retention {
    options: Options,
    stores: Stores,
    notes: Notes,
    driver: Handle,
    data_dir: PathBuf,
    stopping: CancellationToken,
    /// One pass at a time.
    turn: Semaphore,
    last: Mutex<Last>,
}

/// What the last pass left.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    /// When contexts were looked through, since the start.
    thorough: Option<Duration>,
    /// Something past a limit could not go.
    held_up: bool,
}

impl Retention {
    pub(crate) fn open(
        data_dir: &Path,
        options: Options,
        stores: Stores,
        driver: Handle,
        stopping: CancellationToken,
    ) -> Result<Self, disk::Error> {
        let notes = Notes::open(data_dir)?;
        let data_dir = data_dir.to_owned();
        Ok(Self {
            options,
            stores,
            notes,
            driver,
            data_dir,
            stopping,
            turn: Semaphore::new(1),
            last: Mutex::default(),
        })
    }

    /// Makes a pass from time to time, until the scheduler stops.
    pub(crate) async fn keep(self: Arc<Self>) {
        if self.options.alone && !self.is_due_alone() {
            return;
        }
        let mut ticks = tokio::time::interval(self.period());
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.stopping.cancelled() => return,
            }
            match Arc::clone(&self).sweep().await {
                Ok(freed) => tell(&freed),
                Err(Error::Stopped) => return,
                Err(error) => {
                    tracing::warn!(%error, "what is past its limit cannot be removed; it is tried again");
                }
            }
        }
    }

    /// Removes what is past the limits.
    pub(crate) async fn sweep(self: Arc<Self>) -> Result<BTreeMap<Class, Freed>, Error> {
        let pace = Pace::gentle(self.stopping.clone());
        self.pass(pace, |keeper, found| {
            let disk = keeper.disk()?;
            let mut classes = vec![Class::Records, Class::Logs, Class::Artifacts];
            let contexts = keeper.settled().is_ok() && keeper.is_due(disk)?;
            if contexts {
                classes.push(Class::Contexts);
                // Before the pass: what comes meanwhile is for the next one.
                keeper.stores.blobs.take_grown();
            }
            let began = keeper.stores.blobs.clock().since_start();
            let (freed, held_up) =
                found.pass(keeper, Reason::Limits(&keeper.options, disk))?.run(&classes)?;
            if contexts {
                *keeper.last.lock().unwrap_or_else(PoisonError::into_inner) =
                    Last { thorough: Some(began), held_up };
                keeper.stores.blobs.forget_pins(found.since);
                keeper.mark_swept();
            }
            Ok(freed)
        })
        .await
    }

    /// Removes what an operator asks for.
    pub(crate) async fn prune(self: Arc<Self>, prune: Prune) -> Result<BTreeMap<Class, Freed>, Error> {
        let pace = Pace::brisk(self.stopping.clone());
        self.pass(pace, move |keeper, found| {
            if prune.classes.contains(&Class::Contexts) && !prune.dry_run {
                keeper.settled()?;
            }
            let (freed, _) = found.pass(keeper, Reason::Asked(&prune))?.run(&prune.classes)?;
            if !prune.dry_run {
                tell(&freed);
            }
            Ok(freed)
        })
        .await
    }

    /// What is kept.
    pub(crate) async fn usage(self: Arc<Self>) -> Result<BTreeMap<Class, Usages>, Error> {
        let pace = Pace::brisk(self.stopping.clone());
        self.pass(pace, |keeper, found| {
            Ok(found.pass(keeper, Reason::Limits(&keeper.options, 0))?.usage()?)
        })
        .await
    }

    /// What was removed of a build.
    pub(crate) fn removed(&self, build: BuildId) -> Option<Note> {
        self.notes.of(build)
    }

    /// What to say of something that was removed.
    pub(crate) fn explain(&self, note: Note) -> String {
        let disk = self.disk().unwrap_or(u64::MAX);
        let (what, flag, limits) = match note.what {
            What::Log => ("logs", "--logs", self.options.of_logs(disk)),
            What::Record => ("records", "--records", self.options.of_records(disk)),
        };
        let Limits { age, bytes, project_bytes } = limits;
        let at = note.at.strftime("%Y-%m-%d %H:%M:%S UTC");
        let size = |bytes: Option<u64>| bytes.map_or_else(|| "as much as the disk has".to_owned(), sized);
        match note.why {
            Why::Age => {
                let days = age.map_or_else(|| "some time".to_owned(), spoken);
                format!(
                    "retention removed it on {at}: {what} are kept for {days} after a build's end ({flag}-kept)"
                )
            }
            Why::Bytes => format!(
                "retention removed it on {at}: {what} may occupy {} in total ({flag}-size)",
                size(bytes)
            ),
            Why::ProjectBytes => format!(
                "retention removed it on {at}: {what} of one project may occupy {} ({flag}-project-size)",
                size(project_bytes)
            ),
            Why::Asked => format!("it was removed on {at} by `archyard prune`"),
        }
    }

    /// One pass: finds what is needed, then works on the blocking pool.
    async fn pass<T: Send + 'static>(
        self: Arc<Self>,
        pace: Pace,
        work: impl FnOnce(&Self, &mut Found) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        // The semaphore is never closed.
        let _turn = self.turn.acquire().await;
        let began = self.stores.blobs.clock().since_start();
        let since = began.saturating_sub(self.options.recent);
        // For whom something is kept, before the core is asked which of these it knows.
        let stores = self.stores.clone();
        let kept = blocking(move || Kept::list(&stores).map_err(Error::from)).await?;
        let mut active: Vec<Source> = Vec::new();
        loop {
            let page = self.driver.sources(active.last().map(|last| last.build), PAGE).await?;
            let more = page.len() == PAGE;
            active.extend(page);
            if !more {
                break;
            }
        }
        let mut found = Found { since, kept, active, pace };
        let keeper = Arc::clone(&self);
        blocking(move || work(&keeper, &mut found)).await
    }

    /// Whether contexts are to be looked through: something came, something is too old, or it was long ago.
    fn is_due(&self, disk: u64) -> Result<bool, Error> {
        let blobs = &self.stores.blobs;
        let Last { thorough, held_up } = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(thorough) = thorough else { return Ok(true) };
        if held_up || blobs.is_grown() || blobs.clock().since_start() >= thorough + THOROUGH_EVERY {
            return Ok(true);
        }
        let Some(age) = self.options.of_contexts(disk).age else { return Ok(false) };
        let now = blobs.clock().now();
        let is_old = |used: SystemTime| now.duration_since(used).is_ok_and(|since| since > age);
        Ok(blobs.contexts()?.iter().any(|context| is_old(context.used)))
    }

    /// After a start nothing is removed of what clients may have been told of before it.
    fn settled(&self) -> Result<(), Error> {
        let (since, recent) = (self.stores.blobs.clock().since_start(), self.options.recent);
        if self.options.alone || since >= recent {
            return Ok(());
        }
        let since = Duration::from_secs(since.as_secs());
        Err(Error::Settling { since, recent })
    }

    fn period(&self) -> Duration {
        let disk = u64::MAX;
        let ages =
            [self.options.of_contexts(disk), self.options.of_logs(disk), self.options.of_records(disk)];
        let shortest = ages.iter().filter_map(|limits| limits.age).min().unwrap_or(EVERY);
        EVERY.min(shortest / 4).max(EVERY_MIN)
    }

    /// The whole disk, and what is free of it.
    pub(crate) fn disk_bytes(&self) -> Result<(u64, u64), disk::Error> {
        let free = disk::free_bytes(&self.data_dir);
        let free = free.map_err(|source| disk::Error::at(&self.data_dir, &self.data_dir, source))?;
        Ok((self.disk()?, free))
    }

    fn disk(&self) -> Result<u64, disk::Error> {
        disk::all_bytes(&self.data_dir)
            .map_err(|source| disk::Error::at(&self.data_dir, &self.data_dir, source))
    }

    fn swept(&self) -> PathBuf {
        self.data_dir.join("retention").join("swept")
    }

    fn is_due_alone(&self) -> bool {
        let last = std::fs::metadata(self.swept()).and_then(|swept| swept.modified());
        last.ok().and_then(|last| last.elapsed().ok()).is_none_or(|since| since >= ALONE_EVERY)
    }

    fn mark_swept(&self) {
        if let Err(error) = std::fs::write(self.swept(), "") {
            tracing::debug!(%error, "the time of a pass is not noted");
        }
    }
}

/// What a pass begins with.
struct Found {
    since: Duration,
    kept: Kept,
    active: Vec<Source>,
    pace: Pace,
}

impl Found {
    fn pass<'a>(&mut self, keeper: &'a Retention, reason: Reason<'a>) -> Result<Pass<'a>, Cut> {
        let times = (keeper.options.recent, self.since);
        let kept = std::mem::take(&mut self.kept);
        let active = std::mem::take(&mut self.active);
        Pass::new(&keeper.stores, &keeper.notes, reason, times, kept, active, self.pace.clone())
    }
}

fn tell(freed: &BTreeMap<Class, Freed>) {
    for (class, freed) in freed.iter().filter(|(_, freed)| freed.bytes > 0 || freed.count > 0) {
        tracing::info!(?class, count = freed.count, bytes = freed.bytes, "retention made room");
    }
}

/// `30 d`, `6 h`, `90 s`: the largest unit that says it exactly.
fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{duration:?}"),
        _ if seconds.is_multiple_of(86_400) => format!("{} d", seconds / 86_400),
        _ if seconds.is_multiple_of(3_600) => format!("{} h", seconds / 3_600),
        _ if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

/// `64.0 GiB`: in the largest unit that is not more.
fn sized(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} bytes"),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => {
            tracing::error!(%error, "a pass of retention ended unexpectedly");
            Err(Error::Stopped)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_spoken_as_an_operator_writes_them() {
        let spoken = |seconds| spoken(Duration::from_secs(seconds));
        assert_eq!(
            [spoken(90), spoken(120), spoken(6 * 3600), spoken(30 * 86_400)],
            ["90 s", "2 min", "6 h", "30 d"]
        );
        assert_eq!([sized(64 << 30), sized(1_500_000), sized(5)], ["64.0 GiB", "1.4 MiB", "5 bytes"]);
    }
}
