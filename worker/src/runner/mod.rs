//! The process of one attempt: `archyard runner FOLDER`, or `archyard runner --warm ATTEMPTS`, which an agent has
//! started ahead and calls to its attempt once there is one.
//!
//! It is told everything by the [folder](crate::attempt) and, for secrets, by standard input; it answers by the
//! folder alone. It depends on no other process of the farm: agent and scheduler may die and come back while it
//! builds. It does not decide whether its attempt is tried again, and it is never asked for anything.

mod handover;
mod inspect;
mod log;
mod order;
mod passed;
mod phases;
mod pins;
mod signals;
mod smoke;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use archyard_model::{AttemptId, Failure, FailureClass, ImageResult, convert};
use archyard_proto::v1 as proto;
use tokio_util::sync::CancellationToken;

use crate::attempt::{AttemptDir, RunnerLock};
use crate::engine::Credential;
use log::Log;
use order::{Order, OrderError};

/// An agent that looks whether a runner lives holds the lock for a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(1);

/// Why there is no result: the agent then says that its runner died.
#[derive(Debug, thiserror::Error)]
enum RunnerError {
    #[error("another runner has the attempt in {0}; there is nothing to do")]
    Taken(String),
    #[error("the attempt's folder: {0}")]
    Folder(#[from] io::Error),
    #[error(transparent)]
    Order(#[from] OrderError),
}

/// Runs the attempt in `folder` to its end and leaves the result there. Blocks; to be called where no runtime
/// runs, from a process that does nothing else.
pub fn run(folder: &Path) -> ExitCode {
    match run_in(&AttemptDir::at(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(folder = %folder.display(), %error, "this attempt cannot be run");
            ExitCode::FAILURE
        }
    }
}

/// Waits to be called to one of the attempts in this folder, and then runs it as [`run`] does. Ends when nobody
/// calls any more.
pub fn run_when_called(attempts: &Path) -> ExitCode {
    let called = match order::call(&mut io::stdin().lock()) {
        Ok(Some(attempt)) => attempts.join(attempt.file_name()),
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(attempts = %attempts.display(), %error, "this call cannot be understood");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = move_in(&AttemptDir::at(&called)) {
        tracing::error!(folder = %called.display(), %error, "cannot work in this folder");
        return ExitCode::FAILURE;
    }
    run(&called)
}

/// Into the folder of an attempt, as a runner that was started for it is there from its start.
fn move_in(dir: &AttemptDir) -> io::Result<()> {
    let log = dir.open_runner_log()?;
    rustix::stdio::dup2_stdout(&log)?;
    rustix::stdio::dup2_stderr(&log)?;
    std::env::set_current_dir(dir.path())
}

fn run_in(dir: &AttemptDir) -> Result<(), RunnerError> {
    let _lock = lock(dir)?;
    if dir.result()?.is_some() {
        // An agent that found nobody here has spoken for us.
        return Err(RunnerError::Taken(dir.path().display().to_string()));
    }
    leave_session();
    dir.set_pid(std::process::id())?;
    let (id, told) = order::assignment(dir)?;
    let span = tracing::info_span!(
        "attempt",
        build = %id.job.build,
        job = id.job.index,
        attempt = id.token.0,
        worker = tracing::field::Empty,
    );
    let _in_span = span.enter();
    let ended = Order::of(id, told).map_err(OrderError::into_failure).and_then(|order| {
        span.record("worker", order.worker.as_str());
        let credentials = order::credentials(&mut io::stdin().lock()).map_err(OrderError::into_failure)?;
        in_runtime(dir, &order, credentials)
    });
    let ended = ended.unwrap_or_else(|failure| Ended { outcome: Err(failure), log_warning: None });
    let result = result(id, ended, dir.spool_bytes());
    // Said first: whoever has the result may read this log at once.
    tracing::info!(
        log_bytes = result.log_bytes,
        failure = result.failure.as_ref().map(|failure| failure.code.as_str()),
        "the attempt has ended"
    );
    dir.set_result(&result)?;
    Ok(())
}

/// How an attempt ended.
struct Ended {
    outcome: Result<ImageResult, Failure>,
    /// Why its log is not whole.
    log_warning: Option<String>,
}

/// Whatever happens in there, an outcome comes out.
fn in_runtime(dir: &AttemptDir, order: &Order, credentials: Vec<Credential>) -> Result<Ended, Failure> {
    let infrastructure =
        |code: &str, message: String| Failure::new(FailureClass::Infrastructure, code, message);
    // One thread: starting more costs more than they bring to one build.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| infrastructure("runner_failed", format!("the runner cannot start: {error}")))?;
    let attempt = async {
        let cancel = CancellationToken::new();
        let _signals = signals::listen(&cancel, order.tethered).map_err(|error| {
            infrastructure("runner_failed", format!("the runner takes no signals: {error}"))
        })?;
        let log =
            Log::create(&dir.spool(), cancel.clone()).map_err(|error| log::failure(&dir.spool(), &error))?;
        let outcome = phases::run(order, credentials, &log, &cancel).await;
        // A log that could not be written is why the rest was canceled.
        let log_warning = log.close().await.map_err(|error| log::failure(&dir.spool(), &error))?;
        Ok(Ended { outcome, log_warning })
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(attempt)));
    runtime.shutdown_background();
    outcome.unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        let message =
            format!("the runner panicked: {said}; this is a defect of archyard, see the worker's runner log");
        Err(infrastructure("runner_panicked", message))
    })
}

