//! One attempt as its agent knows it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use archyard_model::{AttemptId, Failure, convert};
use archyard_proto::v1 as proto;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::attempt::AttemptDir;

/// What is known of an attempt. What it waits for is in [`Standing`].
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) id: AttemptId,
    pub(super) dir: AttemptDir,
    pub(super) slot: u32,
    /// Fires when the runner is to stop.
    cancel: CancellationToken,
    /// Sent whenever something changed in its folder.
    activity: watch::Sender<()>,
    standing: Mutex<Standing>,
}

/// How far an attempt is on its way out. Nothing here ever goes back.
#[derive(Debug, Clone, Default)]
struct Standing {
    /// How it ended.
    result: Option<proto::AttemptResult>,
    /// No process runs any more.
    exited: bool,
    /// The scheduler has the result.
    acked: bool,
    /// The scheduler has the log, or wants no more of it.
    spooled: bool,
    /// The scheduler wants nothing of it.
    discarded: bool,
}

impl Attempt {
    pub(super) fn new(id: AttemptId, dir: AttemptDir, slot: u32) -> Self {
        Self {
            id,
            dir,
            slot,
            cancel: CancellationToken::new(),
            activity: watch::Sender::new(()),
            standing: Mutex::default(),
        }
    }

    /// Asks the runner to stop. Its result still counts.
    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Stops the runner; neither result nor log are told to anybody.
    pub(super) fn discard(&self) {
        self.standing().discarded = true;
        self.cancel.cancel();
        self.stir();
    }

    pub(super) fn canceled(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Something changed in its folder, or here.
    pub(super) fn stir(&self) {
        self.activity.send_replace(());
    }

    pub(super) fn activity(&self) -> watch::Receiver<()> {
        self.activity.subscribe()
    }

    /// It ended so. The first word counts.
    pub(super) fn finish(&self, result: proto::AttemptResult) {
        self.standing().result.get_or_insert(result);
        self.stir();
    }

    /// It ended without a word of its runner.
    pub(super) fn fail(&self, failure: &Failure) {
        self.finish(proto::AttemptResult {
            attempt: Some(self.reference()),
            image: None,
            failure: Some(convert::failure_to_proto(failure)),
            log_bytes: self.dir.spool_bytes(),
            log_warning: String::new(),
        });
    }

    pub(super) fn set_exited(&self) {
        self.standing().exited = true;
    }

    pub(super) fn set_acked(&self) {
        self.standing().acked = true;
    }

    pub(super) fn set_spooled(&self) {
        self.standing().spooled = true;
    }

    pub(super) fn reference(&self) -> proto::AttemptRef {
        convert::attempt_to_proto(self.id)
    }

    /// How it ended; none while it has not.
    pub(super) fn result(&self) -> Option<proto::AttemptResult> {
        self.standing().result.clone()
    }

    /// Whether its slot is taken.
    pub(super) fn is_running(&self) -> bool {
        let standing = self.standing();
        standing.result.is_none() && !standing.exited
    }

    pub(super) fn has_exited(&self) -> bool {
        self.standing().exited
    }

    /// Whether the scheduler is to hear its result.
    pub(super) fn is_unacked(&self) -> bool {
        let standing = self.standing();
        !standing.acked && !standing.discarded
    }

    /// Whether the scheduler is to get its log.
    pub(super) fn is_unspooled(&self) -> bool {
        let standing = self.standing();
        !standing.spooled && !standing.discarded
    }

    /// Whether its folder is of no more use to anybody.
    pub(super) fn is_over(&self) -> bool {
        let standing = self.standing();
        standing.exited && (standing.discarded || standing.acked && standing.spooled)
    }

    /// Nothing in here can be half done when a holder panics.
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
