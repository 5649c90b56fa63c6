//! What inspecting an image costs beside pushing it, measured over one and the same image: `cargo xtask bench` runs
//! this against an Engine that has one.
//!
//! `inspect_cost ENGINE IMAGE REPOSITORY RUNS` prints a JSON line for each run: seconds spent in inspection alone,
//! seconds of the rest of the push with nothing known before, seconds of inspecting once all is known, and this
//! process' peak memory so far.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on panics with its reason"
)]

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use archyard_model::{Checks, Platform, Sha256};
use archyard_worker::engine::{DockerEngine, Engine as _, LayerObserver, Observer, PushRequest, TakeRequest};
use archyard_worker::inspect::{Config, Index, Job, Store, Tree, Written, judge};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Reads layers, and knows how long that took beside what the reader itself took.
#[derive(Clone)]
struct Timed {
    store: Store,
    nanos: Arc<AtomicU64>,
}

struct TimedLayer {
    timed: Timed,
    index: Option<Index>,
}

struct TimedReader<'a> {
    inner: &'a mut dyn Read,
    waited: Duration,
}

impl Read for TimedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let started = Instant::now();
        let read = self.inner.read(buffer);
        self.waited += started.elapsed();
        read
    }
}

impl Timed {
    fn add(&self, time: Duration) {
        self.nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap(), Ordering::Relaxed);
    }
}

impl Observer for Timed {
    fn knows(&self, diff_id: Sha256) -> bool {
        self.store.index(diff_id).is_some()
    }

    fn begin(&self) -> Box<dyn LayerObserver> {
        Box::new(TimedLayer { timed: self.clone(), index: None })
    }
}

impl LayerObserver for TimedLayer {
    fn read(&mut self, tar: &mut dyn Read) {
        let started = Instant::now();
        let mut reader = TimedReader { inner: tar, waited: Duration::ZERO };
        self.index = Index::read(&mut reader).ok();
        self.timed.add(started.elapsed().saturating_sub(reader.waited));
    }

    fn end(self: Box<Self>, diff_id: Sha256) {
        let started = Instant::now();
        self.timed.store.keep_index(diff_id, &self.index.unwrap()).unwrap();
        self.timed.add(started.elapsed());
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [engine, image, repository, runs] = args.as_slice() else {
        panic!("usage: inspect_cost ENGINE IMAGE REPOSITORY RUNS");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for run in 0..runs.parse().unwrap() {
        let repository = format!("{repository}-{run}");
        let measured = measure(engine, image.parse().unwrap(), &repository);
        let [inspect, push, known] = runtime.block_on(measured).map(|time| time.as_secs_f64());
        let measured =
            serde_json::json!({ "inspect": inspect, "push": push, "known": known, "peak_kib": peak_kib() });
        println!("{measured}");
    }
}

async fn measure(engine: &str, image: Sha256, repository: &str) -> [Duration; 3] {
    let folder = tempfile::tempdir().unwrap();
    let layer_cache = folder.path().join("layers");
    let store = Store::open(folder.path().join("inspected")).unwrap();
    let timed = Timed { store: store.clone(), nanos: Arc::default() };
    let engine = DockerEngine::connect(engine).unwrap();
    // Nobody listens to the progress.
    let (progress, _) = mpsc::channel(1);

    let started = Instant::now();
    let take = TakeRequest {
        image,
        layer_cache: layer_cache.clone(),
        layer_cache_bytes: u64::MAX,
        compress: true,
        observer: Some(Arc::new(timed.clone())),
    };
    let taken = engine.take(take, progress.clone(), CancellationToken::new()).await.unwrap();
    let judging = Instant::now();
    let config = Config::from_json(&taken.config).unwrap();
    let mut tree = Tree::default();
    for diff_id in &taken.diff_ids {
        tree.lay(&store.index(*diff_id).unwrap()).unwrap();
    }
    let platform = Platform::new(&config.os, &config.architecture, &config.variant).unwrap();
    let written = Written { name: "Dockerfile", text: "", target: None };
    let job = Job { platform: &platform, checks: &Checks::default(), only_files: false, written };
    judge(&config, &tree, &job).unwrap();
    drop(tree);
    let known = judging.elapsed();
    timed.add(known);
    let request = PushRequest {
        image,
        repositories: vec![repository.to_owned()],
        insecure_registries: Vec::new(),
        credentials: Vec::new(),
        annotations: BTreeMap::new(),
        layer_cache,
        layer_cache_bytes: u64::MAX,
    };
    engine.push(request, progress, CancellationToken::new()).await.unwrap();
    let whole = started.elapsed();
    let inspect = Duration::from_nanos(timed.nanos.load(Ordering::Relaxed));
    [inspect, whole - inspect, known]
}

/// The most memory that this process ever had resident.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
