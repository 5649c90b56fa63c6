//! An image leaves the Engine: as OCI, to registries, by digest.
//!
//! Engines before the containerd store push only tags, and only their own media types; what that store has is
//! compressed however its layers came. So the image is taken out as an archive, turned into OCI blobs once, in one
//! way, and pushed from here: what is published does not tell which Engine it was built on. What was turned before
//! is known by its digest and neither compressed nor sent again.

mod archive;
mod blame;
mod blob;
mod cache;
mod layer;
mod lists;
mod manifest;
mod observe;
mod registry;
mod take;
mod tee;
mod told;

pub use observe::{LayerObserver, Observer};

use archyard_model::build::PushedManifest;
use archyard_proto::v1::LogFrame;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{PushError, PushRequest, Pushed, TakeRequest, Taken};
use archive::Into;
use blame::Error;
use cache::Cache;
use registry::{Outcome, Repository};
use take::{Cost, Taking};
use told::Told;

/// How often an image is taken out of the Engine for one push: again when another push's cleaning took a layer
/// between the taking and the sending.
const TAKINGS: u32 = 3;

/// Takes out; see [`super::Engine::take`].
pub(super) async fn take(
    engine: &bollard::Docker,
    request: TakeRequest,
    progress: mpsc::Sender<LogFrame>,
    cancel: CancellationToken,
) -> Result<Taken, PushError> {
    let told = Told::begin(progress, "take", "taking the image out of the Engine".to_owned()).await;
    let taking = async {
        let cache = Cache::open(&request.layer_cache)?;
        let into = Into { cache, compress: request.compress, observer: request.observer };
        let taken = Taking { engine, image: request.image, into, told: &told }.taken().await;
        if !request.compress {
            Cache::open(&request.layer_cache)?.shrink(request.layer_cache_bytes)?;
        }
        taken
    };
    finish(&told, taking, &cancel).await
}

/// Pushes; see [`super::Engine::push`].
pub(super) async fn push(
    engine: &bollard::Docker,
    request: PushRequest,
    progress: mpsc::Sender<LogFrame>,
    cancel: CancellationToken,
) -> Result<Pushed, PushError> {
    let name = format!("pushing to {}", request.repositories.join(", "));
    let told = Told::begin(progress, "push", name).await;
    // On the heap: what all that speaks to registries has to remember is large.
    finish(&told, Box::pin(push_all(engine, &request, &told)), &cancel).await
}

/// Does the work unless it is canceled, and tells its end.
async fn finish<T>(
    told: &Told,
    work: impl Future<Output = Result<T, Error>>,
    cancel: &CancellationToken,
) -> Result<T, PushError> {
    let done = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(PushError::Canceled),
        done = work => done.map_err(|error| error.blame()),
    };
    told.end(done.as_ref().err().map(ToString::to_string).unwrap_or_default()).await;
    done
}

async fn push_all(engine: &bollard::Docker, request: &PushRequest, told: &Told) -> Result<Pushed, Error> {
    let cache = Cache::open(&request.layer_cache)?;
    let into = Into { cache: cache.clone(), compress: true, observer: None };
    let taking = Taking { engine, image: request.image, into, told };
    let mut waiting: Vec<Repository> = Vec::new();
    for name in &request.repositories {
        waiting.push(Repository::connect(name, request).await?);
    }
    let (mut sent_bytes, mut compressed_layers) = (0, 0);
    for nth in 0..TAKINGS {
        let taken = if nth == 0 { taking.image().await } else { taking.image_anew().await };
        let (image, Cost { compressed_layers: more, .. }) = taken?;
        compressed_layers += more;
        let manifest = manifest::Manifest::of(&image, &request.annotations)?;
        let mut unfinished = Vec::new();
        for repository in waiting {
            match repository.push(&image, &manifest, &cache, told).await? {
                Outcome::Complete { sent_bytes: more } => sent_bytes += more,
                Outcome::LayerGone { sent_bytes: more } => {
                    sent_bytes += more;
                    unfinished.push(repository);
                }
            }
        }
        if unfinished.is_empty() {
            cache.shrink(request.layer_cache_bytes)?;
            let (digest, size) = (manifest.digest, manifest.bytes.len() as u64);
            let manifest = PushedManifest { digest, size, media_type: manifest::MEDIA_TYPE.to_owned() };
            return Ok(Pushed { manifest, config: image.config_digest, sent_bytes, compressed_layers });
        }
        waiting = unfinished;
    }
    Err(Error::Cache(std::io::Error::other(
        "layers vanish while they are being sent; is layer_cache_bytes too small?",
    )))
}
