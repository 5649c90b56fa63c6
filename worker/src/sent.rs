//! What an Engine was sent under which name, so that no build gets stale content.
//!
//! BuildKit keeps a copy of a context under a name and compares the next one with it by size, mode, time and link, never
//! by content. A file that has other content and is otherwise equal would be built with the content of before. So a
//! worker remembers, for every name, what it sent under it. A context that has other content under equal attributes gets
//! a name that was never used; every other context gets the name of before, and BuildKit asks only for what changed.
//!
//! - What is remembered is on disk, synced, before BuildKit hears of any file. A process that is killed, or a machine
//!   that crashes, can at most have remembered too much, and that costs one more name.
//! - Nothing is ever forgotten of a name that is still in use: BuildKit may keep several copies under one name, each of
//!   another moment. A build that sends only part of its context is remembered as if it had sent all of it.
//! - A name holds random bits. A memory that is missing, damaged or too large is replaced by an empty one under a name
//!   of its own, and two workers that share an Engine and a data folder's path never share a name.

mod memory;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use archyard_model::{Blake3, limits};

use crate::lock::{Lock, Mode};
use memory::Memory;

/// One file of a context, as BuildKit compares it, and what it does not compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// A hash of all that BuildKit compares: equal for what it takes for the same.
    pub identity: [u8; 16],
    /// A hash of the content and the extended attributes.
    pub content: [u8; 16],
}

/// The memories of one worker.
#[derive(Debug, Clone)]
pub struct Sent {
    root: PathBuf,
}

impl Sent {
    /// Memories in the folder `root`, which is made when it is needed.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The name under which this context may be sent; `base` says whose it is. `marks` is asked only if the context
    /// with this manifest was not sent under the name of before.
    ///
    /// Without a disk there is no memory: the name is then one that nobody uses again, and BuildKit asks for everything.
    ///
    /// # Errors
    /// Those of `marks`.
    pub async fn name<F, E>(&self, base: &str, manifest: &Blake3, marks: F) -> Result<String, E>
    where
        F: AsyncFnOnce() -> Result<Vec<Mark>, E>,
    {
        let path = self.root.join(&Blake3::of(base.as_bytes()).hex()[..32]);
        let remembered = match self.known(&path, manifest).await {
            Ok(Some(epoch)) => Ok(epoch),
            Ok(None) => self.add(&path, manifest, marks().await?).await,
            Err(error) => Err(error),
        };
        match remembered {
            Ok(epoch) => Ok(name(base, &epoch)),
            Err(error) => {
                tracing::warn!(
                    folder = %self.root.display(),
                    %error,
                    "what is sent to the Engine cannot be remembered; the whole context is sent"
                );
                // Randomness that cannot be had is replaced by what no other process has now.
                let epoch = random().unwrap_or_else(|_| unique());
                Ok(name(base, &epoch))
            }
        }
    }

    /// The name of before, if this very context was sent under it.
    async fn known(&self, path: &Path, manifest: &Blake3) -> io::Result<Option<[u8; 16]>> {
        fs::create_dir_all(&self.root)?;
        let memory = look(path).await?.filter(|memory| memory.knows(manifest));
        Ok(memory.map(|memory| memory.epoch()))
    }

    async fn add(&self, path: &Path, manifest: &Blake3, marks: Vec<Mark>) -> io::Result<[u8; 16]> {
        // Held until it is on disk: two builds of one name see each other's files.
        let lock = Lock::open(path, Mode::Exclusive).await?;
        let (root, manifest) = (self.root.clone(), *manifest);
        let work = move || remember(&root, &lock.file, &manifest, &marks);
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }
}

/// What is remembered there; none where nothing is, or where it is damaged.
async fn look(path: &Path) -> io::Result<Option<Memory>> {
    let lock = Lock::open(path, Mode::Shared).await?;
    let work = move || {
        lock.file.set_modified(SystemTime::now())?;
        read(&lock.file)
    };
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn read(mut file: &File) -> io::Result<Option<Memory>> {
    let length = file.metadata()?.len();
    // It is never written that large.
    if length > limits::SENT_BYTES {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.read_to_end(&mut bytes)?;
    Ok(Memory::decode(&bytes))
}

/// Remembers a context, under the name of before where that may be.
fn remember(root: &Path, file: &File, manifest: &Blake3, marks: &[Mark]) -> io::Result<[u8; 16]> {
    use std::os::unix::fs::FileExt as _;
    let known = read(file)?;
    let is_new = known.is_none();
    if let Some(memory) = known {
        if memory.knows(manifest) {
            return Ok(memory.epoch());
        }
        if let Some(more) = memory.add(manifest, marks) {
            file.write_all_at(&more, memory.length())?;
            file.sync_data()?;
            return Ok(memory.epoch());
        }
    }
    let epoch = random()?;
    let bytes = Memory::fresh(epoch, manifest, marks);
    file.set_len(0)?;
    file.write_all_at(&bytes, 0)?;
    file.sync_all()?;
    if is_new {
        tidy(root);
    }
    Ok(epoch)
}

/// Removes memories that nobody used for long, and the oldest of too many. Whoever uses one meanwhile goes on with what
/// it has, and the next build starts a new one.
fn tidy(root: &Path) {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) => return tracing::warn!(folder = %root.display(), %error, "cannot tidy up"),
    };
    let mut files: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((metadata.modified().ok()?, metadata.len(), entry.path()))
        })
        .collect();
    // The newest first.
    files.sort_by(|one, two| two.cmp(one));
    let mut total = 0;
    for (modified, length, path) in files {
        total += length;
        let age = modified.elapsed().unwrap_or_default();
        if (total > limits::SENT_BYTES || age > limits::SENT_KEPT)
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(file = %path.display(), %error, "cannot remove an old memory");
        }
    }
}

