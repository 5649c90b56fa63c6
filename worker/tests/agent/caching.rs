//! Contexts come to a machine once, whole, and whatever happens on the way.

use std::fs;
use std::time::{Duration, Instant};

use archyard_model::{ContextEntry, ContextManifest, ContextRef, EntryKind};
use archyard_worker::cache::{Cache, CacheError, Downloads, Evicted};
use archyard_worker::engine::Source as _;
use tokio_util::sync::CancellationToken;

use crate::scheduler::Scheduler;

/// A cache and the scheduler it is filled from.
struct Machine {
    scheduler: Scheduler,
    cache: Cache,
    cancel: CancellationToken,
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scheduler = Scheduler::start(folder.path());
        let cache = Cache::open(folder.path().join("cache")).unwrap();
        Self { scheduler, cache, cancel: CancellationToken::new(), folder }
    }

    fn downloads(&self) -> Downloads {
        let at = archyard_worker::Scheduler { endpoint: self.scheduler.endpoint(), tls: None };
        Downloads::new(at, self.cancel.clone()).with_patience(Duration::from_secs(10))
    }

    /// A context of files with these contents.
    fn context(&self, contents: &[&[u8]]) -> ContextRef {
        let entry = |(index, content): (usize, &&[u8])| ContextEntry {
            path: format!("f{index:06}").into_bytes(),
            mode: 0o644,
            modified_s: 1,
            modified_ns: 0,
            xattrs: Vec::new(),
            kind: EntryKind::File { size: content.len() as u64, digest: self.scheduler.put(content) },
        };
        let manifest = ContextManifest::new(contents.iter().enumerate().map(entry).collect()).unwrap();
        let encoded = manifest.encode();
        self.scheduler.put(&encoded);
        manifest.to_ref(&encoded)
    }

    fn left_over(&self) -> usize {
        fs::read_dir(self.folder.path().join("cache/tmp")).unwrap().count()
    }
}

#[tokio::test]
async fn two_attempts_bring_one_context_once() {
    let machine = Machine::new();
    let context = machine.context(&[b"a", b"b", b"a"]);
    let (mut one, mut two) = (machine.downloads(), machine.downloads());
    let (one, two) =
        tokio::join!(machine.cache.context(&context, &mut one), machine.cache.context(&context, &mut two));
    let (one, two) = (one.unwrap(), two.unwrap());
    one.read().await.unwrap();
    two.read().await.unwrap();
    assert_eq!((one.entries().len(), one.entries()), (3, two.entries()));
    assert_eq!(machine.scheduler.downloads(), [1, 2]);
}

#[tokio::test]
async fn only_what_changed_is_brought() {
    let machine = Machine::new();
    let mut downloads = machine.downloads();
    let before = machine.context(&[b"same", b"old"]);
    drop(machine.cache.context(&before, &mut downloads).await.unwrap());
    let after = machine.context(&[b"same", b"new"]);
    let context = machine.cache.context(&after, &mut downloads).await.unwrap();
    assert_eq!(machine.scheduler.downloads(), [1, 2, 1, 1]);
    let digest = archyard_model::Blake3::of(b"new");
    assert_eq!(std::io::read_to_string(context.open(&digest).unwrap()).unwrap(), "new");
}

#[tokio::test]
async fn a_scheduler_that_is_away_is_waited_for() {
    let mut machine = Machine::new();
    let context = machine.context(&[b"a"]);
    machine.scheduler.stop().await;
    let mut downloads = machine.downloads();
    let cache = machine.cache.clone();
    let (brought, ()) = tokio::join!(cache.context(&context, &mut downloads), async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        machine.scheduler.listen();
    });
    let brought = brought.unwrap();
    brought.read().await.unwrap();
    assert_eq!(brought.entries().len(), 1);
}

