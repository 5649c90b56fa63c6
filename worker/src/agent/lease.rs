//! A lease is offered: take it and start its runner, or say why not.

use std::path::Path;
use std::sync::Arc;

use archyard_model::{AttemptId, Invalid, Platform, convert};
use archyard_proto::v1 as proto;
use proto::worker_message::Message as Up;
use tokio::task::JoinSet;

use super::Shared;
use super::attempt::Attempt;
use super::launch::{self, Launched};
use super::process::Process;
use super::supervise::{bury, supervise};
use crate::attempt::AttemptDir;
use crate::{machine, platform};

/// The answer to a lease. `drained`: the scheduler said that this worker takes none.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    lease: proto::Lease,
    drained: bool,
    supervisors: &mut JoinSet<()>,
) -> Result<Up, Invalid> {
    let id = convert::attempt_from_proto(lease.attempt.clone())?;
    let accepted = Up::LeaseAccepted(proto::LeaseAccepted { attempt: lease.attempt.clone() });
    if shared.attempts.get(id).is_some() {
        // Offered again on a new connection.
        return Ok(accepted);
    }
    let crossed = cross(&lease, &shared.config.engine).await;
    let slot = match crossed.map_or_else(|| refusal(shared, drained), Err) {
        Ok(slot) => slot,
        Err((code, message)) => {
            tracing::info!(build = %id.job.build, job = id.job.index, attempt = id.token.0, worker = %shared.config.name, code, message, "no lease taken");
            let rejected = proto::LeaseRejected { attempt: lease.attempt, code: code.to_owned(), message };
            return Ok(Up::LeaseRejected(rejected));
        }
    };
    tracing::info!(build = %id.job.build, job = id.job.index, attempt = id.token.0, worker = %shared.config.name, slot, "lease taken");
    start(shared, id, slot, lease, supervisors).await;
    Ok(accepted)
}

/// Why this machine does not build for another platform: an emulator would run what must not be run, and nobody would
/// notice.
async fn cross(lease: &proto::Lease, engine: &str) -> Option<(&'static str, String)> {
    let spec = lease.spec.as_ref().filter(|spec| spec.cross)?;
    // A malformed one is refused with its attempt.
    let platform = convert::platform_from_proto(spec.platform.as_ref()?).ok()?;
    if let Some(interpreter) = platform::emulator(&platform) {
        return Some(emulated(&platform, &interpreter));
    }
    let program = platform::dockerd::emulator(engine, &platform).await?;
    Some(emulated_by_engine(&platform, &program))
}

fn emulated(platform: &Platform, interpreter: &str) -> (&'static str, String) {
    let message = format!(
        "this machine's kernel would run programs of {platform} with {interpreter} (binfmt_misc), and a cross build must \
         run none; take that away (`ls /proc/sys/fs/binfmt_misc`, then write -1 to the entry), or build elsewhere"
    );
    ("emulator_registered", message)
}

fn emulated_by_engine(platform: &Platform, program: &Path) -> (&'static str, String) {
    let message = format!(
        "this machine's Engine would run programs of {platform} with {}, which is on the PATH of its dockerd, and a cross \
         build must run none; take that file away, or build elsewhere",
        program.display()
    );
    ("emulator_registered", message)
}

/// A slot, or the code and the words of why there is none.
fn refusal(shared: &Shared, drained: bool) -> Result<u32, (&'static str, String)> {
    if drained || shared.drain.is_cancelled() {
        return Err(("draining", "this worker is draining; `archyard drain --undo` ends that".to_owned()));
    }
    let engine = shared.health.state();
    if !engine.problem.is_empty() {
        return Err(("engine_down", engine.problem));
    }
    let folder = shared.layout.root();
    let least = shared.config.min_free_bytes;
    match machine::free_bytes(folder) {
        Ok(free) if free < least => {
            let message = format!(
                "{free} bytes are free on the disk of {}, at least {least} are needed; free some space there",
                folder.display()
            );
            return Err(("disk_low", message));
        }
        Err(error) => return Err(("disk_low", format!("{}: {error}", folder.display()))),
        Ok(_) => {}
    }
    let slots = shared.config.slots();
    let taken = || ("no_slot", format!("all {slots} slots of this worker are taken"));
    shared.attempts.free_slot(slots).ok_or_else(taken)
}

/// Starts the runner. Should that fail the attempt has failed, which is then told like any other end.
async fn start(
    shared: &Arc<Shared>,
    id: AttemptId,
    slot: u32,
    lease: proto::Lease,
    supervisors: &mut JoinSet<()>,
) {
    let dir = AttemptDir::at(shared.layout.attempts().join(id.file_name()));
    let attempt = Arc::new(Attempt::new(id, dir, slot));
    shared.attempts.insert(attempt.clone());
    let launched = {
        let shared = shared.clone();
        let told = launch::assignment(&shared, id, slot, lease.spec);
        let launch = move || launch::launch(&shared, id, &told, lease.credentials);
        tokio::task::spawn_blocking(launch).await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
    };
    let watched = launched.and_then(|Launched { child, tether }| {
        let process = Process::of_child(child)?;
        shared.watcher.add(&attempt)?;
        Ok((process, tether))
    });
    match watched {
        Ok((process, tether)) => {
            supervisors.spawn(supervise(shared.clone(), attempt, process, tether));
        }
        Err(error) => {
            tracing::warn!(build = %id.job.build, job = id.job.index, attempt = id.token.0, %error, "no runner started");
            attempt.fail(&launch::failure(&error));
            bury(&attempt, None).await;
            attempt.set_exited();
            // No runner has written a log.
            attempt.set_spooled();
            shared.attempts.update(&attempt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_is_named_with_its_remedy() {
        let (code, message) = emulated(&"linux/arm64".parse().unwrap(), "/usr/bin/qemu-aarch64-static");
        assert_eq!(code, "emulator_registered");
        for part in ["linux/arm64", "/usr/bin/qemu-aarch64-static", "binfmt_misc", "write -1"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn the_engines_own_emulator_is_named_with_its_remedy() {
        let program = Path::new("/usr/bin/buildkit-qemu-aarch64");
        let (code, message) = emulated_by_engine(&"linux/arm64".parse().unwrap(), program);
        assert_eq!(code, "emulator_registered");
        for part in
            ["linux/arm64", "/usr/bin/buildkit-qemu-aarch64", "PATH of its dockerd", "take that file away"]
        {
            assert!(message.contains(part), "{message}");
        }
    }

    #[tokio::test]
    async fn only_cross_builds_ask_for_emulators() {
        let platform = Some(convert::platform_to_proto(&"linux/amd64".parse().unwrap()));
        let spec = |cross| proto::JobSpec { platform: platform.clone(), cross, ..proto::JobSpec::default() };
        let lease = |cross| proto::Lease { spec: Some(spec(cross)), ..proto::Lease::default() };
        assert_eq!(cross(&lease(false), "").await, None);
        assert_eq!(cross(&proto::Lease::default(), "").await, None);
    }
}
