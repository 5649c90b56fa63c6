//! Word of every change in the attempts' folders, as it happens: a log line reaches its reader, and a result the
//! scheduler, without anybody looking again and again.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::Shared;
use super::attempt::Attempt;
use super::descriptor;

/// Where the kernel tells nothing, this often all folders count as changed.
const POLL: Duration = Duration::from_millis(50);

/// What is watched. One descriptor for all, for a user has few of them.
#[derive(Debug)]
pub(super) struct Watcher {
    inotify: Option<AsyncFd<OwnedFd>>,
    watched: Mutex<HashMap<i32, Weak<Attempt>>>,
}

impl Watcher {
    /// Watches nothing yet.
    pub(super) fn new() -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
            .map_err(io::Error::from)
            .and_then(descriptor::register);
        let inotify = inotify
            .inspect_err(|error| {
                tracing::warn!(%error, "no inotify: looking at every attempt again and again; raise fs.inotify.max_user_instances");
            })
            .ok();
        Self { inotify, watched: Mutex::default() }
    }

    /// Stirs the attempt whenever its folder changes, for as long as the folder is there.
    pub(super) fn add(&self, attempt: &Arc<Attempt>) -> io::Result<()> {
        let Some(inotify) = &self.inotify else { return Ok(()) };
        let changes = WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE;
        let watch = inotify::add_watch(inotify, attempt.dir.path(), changes)?;
        self.watched().insert(watch, Arc::downgrade(attempt));
        // What changed before it was watched.
        attempt.stir();
        Ok(())
    }

    fn stir_all(&self) {
        self.watched().values().filter_map(Weak::upgrade).for_each(|attempt| attempt.stir());
    }

    /// Takes all events that are there.
    fn take(&self, inotify: &AsyncFd<OwnedFd>) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => self.stir_all(),
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {
                    // The folder is gone.
                    self.watched().remove(&event.wd());
                }
                Ok(event) => {
                    let attempt = self.watched().get(&event.wd()).and_then(Weak::upgrade);
                    if let Some(attempt) = attempt {
                        attempt.stir();
                    }
                }
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<i32, Weak<Attempt>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes on what the kernel tells.
pub(super) async fn run(shared: Arc<Shared>) {
    let watcher = &shared.watcher;
    while let Some(inotify) = &watcher.inotify {
        let told = async {
            let mut ready = inotify.readable().await?;
            watcher.take(inotify)?;
            ready.clear_ready();
            // What came between taking and clearing.
            watcher.take(inotify)
        };
        if let Err(error) = told.await {
            tracing::warn!(%error, "inotify failed: looking at every attempt again and again");
            break;
        }
    }
    loop {
        tokio::time::sleep(POLL).await;
        shared.attempts.all().iter().for_each(|attempt| attempt.stir());
    }
}