fn name(base: &str, epoch: &[u8; 16]) -> String {
    format!("{base}/{}", hex::encode(epoch))
}

fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn unique() -> [u8; 16] {
    let text = format!("{:?} {}", SystemTime::now(), std::process::id());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Blake3::of(text.as_bytes()).as_bytes()[..16]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(identity: u8, content: u8) -> Mark {
        Mark { identity: [identity; 16], content: [content; 16] }
    }

    /// The name of a context of these marks; its manifest is made of them.
    async fn named(sent: &Sent, base: &str, marks: &[Mark]) -> String {
        let manifest = Blake3::of(format!("{marks:?}").as_bytes());
        sent.name(base, &manifest, async || Ok::<_, ()>(marks.to_vec())).await.unwrap()
    }

    fn only_file(sent: &Sent) -> PathBuf {
        let mut files = fs::read_dir(&sent.root).unwrap();
        let file = files.next().unwrap().unwrap().path();
        assert!(files.next().is_none());
        file
    }

    fn sent() -> (tempfile::TempDir, Sent) {
        let folder = tempfile::tempdir().unwrap();
        let sent = Sent::at(folder.path().join("sent"));
        (folder, sent)
    }

    #[tokio::test]
    async fn only_other_content_under_equal_attributes_gets_another_name() {
        let (_folder, sent) = sent();
        let first = named(&sent, "b", &[mark(1, 1), mark(2, 2)]).await;
        assert!(first.starts_with("b/"));
        assert_eq!(named(&sent, "b", &[mark(1, 1), mark(2, 2)]).await, first);
        assert_eq!(named(&sent, "b", &[mark(3, 1)]).await, first);
        let second = named(&sent, "b", &[mark(3, 9)]).await;
        assert_ne!(second, first);
        // Under the new name nothing of the old one is known.
        assert_eq!(named(&sent, "b", &[mark(1, 7)]).await, second);
        assert_ne!(named(&sent, "other", &[mark(1, 7)]).await, second);
    }

    #[tokio::test]
    async fn a_file_that_was_absent_in_between_is_still_known() {
        let (_folder, sent) = sent();
        let first = named(&sent, "b", &[mark(1, 1)]).await;
        assert_eq!(named(&sent, "b", &[mark(2, 2)]).await, first);
        assert_ne!(named(&sent, "b", &[mark(1, 3)]).await, first);
    }

    #[tokio::test]
    async fn a_known_manifest_is_not_looked_into() {
        let (_folder, sent) = sent();
        let manifest = Blake3::of(b"m");
        let first = sent.name("b", &manifest, async || Ok::<_, &str>(vec![mark(1, 1)])).await;
        let again = sent.name("b", &manifest, async || Err("it is known")).await;
        assert_eq!(again, first);
        let other = sent.name("b", &Blake3::of(b"n"), async || Err("it is not known")).await;
        assert_eq!(other, Err("it is not known"));
    }

    #[tokio::test]
    async fn a_memory_that_is_damaged_or_gone_is_not_believed() {
        let (_folder, sent) = sent();
        let mut names = vec![named(&sent, "b", &[mark(1, 1)]).await];
        let file = only_file(&sent);
        let whole = fs::read(&file).unwrap();
        for at in [0, 20, 40, whole.len() - 40, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&file, &damaged).unwrap();
            names.push(named(&sent, "b", &[mark(1, 1)]).await);
        }
        for length in [0, 5, whole.len() - 1] {
            fs::write(&file, &whole[..length]).unwrap();
            names.push(named(&sent, "b", &[mark(1, 1)]).await);
        }
        fs::remove_file(&file).unwrap();
        names.push(named(&sent, "b", &[mark(1, 1)]).await);
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "a name was used again: {names:?}");
    }

    #[tokio::test]
    async fn builds_at_the_same_time_know_of_each_other() {
        let (_folder, sent) = sent();
        let marks: Vec<[Mark; 1]> = (0..16).map(|content| [mark(1, content)]).collect();
        let names = marks.iter().map(|marks| named(&sent, "b", marks));
        let mut names = futures_util::future::join_all(names).await;
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 16);
    }

    #[tokio::test]
    async fn a_memory_has_a_limit() {
        let (_folder, sent) = sent();
        let wide = |n: u32, content: u8| {
            let mut identity = [0; 16];
            identity[..4].copy_from_slice(&n.to_le_bytes());
            Mark { identity, content: [content; 16] }
        };
        let mut names = Vec::new();
        for round in 0..12_u32 {
            let marks: Vec<Mark> = (0..20_000).map(|n| wide(round * 20_000 + n, 0)).collect();
            names.push(named(&sent, "b", &marks).await);
            assert!(fs::metadata(only_file(&sent)).unwrap().len() <= 4 << 20);
        }
        names.dedup();
        assert!((2..=4).contains(&names.len()), "{}", names.len());
    }

    #[tokio::test]
    async fn memories_that_nobody_uses_go() {
        let (_folder, sent) = sent();
        named(&sent, "old", &[mark(1, 1)]).await;
        let long_ago = SystemTime::now() - limits::SENT_KEPT - std::time::Duration::from_secs(60);
        File::options().write(true).open(only_file(&sent)).unwrap().set_modified(long_ago).unwrap();
        named(&sent, "new", &[mark(1, 1)]).await;
        only_file(&sent);
    }

    #[tokio::test]
    async fn without_a_disk_every_name_is_new() {
        let sent = Sent::at("/proc/nowhere/sent");
        let first = named(&sent, "b", &[mark(1, 1)]).await;
        assert_ne!(named(&sent, "b", &[mark(1, 1)]).await, first);
    }
}