fn result(id: AttemptId, ended: Ended, log_bytes: u64) -> proto::AttemptResult {
    let (image, failure) = match ended.outcome {
        Ok(image) => (Some(convert::image_to_proto(&image)), None),
        Err(failure) => (None, Some(convert::failure_to_proto(&failure))),
    };
    let log_warning = ended.log_warning.unwrap_or_default();
    proto::AttemptResult {
        attempt: Some(convert::attempt_to_proto(id)),
        image,
        failure,
        log_bytes,
        log_warning,
    }
}

fn lock(dir: &AttemptDir) -> Result<RunnerLock, RunnerError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        if let Some(lock) = dir.try_lock()? {
            return Ok(lock);
        }
        if Instant::now() >= deadline {
            return Err(RunnerError::Taken(dir.path().display().to_string()));
        }
        std::thread::sleep(LOCK_RETRY);
    }
}

/// No terminal's hang-up reaches a session of one's own. An agent starts runners as leaders of a process group,
/// and those cannot have one; but no terminal signals their group either.
fn leave_session() {
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!(%error, "stays in its session");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::Assignment;
    use archyard_model::{BuildId, FencingToken, JobId};

    fn attempt() -> AttemptId {
        AttemptId { job: JobId { build: BuildId::from_parts(5, 7), index: 0 }, token: FencingToken(1) }
    }

    fn folder() -> (tempfile::TempDir, AttemptDir) {
        let folder = tempfile::tempdir().unwrap();
        let told =
            Assignment { attempt: Some(convert::attempt_to_proto(attempt())), ..Assignment::default() };
        let dir = AttemptDir::create(folder.path(), attempt(), &told).unwrap();
        (folder, dir)
    }

    #[test]
    fn a_malformed_order_is_a_result() {
        let (_folder, dir) = folder();
        run_in(&dir).unwrap();
        let failure = dir.result().unwrap().unwrap().failure.unwrap();
        assert_eq!(failure.code, "lease_malformed");
        assert!(failure.message.contains("spec"), "{}", failure.message);
        assert_eq!(dir.pid(), Some(rustix::process::getpid()));
    }

    #[test]
    fn an_attempt_that_has_ended_is_left_alone() {
        let (_folder, dir) = folder();
        let ended = result(attempt(), Ended { outcome: Ok(ImageResult::default()), log_warning: None }, 7);
        dir.set_result(&ended).unwrap();
        assert!(matches!(run_in(&dir), Err(RunnerError::Taken(_))));
        assert_eq!(dir.result().unwrap(), Some(ended));
    }

    #[test]
    fn outcomes_become_results() {
        let failure = Failure::new(FailureClass::User, "run_failed", "x");
        let clipped = Some("clipped".to_owned());
        let failed = result(attempt(), Ended { outcome: Err(failure), log_warning: clipped }, 5);
        assert_eq!((failed.log_bytes, failed.image.is_none()), (5, true));
        assert_eq!(failed.log_warning, "clipped");
        let built = result(attempt(), Ended { outcome: Ok(ImageResult::default()), log_warning: None }, 0);
        assert!(built.failure.is_none() && built.image.is_some());
    }
}
