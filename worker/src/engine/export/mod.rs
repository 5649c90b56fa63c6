//! An image leaves the Engine: as OCI, to registries, by digest.
//!
//! Engines before the containerd store push only tags, and only their own media types. So the image is taken
//! out as an archive, turned into OCI blobs once, and pushed from here. What was turned before is known by its
//! digest and neither compressed nor sent again.

mod archive;
mod blame;
mod cache;
mod layer;
mod manifest;
mod registry;
mod stall;

use std::time::SystemTime;

use archyard_model::build::PushedManifest;
use archyard_model::{Sha256, limits};
use archyard_proto::v1::LogFrame;
use archyard_proto::v1::log_frame::{Frame, Status, Vertex};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{PushError, PushRequest, Pushed};
use blame::Error;
use cache::{Cache, Image};
use registry::{Outcome, Repository};

/// How often an image is taken out of the Engine for one push: again when another push's cleaning took a layer
/// between the taking and the sending.
const TAKINGS: u32 = 3;

/// Pushes; see [`super::Engine::push`].
pub(super) async fn push(
    engine: &bollard::Docker,
    request: PushRequest,
    progress: mpsc::Sender<LogFrame>,
    cancel: CancellationToken,
) -> Result<Pushed, PushError> {
    let told =
        Told { sender: progress, started: SystemTime::now(), repositories: request.repositories.join(", ") };
    told.step(None, "").await;
    let pushing = push_all(engine, &request, &told);
    let pushed = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(PushError::Canceled),
        pushed = pushing => pushed.map_err(|error| error.blame()),
    };
    let error = pushed.as_ref().err().map(ToString::to_string).unwrap_or_default();
    told.step(Some(SystemTime::now()), &error).await;
    pushed
}

async fn push_all(engine: &bollard::Docker, request: &PushRequest, told: &Told) -> Result<Pushed, Error> {
    let cache = Cache::open(&request.layer_cache)?;
    let mut pushed = Pushed {
        manifest: PushedManifest {
            digest: request.image,
            size: 0,
            media_type: manifest::MEDIA_TYPE.to_owned(),
        },
        config: request.image,
        sent_bytes: 0,
        compressed_layers: 0,
    };
    let mut known = cache.image(request.image)?;
    let mut waiting: Vec<Repository> = Vec::new();
    for name in &request.repositories {
        waiting.push(Repository::connect(name, request).await?);
    }
    for _ in 0..TAKINGS {
        let image = match known.take() {
            Some(image) => image,
            None => take(engine, request.image, &cache, told, &mut pushed).await?,
        };
        let manifest = manifest::Manifest::of(&image)?;
        (pushed.manifest.digest, pushed.manifest.size) = (manifest.digest, manifest.bytes.len() as u64);
        let mut unfinished = Vec::new();
        for repository in waiting {
            match repository.push(&image, &manifest, &cache, told).await? {
                Outcome::Complete { sent_bytes } => pushed.sent_bytes += sent_bytes,
                Outcome::LayerGone { sent_bytes } => {
                    pushed.sent_bytes += sent_bytes;
                    unfinished.push(repository);
                }
            }
        }
        if unfinished.is_empty() {
            cache.shrink(request.layer_cache_bytes)?;
            return Ok(pushed);
        }
        waiting = unfinished;
    }
    Err(Error::Cache(std::io::Error::other(
        "layers vanish while they are being sent; is layer_cache_bytes too small?",
    )))
}

/// Takes an image out of the Engine, into the cache.
async fn take(
    engine: &bollard::Docker,
    image: Sha256,
    cache: &Cache,
    told: &Told,
    pushed: &mut Pushed,
) -> Result<Image, Error> {
    told.transfer("exporting the image", 0, 0, false).await;
    let taken = archive::take(engine, image, cache).await?;
    pushed.compressed_layers += taken.compressed_layers;
    told.transfer("exporting the image", taken.read_bytes, taken.read_bytes, true).await;
    cache.image(image)?.ok_or(Error::Archive("it lacks the image's config or a layer".to_owned()))
}

/// The step of the log that a push is: BuildKit knows nothing of it.
const STEP: &str = "push";

/// Where progress is told.
struct Told {
    sender: mpsc::Sender<LogFrame>,
    started: SystemTime,
    repositories: String,
}

impl Told {
    /// The push as a step of the log: begun, or over.
    async fn step(&self, completed: Option<SystemTime>, error: &str) {
        let vertex = Vertex {
            digest: STEP.to_owned(),
            name: format!("pushing to {}", self.repositories),
            cached: false,
            started_at: Some(self.started.into()),
            completed_at: completed.map(Into::into),
            error: error.to_owned(),
        };
        self.send(Frame::Vertex(vertex)).await;
    }

    /// How far a transfer is; `total` 0 where that is not known.
    async fn transfer(&self, name: &str, current: u64, total: u64, completed: bool) {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let status = Status {
            vertex: STEP.to_owned(),
            name: name.chars().take(limits::ERROR_VALUE_BYTES).collect(),
            current_bytes: signed(current),
            total_bytes: signed(total),
            completed,
        };
        self.send(Frame::Status(status)).await;
    }

    async fn send(&self, frame: Frame) {
        let frame = LogFrame { at: Some(SystemTime::now().into()), frame: Some(frame) };
        // Nobody listens any more: the push goes on without.
        self.sender.send(frame).await.ok();
    }
}
