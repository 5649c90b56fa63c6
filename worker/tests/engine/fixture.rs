//! Where the tests' Engine is, and contexts to build there.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use archyard_model::{Blake3, ContextEntry, ContextManifest, EntryKind, Failure, Inputs};
use archyard_proto::v1::LogFrame;
use archyard_proto::v1::log_frame::{Frame, Vertex};
use archyard_worker::engine::{BuildError, BuildRequest, Built, DockerEngine, Engine as _, Source, marks};
use archyard_worker::sent::Sent;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What `cargo xtask test` brought up, as far as these tests need it.
#[derive(Deserialize)]
pub(crate) struct Coordinates {
    engines: Vec<EngineAt>,
    more_engines: Vec<EngineAt>,
    pub(crate) registry: String,
    pub(crate) base: Base,
    busybox: Vec<Program>,
}

/// A static program; the first is this machine's own.
#[derive(Deserialize)]
struct Program {
    path: PathBuf,
}

#[derive(Deserialize)]
pub(crate) struct Base {
    pub(crate) reference: String,
}

/// Which Engine. What is written here is promised of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Kind {
    /// 20.10, overlay2.
    #[serde(rename = "host")]
    Debian12,
    /// 26.1, overlay2.
    #[serde(rename = "26")]
    Debian13,
    /// 26.1, containerd's image store.
    #[serde(rename = "26c")]
    Debian13Containerd,
    /// Debian sid's, overlay2.
    #[serde(rename = "28")]
    Sid,
    /// Debian sid's, containerd's image store.
    #[serde(rename = "28c")]
    SidContainerd,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Debian12, Self::Debian13, Self::Debian13Containerd, Self::Sid, Self::SidContainerd];

    pub(crate) fn stores_in_containerd(self) -> bool {
        matches!(self, Self::Debian13Containerd | Self::SidContainerd)
    }
}

/// Makes each of these a test on every kind of Engine.
macro_rules! on_every_engine {
    ($($test:ident),+ $(,)?) => {
        $(mod $test {
            use crate::fixture::Kind;

            #[tokio::test(flavor = "multi_thread")]
            async fn on_20_10() {
                super::$test(Kind::Debian12).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn on_26_1() {
                super::$test(Kind::Debian13).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn on_26_1_with_containerd_store() {
                super::$test(Kind::Debian13Containerd).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn on_28() {
                super::$test(Kind::Sid).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn on_28_with_containerd_store() {
                super::$test(Kind::SidContainerd).await;
            }
        })+
    };
}

#[derive(Deserialize)]
pub(crate) struct EngineAt {
    kind: Kind,
    pub(crate) socket: PathBuf,
    pub(crate) address: String,
}

pub(crate) fn coordinates() -> Coordinates {
    let path = std::env::var_os("ARCHYARD_TEST_ENV")
        .expect("ARCHYARD_TEST_ENV is not set: these tests need a Docker Engine; run `cargo xtask test`");
    let text = fs::read_to_string(&path).expect("the file that ARCHYARD_TEST_ENV names can be read");
    serde_json::from_str(&text).expect("the file that ARCHYARD_TEST_ENV names holds coordinates")
}

/// Where the Engine of this kind is.
pub(crate) fn at(kind: Kind) -> EngineAt {
    let Coordinates { engines, more_engines, .. } = coordinates();
    let mut engines = engines.into_iter().chain(more_engines);
    engines.find(|engine| engine.kind == kind).unwrap_or_else(|| {
        panic!("no Engine of the kind {kind:?}; without --engine, cargo xtask env up starts all of them")
    })
}

pub(crate) fn engine(kind: Kind) -> DockerEngine {
    DockerEngine::connect(&at(kind).address).unwrap()
}

/// A name that no other test, and no earlier run, uses.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{name}-{}-{now}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A client of the Engine's HTTP API, to look at what a build left.
pub(crate) fn api(kind: Kind) -> bollard::Docker {
    let socket = at(kind).socket;
    bollard::Docker::connect_with_unix(&socket.to_string_lossy(), 60, bollard::API_DEFAULT_VERSION).unwrap()
}

/// A context whose files lie in a folder by digest.
pub(crate) struct Tree {
    manifest: ContextManifest,
    asked: Mutex<Vec<Vec<String>>>,
    blobs: TempDir,
}

pub(crate) struct TreeBuilder {
    entries: Vec<ContextEntry>,
    blobs: TempDir,
}

impl Tree {
    pub(crate) fn builder() -> TreeBuilder {
        TreeBuilder { entries: Vec::new(), blobs: tempfile::tempdir().unwrap() }
    }

    /// The name under which the Engine may keep it, as a worker finds it: what this process sends is remembered.
    async fn name(&self, base: &str) -> String {
        static SENT: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
        let manifest = Blake3::of(&self.manifest.encode());
        let marks = async || Ok::<_, ()>(marks(self.manifest.entries()));
        Sent::at(SENT.path()).name(base, &manifest, marks).await.unwrap()
    }

    /// What BuildKit asked for, but for the ignore file that it asks for first.
    pub(crate) fn questions(&self) -> Vec<Vec<String>> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|paths| *paths != &[".dockerignore"]).cloned().collect()
    }

    /// Makes a file unreadable: what is announced is then not there.
    pub(crate) fn lose(&self, content: &[u8]) {
        fs::remove_file(self.blobs.path().join(Blake3::of(content).hex())).unwrap();
    }
}

impl TreeBuilder {
    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        self.file_with_mode(path, content, 0o644)
    }

    pub(crate) fn file_with_mode(self, path: &str, content: &[u8], mode: u32) -> Self {
        let digest = Blake3::of(content);
        fs::write(self.blobs.path().join(digest.hex()), content).unwrap();
        self.entry(path, mode, EntryKind::File { size: content.len() as u64, digest })
    }

    pub(crate) fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(path, mode, EntryKind::Directory)
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, 0o777, EntryKind::Symlink { target: target.into() })
    }

    pub(crate) fn hardlink(self, path: &str, target: &str) -> Self {
        let mode = self.entries.iter().find(|entry| entry.path == target.as_bytes()).unwrap().mode;
        self.entry(path, mode, EntryKind::Hardlink { target: target.into() })
    }

    pub(crate) fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        self.entries.last_mut().unwrap().xattrs.push((name.to_owned(), value.to_vec()));
        self
    }

    /// The shell that every Dockerfile here copies in.
    pub(crate) fn busybox(self) -> Self {
        let busybox = coordinates().busybox.into_iter().next().expect("the environment has a busybox");
        let busybox = fs::read(&busybox.path).expect("the busybox of the environment can be read");
        self.file_with_mode("busybox", &busybox, 0o755)
    }

    pub(crate) fn entry(mut self, path: &str, mode: u32, kind: EntryKind) -> Self {
        let path = path.as_bytes().to_vec();
        let (modified_s, modified_ns) = (1_700_000_000, 0);
        self.entries.push(ContextEntry { path, mode, modified_s, modified_ns, xattrs: Vec::new(), kind });
        self
    }

    /// The time of the entry before.
    pub(crate) fn modified(mut self, seconds: i64, nanoseconds: u32) -> Self {
        let entry = self.entries.last_mut().unwrap();
        (entry.modified_s, entry.modified_ns) = (seconds, nanoseconds);
        self
    }

    pub(crate) fn done(self) -> Arc<Tree> {
        self.part(Inputs::Everything)
    }

    /// What is here passes for this part of a source.
    pub(crate) fn part(self, inputs: Inputs) -> Arc<Tree> {
        let manifest = ContextManifest::of_inputs(self.entries, inputs).unwrap();
        Arc::new(Tree { manifest, asked: Mutex::default(), blobs: self.blobs })
    }
}

