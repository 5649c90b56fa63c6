//! Builds that are stopped, and Engines that go away.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use archyard_model::FailureClass;
use archyard_worker::engine::{BuildError, DockerEngine, Engine as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Ended, Kind, Tree, at, build_until, dockerfile, engine, request};

on_every_engine! {
    a_canceled_build_is_stopped_when_it_says_so,
    a_reader_that_is_stuck_does_not_delay_a_stop,
    a_build_that_nobody_waits_for_is_stopped,
    an_engine_that_goes_away_is_lost,
}

/// A duration that no other process of the machine sleeps.
fn nap() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("9{}", now.as_nanos() % 1_000_000_000)
}

/// Whether a process with this argument runs, in whatever container.
fn runs(argument: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        arguments.starts_with(b"sleep\0")
            && arguments.windows(argument.len()).any(|w| w == argument.as_bytes())
    })
}

async fn until(what: &str, holds: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}: not within 30 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

/// Starts a build of one long step; returns once the step runs.
async fn start(engine: DockerEngine, nap: &str, cancel: CancellationToken) -> JoinSet<Ended> {
    let request = request(&dockerfile(&format!("RUN sleep {nap}\n")));
    let mut builds = JoinSet::new();
    builds
        .spawn(async move { build_until(&engine, request, Tree::builder().busybox().done(), cancel).await });
    until("the step runs", || runs(nap)).await;
    builds
}

async fn a_canceled_build_is_stopped_when_it_says_so(on: Kind) {
    let (nap, cancel) = (nap(), CancellationToken::new());
    let mut builds = start(engine(on), &nap, cancel.clone()).await;
    let asked = Instant::now();
    cancel.cancel();
    let ended = builds.join_next().await.unwrap().unwrap();
    assert!(!runs(&nap), "the step still runs though its build has ended");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert!(matches!(ended.result, Err(BuildError::Canceled)), "{:?}", ended.result);
    assert_eq!(ended.failure().class, FailureClass::Canceled);
}

async fn a_reader_that_is_stuck_does_not_delay_a_stop(on: Kind) {
    let (nap, cancel) = (nap(), CancellationToken::new());
    let (progress, stuck) = mpsc::channel(1);
    let request = request(&dockerfile(&format!("RUN sleep {nap}\n")));
    let mut builds = JoinSet::new();
    let token = cancel.clone();
    builds.spawn(async move {
        engine(on).build(request, Tree::builder().busybox().done(), progress, token).await
    });
    until("the step runs", || runs(&nap)).await;
    let asked = Instant::now();
    cancel.cancel();
    let ended = builds.join_next().await.unwrap().unwrap();
    assert!(matches!(ended, Err(BuildError::Canceled)), "{ended:?}");
    assert!(asked.elapsed() < Duration::from_secs(1) && !runs(&nap), "{:?}", asked.elapsed());
    drop(stuck);
}

async fn a_build_that_nobody_waits_for_is_stopped(on: Kind) {
    let nap = nap();
    let builds = start(engine(on), &nap, CancellationToken::new()).await;
    drop(builds);
    let took = until("the step is gone", || !runs(&nap)).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_canceled_before_it_starts_asks_nothing() {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let engine = DockerEngine::connect("unix:///nonexistent/docker.sock").unwrap();
    let ended = build_until(&engine, request("FROM scratch\n"), Tree::builder().done(), cancel).await;
    assert!(matches!(ended.result, Err(BuildError::Canceled)), "{:?}", ended.result);
}

async fn an_engine_that_goes_away_is_lost(on: Kind) {
    let nap = nap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let between = between(path.clone(), at(on).socket);
    let engine = DockerEngine::connect(&format!("unix://{}", path.display())).unwrap();
    let mut builds = start(engine, &nap, CancellationToken::new()).await;
    let cut = Instant::now();
    drop(between);
    let ended = builds.join_next().await.unwrap().unwrap();
    assert!(cut.elapsed() < Duration::from_secs(1), "{:?}", cut.elapsed());
    assert!(matches!(ended.result, Err(BuildError::EngineLost { .. })), "{:?}", ended.result);
    let failure = ended.failure();
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Infrastructure, "engine_lost"));
    assert!(failure.message.contains(&path.display().to_string()), "{failure}");
    until("the step is gone", || !runs(&nap)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_not_there_is_named() {
    let engine = DockerEngine::connect("unix:///nonexistent/docker.sock").unwrap();
    let tree = Tree::builder().done();
    let failure =
        build_until(&engine, request("FROM scratch\n"), tree, CancellationToken::new()).await.failure();
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::Infrastructure, "engine_unreachable"));
    assert!(failure.message.contains("unix:///nonexistent/docker.sock"), "{failure}");
}

/// Passes connections on, until it is dropped.
pub(crate) fn between(path: PathBuf, engine: PathBuf) -> JoinSet<()> {
    let listener = UnixListener::bind(path).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = UnixStream::connect(&engine).await.unwrap();
            connections.spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    tasks
}