#[tokio::test]
async fn waiting_has_an_end() {
    let mut machine = Machine::new();
    let context = machine.context(&[b"a"]);
    machine.scheduler.stop().await;
    let mut downloads = machine.downloads().with_patience(Duration::from_millis(300));
    let error = machine.cache.context(&context, &mut downloads).await.unwrap_err();
    assert!(matches!(error, CacheError::SchedulerAway { .. }));
    let failure = error.into_failure();
    assert_eq!(failure.code, "scheduler_unreachable");
    assert!(failure.message.contains("s.sock"), "{}", failure.message);
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_not_waited_for() {
    let machine = Machine::new();
    let context = machine.context(&[b"a"]);
    let at = archyard_worker::Scheduler {
        endpoint: "https://localhost:7420".parse().unwrap(),
        tls: Some(machine.folder.path().join("tls")),
    };
    let mut downloads = Downloads::new(at, machine.cancel.clone());
    let started = Instant::now();
    let error = machine.cache.context(&context, &mut downloads).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let failure = error.into_failure();
    assert_eq!(failure.code, "scheduler_refused");
    assert!(failure.message.contains("tls/ca.pem"), "{}", failure.message);
}

#[tokio::test]
async fn a_cancel_ends_the_waiting() {
    let mut machine = Machine::new();
    let context = machine.context(&[b"a"]);
    machine.scheduler.stop().await;
    let mut downloads = machine.downloads();
    let started = Instant::now();
    let (brought, ()) = tokio::join!(machine.cache.context(&context, &mut downloads), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        machine.cancel.cancel();
    });
    assert!(matches!(brought, Err(CacheError::Canceled)));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn damaged_blobs_are_never_kept() {
    let machine = Machine::new();
    let context = machine.context(&[b"honest"]);
    machine.scheduler.damage(b"honest");
    let mut downloads = machine.downloads();
    let error = machine.cache.context(&context, &mut downloads).await.unwrap_err();
    assert!(matches!(error, CacheError::Corrupt { .. }), "{error}");
    assert!(machine.cache.blob(&archyard_model::Blake3::of(b"honest")).is_err());
    assert_eq!(machine.left_over(), 0);
}

#[tokio::test]
async fn what_was_used_longest_ago_goes_first_and_what_is_used_stays() {
    let machine = Machine::new();
    let mut downloads = machine.downloads();
    let large = |byte: u8| vec![byte; 100_000];
    let [first, second, third] = [1, 2, 3].map(|byte| machine.context(&[&large(byte), b"shared"]));
    for context in [&first, &second, &third] {
        drop(machine.cache.context(context, &mut downloads).await.unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Used again, so the second is the one used longest ago.
    let pinned = machine.cache.context(&first, &mut downloads).await.unwrap();
    assert_eq!(machine.cache.evict(1_000_000).unwrap(), Some(Evicted::default()));
    let evicted = machine.cache.evict(290_000).unwrap().unwrap();
    assert_eq!((evicted.contexts, evicted.blobs), (1, 2));
    let before = machine.scheduler.downloads().len();
    drop(machine.cache.context(&third, &mut downloads).await.unwrap());
    assert_eq!(machine.scheduler.downloads().len(), before, "the third is still whole");

    // A live attempt's context stays even where nothing fits.
    let evicted = machine.cache.evict(1).unwrap().unwrap();
    assert_eq!(evicted.contexts, 1);
    pinned.read().await.unwrap();
    for entry in pinned.entries() {
        let EntryKind::File { digest, .. } = &entry.kind else { panic!("no file") };
        pinned.open(digest).unwrap();
    }
    drop(pinned);
    assert_eq!(machine.cache.evict(1).unwrap().unwrap().contexts, 1);
    let again = machine.cache.context(&first, &mut downloads).await.unwrap();
    again.read().await.unwrap();
    assert_eq!(again.entries().len(), 2, "what was evicted is brought again");
}

#[tokio::test]
async fn what_somebody_removed_by_hand_is_brought_again() {
    let machine = Machine::new();
    let mut downloads = machine.downloads();
    let reference = machine.context(&[b"a"]);
    let context = machine.cache.context(&reference, &mut downloads).await.unwrap();
    let digest = archyard_model::Blake3::of(b"a");
    let hex = digest.hex();
    fs::remove_file(machine.folder.path().join("cache/blobs").join(&hex[..2]).join(&hex)).unwrap();
    assert!(context.open(&digest).is_err());
    drop(context);
    let context = machine.cache.context(&reference, &mut downloads).await.unwrap();
    context.open(&digest).unwrap();
}

#[tokio::test]
async fn a_manifest_that_is_none_is_the_clients_fault() {
    let machine = Machine::new();
    let mut downloads = machine.downloads();
    let reference = machine.context(&[b"a"]);
    drop(machine.cache.context(&reference, &mut downloads).await.unwrap());
    let hex = reference.manifest_digest.hex();
    fs::write(machine.folder.path().join("cache/blobs").join(&hex[..2]).join(&hex), "no manifest").unwrap();
    let context = machine.cache.context(&reference, &mut downloads).await.unwrap();
    assert!(context.known().await.is_err() && context.entries().is_empty());
    let error = context.read().await.unwrap_err();
    assert_eq!(error.into_failure().code, "context_malformed");
    // Nobody takes it for complete any more.
    assert!(!machine.folder.path().join("cache/contexts").join(&hex).exists());
}

/// Figures for people: 20,000 files, brought and then found.
#[tokio::test]
async fn many_files_are_found_at_once() {
    let machine = Machine::new();
    let contents: Vec<Vec<u8>> = (0..20_000_u32).map(|n| n.to_le_bytes().repeat(100)).collect();
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let reference = machine.context(&contents);
    let mut downloads = machine.downloads();
    let started = Instant::now();
    drop(machine.cache.context(&reference, &mut downloads).await.unwrap());
    let brought = started.elapsed();
    let started = Instant::now();
    let context = machine.cache.context(&reference, &mut downloads).await.unwrap();
    let found = started.elapsed();
    context.read().await.unwrap();
    println!(
        "20,000 files: brought in {brought:?}, found in {found:?}, read in {:?}",
        started.elapsed() - found
    );
    assert_eq!(context.entries().len(), 20_000);
    assert_eq!(machine.scheduler.downloads(), [1, 20_000]);
}