impl Source for Tree {
    fn known(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn entries(&self) -> &[ContextEntry] {
        self.manifest.entries()
    }

    fn inputs(&self) -> &Inputs {
        self.manifest.inputs()
    }

    fn asked(&self, paths: &[String]) {
        self.asked.lock().unwrap().push(paths.to_vec());
    }

    fn open(&self, digest: &Blake3) -> io::Result<File> {
        File::open(self.blobs.path().join(digest.hex()))
    }
}

/// `FROM scratch` with a shell, then `rest`.
pub(crate) fn dockerfile(rest: &str) -> String {
    format!(
        "FROM scratch\nCOPY busybox /bin/busybox\nSHELL [\"/bin/busybox\", \"sh\", \"-c\"]\nENV PATH=/bin\n{rest}"
    )
}

pub(crate) fn request(dockerfile: &str) -> BuildRequest {
    BuildRequest {
        build_ref: unique("build"),
        platform: "linux/amd64".parse().unwrap(),
        cross: false,
        dockerfile: dockerfile.to_owned().into(),
        pins: Vec::new(),
        written: dockerfile.to_owned().into(),
        dockerfile_name: "Dockerfile".to_owned(),
        target: None,
        build_args: Default::default(),
        labels: Default::default(),
        no_cache: false,
        pull: false,
        whole_context: false,
        cache_namespace: "tests".to_owned(),
        shared_key: unique("key"),
        credentials: Vec::new(),
    }
}

/// A build that has ended, and all it told.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) result: Result<Built, BuildError>,
    pub(crate) frames: Vec<LogFrame>,
}

pub(crate) async fn build(engine: &DockerEngine, request: BuildRequest, source: Arc<Tree>) -> Ended {
    build_until(engine, request, source, CancellationToken::new()).await
}

pub(crate) async fn build_until(
    engine: &DockerEngine,
    request: BuildRequest,
    source: Arc<Tree>,
    cancel: CancellationToken,
) -> Ended {
    let request = BuildRequest { shared_key: source.name(&request.shared_key).await, ..request };
    let (progress, mut told) = mpsc::channel(64);
    let collect = async {
        let mut frames = Vec::new();
        while let Some(frame) = told.recv().await {
            frames.push(frame);
        }
        frames
    };
    let (result, frames) = tokio::join!(engine.build(request, source, progress, cancel), collect);
    Ended { result, frames }
}

impl Ended {
    /// What the steps wrote to this stream, or to both where it is 0.
    pub(crate) fn output(&self, stream: u32) -> String {
        let parts = self.frames.iter().filter_map(|frame| match &frame.frame {
            Some(Frame::Output(output)) if stream == 0 || output.stream == stream => {
                Some(output.data.to_vec())
            }
            _ => None,
        });
        String::from_utf8_lossy(&parts.collect::<Vec<_>>().concat()).into_owned()
    }

    pub(crate) fn vertices(&self) -> impl Iterator<Item = &Vertex> {
        self.frames.iter().filter_map(|frame| match &frame.frame {
            Some(Frame::Vertex(vertex)) => Some(vertex),
            _ => None,
        })
    }

    pub(crate) fn succeeded(&self) -> &Built {
        self.result.as_ref().unwrap_or_else(|error| panic!("{error}\n{}", self.output(0)))
    }

    pub(crate) fn failure(&self) -> Failure {
        self.result.clone().unwrap_err().into_failure()
    }
}
