//! One build's context, complete on this machine.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use archyard_model::{Blake3, ContextEntry, ContextManifest, ContextRef, EntryKind, Inputs, limits};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use super::{Cache, CacheError, Downloads};
use crate::engine::Source;
use crate::lock::{Lock, Mode, RETRY};

/// A context whose every blob is here, and stays here until this is dropped.
///
/// One of many thousand files takes some milliseconds to [read](Self::read); the Engine asks for its files later
/// than that, so whoever builds does both at once.
#[derive(Debug)]
pub struct Context {
    reference: ContextRef,
    manifest: OnceCell<ContextManifest>,
    cache: Cache,
    marker: PathBuf,
    _pin: Lock,
}

impl Cache {
    /// The context, brought here when it is not here yet.
    ///
    /// # Errors
    /// When it cannot be brought, or the downloads were canceled.
    pub async fn context(
        &self,
        context: &ContextRef,
        downloads: &mut Downloads,
    ) -> Result<Context, CacheError> {
        let marker = self.contexts().join(context.manifest_digest.hex());
        let disk = |error| CacheError::disk(&self.root, error);
        if let Some(pin) = complete(&marker).map_err(disk)? {
            return self.open_context(context, marker, pin);
        }
        let canceled = downloads.cancel().clone();
        let alone = async {
            // While this is held nothing is evicted, so what is found here stays.
            let here = Lock::open(&self.root.join("lock"), Mode::Shared).await?;
            Ok((here, alone_with(&marker).await?))
        };
        let (here, turn) = tokio::select! {
            alone = alone => alone.map_err(disk)?,
            () = canceled.cancelled() => return Err(CacheError::Canceled),
        };
        let pin = match turn {
            Turn::Complete(pin) => pin,
            Turn::Ours(exclusive) => {
                downloads.fetch(self, vec![context.manifest_digest]).await?;
                let manifest = self.manifest(context)?;
                downloads.fetch(self, files(&manifest)).await?;
                (&exclusive.file).write_all(b"complete").map_err(disk)?;
                drop(exclusive);
                Lock::open(&marker, Mode::Shared).await.map_err(disk)?
            }
        };
        drop(here);
        self.open_context(context, marker, pin)
    }

    /// A small blob's content, brought here when it is not here yet.
    ///
    /// # Errors
    /// As [`context`](Self::context); also when it has more than `most` bytes.
    pub async fn small_blob(
        &self,
        digest: &Blake3,
        most: u64,
        downloads: &mut Downloads,
    ) -> Result<Vec<u8>, CacheError> {
        let disk = |error| CacheError::disk(&self.root, error);
        if let Some(content) = self.read(digest, most).map_err(disk)? {
            return Ok(content);
        }
        let here = Lock::open(&self.root.join("lock"), Mode::Shared).await.map_err(disk)?;
        downloads.fetch(self, vec![*digest]).await?;
        let content = self.read(digest, most).map_err(disk)?;
        drop(here);
        content.ok_or_else(|| CacheError::Missing { message: format!("{digest} did not arrive") })
    }

    fn open_context(&self, context: &ContextRef, marker: PathBuf, pin: Lock) -> Result<Context, CacheError> {
        // The least recently used go first.
        pin.file.set_modified(SystemTime::now()).map_err(|error| CacheError::disk(&self.root, error))?;
        let (reference, manifest) = (context.clone(), OnceCell::new());
        Ok(Context { reference, manifest, cache: self.clone(), marker, _pin: pin })
    }

    fn manifest(&self, context: &ContextRef) -> Result<ContextManifest, CacheError> {
        let encoded = self
            .read(&context.manifest_digest, limits::CONTEXT_MANIFEST_BYTES)
            .map_err(|error| CacheError::disk(&self.root, error))?
            .ok_or_else(|| CacheError::Missing {
                message: "the context's manifest did not arrive".to_owned(),
            })?;
        Ok(ContextManifest::decode(&encoded)?)
    }

    /// A blob's content; none when it is not here.
    fn read(&self, digest: &Blake3, most: u64) -> io::Result<Option<Vec<u8>>> {
        let mut file = match self.blob(digest) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let size = file.metadata()?.len();
        if size > most {
            return Err(io::Error::other(format!(
                "blob {digest} has {size} bytes; at most {most} are taken"
            )));
        }
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.read_to_end(&mut content)?;
        Ok(Some(content))
    }
}

impl Context {
    /// Reads what is in it, on a thread of its own. Once is enough; whoever comes second waits for the first.
    ///
    /// # Errors
    /// When the manifest is gone, or is none. The next attempt looks for every blob again then.
    pub async fn read(&self) -> Result<(), CacheError> {
        let read = || async {
            let (cache, reference) = (self.cache.clone(), self.reference.clone());
            let manifest = tokio::task::spawn_blocking(move || cache.manifest(&reference)).await;
            manifest.unwrap_or_else(|panic| Err(CacheError::disk(&self.cache.root, io::Error::other(panic))))
        };
        match self.manifest.get_or_try_init(read).await {
            Ok(_) => Ok(()),
            Err(error) => {
                forget(&self.marker);
                Err(error)
            }
        }
    }
}

impl Source for Context {
    fn known(&self) -> BoxFuture<'_, Result<(), String>> {
        self.read().map(|read| read.map_err(|error| error.to_string())).boxed()
    }

    fn entries(&self) -> &[ContextEntry] {
        self.manifest.get().map(ContextManifest::entries).unwrap_or_default()
    }

    fn inputs(&self) -> &Inputs {
        self.manifest.get().map_or(&Inputs::Everything, ContextManifest::inputs)
    }

    fn open(&self, digest: &Blake3) -> io::Result<File> {
        self.cache.blob(digest).inspect_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                // Somebody removed it by hand: the next attempt looks for every blob again.
                forget(&self.marker);
            }
        })
    }
}

fn forget(marker: &PathBuf) {
    if let Err(error) = fs::remove_file(marker)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(marker = %marker.display(), %error, "cannot forget that a context was complete");
    }
}

/// Who brings a context.
enum Turn {
    /// Nobody needs to.
    Complete(Lock),
    /// Whoever holds this.
    Ours(Lock),
}

/// Waits until the context is complete, or ours to bring: another attempt's work is not done twice, and its pin,
/// which it holds for as long as it builds, keeps nobody waiting.
async fn alone_with(marker: &Path) -> io::Result<Turn> {
    loop {
        if let Some(pin) = complete(marker)? {
            return Ok(Turn::Complete(pin));
        }
        if let Some(exclusive) = Lock::try_open(marker, Mode::Exclusive)? {
            return if is_complete(&exclusive)? { continue } else { Ok(Turn::Ours(exclusive)) };
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The pin of a complete context; none while it is not.
fn complete(marker: &Path) -> io::Result<Option<Lock>> {
    match Lock::try_open(marker, Mode::Shared)? {
        Some(pin) if is_complete(&pin)? => Ok(Some(pin)),
        _ => Ok(None),
    }
}

fn is_complete(lock: &Lock) -> io::Result<bool> {
    Ok(lock.file.metadata()?.len() > 0)
}

/// The blobs that a manifest names.
pub(super) fn files(manifest: &ContextManifest) -> Vec<Blake3> {
    let digest = |entry: &ContextEntry| match entry.kind {
        EntryKind::File { digest, .. } => Some(digest),
        _ => None,
    };
    manifest.entries().iter().filter_map(digest).collect()
}
