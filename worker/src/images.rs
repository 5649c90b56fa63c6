//! Which images attempts left in the Engine.
//!
//! An image has to go when nobody needs it any more, for it keeps its layers from being pruned; but two attempts
//! may build the very same image, and one must not lose it while the other pushes it. So runners only note what
//! they built, and the agent removes what is noted once no attempt is between build and push.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use archyard_model::{Failure, FailureClass, Sha256};

use crate::engine::Engine;
use crate::layout::Layout;
use crate::lock::{Lock, Mode};

/// How long an image is of use to a repeated build.
const AGE: Duration = Duration::from_secs(600);

/// The notes.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    folder: PathBuf,
}

/// While it lives no image is removed.
#[derive(Debug)]
pub(crate) struct InUse {
    folder: PathBuf,
    _lock: Lock,
}

impl Images {
    pub(crate) fn open(layout: &Layout) -> Self {
        Self { folder: layout.images() }
    }

    /// Keeps every image where it is. Waits for a removal that is under way.
    pub(crate) async fn in_use(&self) -> Result<InUse, Failure> {
        let lock = Lock::open(&self.folder.join("lock"), Mode::Shared).await.map_err(|error| {
            let code = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "disk_full",
                _ => "disk_failed",
            };
            let message = format!("the notes in {} cannot be locked: {error}", self.folder.display());
            Failure::new(FailureClass::Infrastructure, code, message)
        })?;
        Ok(InUse { folder: self.folder.clone(), _lock: lock })
    }

    /// Removes from the Engine what was noted some time ago and is not in use. Returns how many that were.
    ///
    /// # Errors
    /// Those of the notes. What the Engine refuses is tried again another time.
    pub(crate) async fn sweep(&self, engine: &impl Engine) -> io::Result<u32> {
        let mut removed = 0;
        for note in fs::read_dir(&self.folder)? {
            let note = note?;
            let Some(image) = parse(&note.file_name().to_string_lossy()) else { continue };
            // Locked anew for each: an attempt that starts now waits for one removal at most.
            let Some(_alone) = Lock::try_open(&self.folder.join("lock"), Mode::Exclusive)? else { break };
            let noted = note.metadata()?.modified()?;
            if SystemTime::now().duration_since(noted).is_ok_and(|age| age < AGE) {
                continue;
            }
            match engine.remove_image(image).await {
                Ok(()) => {
                    fs::remove_file(note.path())?;
                    removed += 1;
                }
                Err(error) => tracing::warn!(%image, %error, "an image that nobody needs stays"),
            }
        }
        Ok(removed)
    }
}

impl InUse {
    /// Notes an image for removal later on.
    pub(crate) fn keep(&self, image: Sha256) {
        // Made anew or not, its time is now.
        let noted =
            File::create(self.folder.join(image.hex())).and_then(|note| note.set_modified(SystemTime::now()));
        if let Err(error) = noted {
            tracing::warn!(%image, %error, "cannot note an image: it stays in the Engine");
        }
    }
}

fn parse(name: &str) -> Option<Sha256> {
    format!("sha256:{name}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        BuildError, BuildRequest, Built, Described, EngineError, Form, Probe, ProbeError, PushError,
        PushRequest, Pushed, Ran, RunError, RunRequest, Source, TakeRequest, Taken,
    };
    use archyard_proto::v1::LogFrame;
    use std::sync::{Arc, Mutex};
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    /// Notes what it is asked to remove; nothing else is asked of it.
    #[derive(Default)]
    struct Removing(Mutex<Vec<Sha256>>);

    impl Engine for Removing {
        async fn probe(&self) -> Result<Probe, ProbeError> {
            unreachable!("a sweep does not probe")
        }
        async fn ping(&self) -> Result<(), EngineError> {
            unreachable!("a sweep does not ping")
        }
        async fn build(
            &self,
            _: BuildRequest,
            _: Arc<dyn Source>,
            _: mpsc::Sender<LogFrame>,
            _: CancellationToken,
        ) -> Result<Built, BuildError> {
            unreachable!("a sweep does not build")
        }
        async fn files(
            &self,
            _: BuildRequest,
            _: Arc<dyn Source>,
            _: Form,
            _: mpsc::Sender<bytes::Bytes>,
            _: mpsc::Sender<LogFrame>,
            _: CancellationToken,
        ) -> Result<(), BuildError> {
            unreachable!("a sweep does not send files")
        }
        async fn describe(&self, _: Sha256) -> Result<Described, EngineError> {
            unreachable!("a sweep does not describe")
        }
        async fn take(
            &self,
            _: TakeRequest,
            _: mpsc::Sender<LogFrame>,
            _: CancellationToken,
        ) -> Result<Taken, PushError> {
            unreachable!("a sweep does not take")
        }
        async fn push(
            &self,
            _: PushRequest,
            _: mpsc::Sender<LogFrame>,
            _: CancellationToken,
        ) -> Result<Pushed, PushError> {
            unreachable!("a sweep does not push")
        }
        async fn run(
            &self,
            _: RunRequest,
            _: mpsc::Sender<LogFrame>,
            _: CancellationToken,
        ) -> Result<Ran, RunError> {
            unreachable!("a sweep does not run anything")
        }
        async fn remove_image(&self, image: Sha256) -> Result<(), EngineError> {
            self.0.lock().unwrap().push(image);
            Ok(())
        }
        async fn prune(&self, _: u64) -> Result<u64, EngineError> {
            unreachable!("a sweep does not prune")
        }
    }

    #[tokio::test]
    async fn old_images_go_once_no_attempt_needs_any() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::at(folder.path());
        layout.create().unwrap();
        let (images, engine) = (Images::open(&layout), Removing::default());
        let (old, new) = (Sha256::from_bytes([1; 32]), Sha256::from_bytes([2; 32]));
        let in_use = images.in_use().await.unwrap();
        in_use.keep(old);
        in_use.keep(new);
        let note = File::options().write(true).open(layout.images().join(old.hex())).unwrap();
        note.set_modified(SystemTime::now() - 2 * AGE).unwrap();
        assert_eq!(images.sweep(&engine).await.unwrap(), 0, "an attempt runs");
        drop(in_use);
        assert_eq!(images.sweep(&engine).await.unwrap(), 1);
        assert_eq!(images.sweep(&engine).await.unwrap(), 0);
        assert_eq!(*engine.0.lock().unwrap(), [old]);

        // Built again, it is of use again.
        images.in_use().await.unwrap().keep(old);
        assert_eq!(images.sweep(&engine).await.unwrap(), 0);
    }
}
