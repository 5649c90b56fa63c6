//! What becomes of a finished build whose result goes to its client: the image's blobs, exactly those that a push would
//! publish, or the root file system.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use archyard_model::{Artifact, Failure, ImageResult, Output, Sha256, limits};
use archyard_proto::v1::LogFrame;
use archyard_proto::v1::log_frame::{Frame, Status, Vertex};
use bytes::Bytes;
use sha2::Digest as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::log::Log;
use super::order::Order;
use crate::engine::{
    BuildError, BuildRequest, Built, DockerEngine, Engine as _, Form, PushError, Source, TakeRequest, Taken,
};
use crate::handover::{Blob, Content, Handover, HandoverError};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const TAR: &str = "application/x-tar";
/// What BuildKit sends ahead of the disk.
const AHEAD: usize = 4;
/// How often an image is taken out of the Engine: again when another attempt's cleaning took a layer meanwhile.
const TAKINGS: u32 = 3;
/// The step of the log that this is.
const STEP: &str = "handover";

/// Leaves the image: config, layers from the lowest, manifest.
pub(super) async fn image(
    order: &Order,
    engine: &DockerEngine,
    built: &Built,
    log: &Log,
    cancel: &CancellationToken,
) -> Result<ImageResult, Failure> {
    log.phase("hand over", "the image, to the scheduler".to_owned()).await;
    for _ in 0..TAKINGS {
        let request = TakeRequest {
            image: built.image,
            layer_cache: order.layout.layers(),
            layer_cache_bytes: order.layer_cache_bytes,
            compress: true,
            observer: None,
        };
        let taken =
            engine.take(request, log.sender(), cancel.clone()).await.map_err(PushError::into_failure)?;
        let (manifest, bytes) = taken.manifest(&order.spec.annotations).map_err(PushError::into_failure)?;
        let Some(mut blobs) = image_blobs(&taken).map_err(HandoverError::into_failure)? else { continue };
        blobs.push(Blob {
            media_type: manifest.media_type.clone(),
            digest: manifest.digest,
            size: manifest.size,
            content: Content::Memory(bytes.into()),
        });
        let artifacts = leave(order, blobs, log, cancel).await?;
        return Ok(ImageResult {
            manifest: Some(manifest),
            config_digest: Some(taken.config_digest),
            artifacts,
            ..ImageResult::default()
        });
    }
    let folder = order.layout.layers();
    let error =
        std::io::Error::other("layers vanish while they are being sent; is --layer-cache-size too small?");
    Err(HandoverError::Disk { path: folder, error }.into_failure())
}

/// Leaves the root file system, as the Engine sends it. The build is in its cache.
pub(super) async fn files(
    order: &Order,
    engine: &DockerEngine,
    request: BuildRequest,
    source: Arc<dyn Source>,
    built: &Built,
    log: &Log,
    cancel: &CancellationToken,
) -> Result<ImageResult, Failure> {
    log.phase("hand over", "the files, to the scheduler".to_owned()).await;
    let folder = order.layout.layers();
    // Without a name: however this process ends, nothing of it stays.
    let file = tempfile::tempfile_in(&folder);
    let file = file.map_err(|error| HandoverError::writing(folder.clone(), error).into_failure())?;
    let request = BuildRequest {
        build_ref: format!("{}-files", request.build_ref),
        no_cache: false,
        pull: false,
        ..request
    };
    let (sink, pieces) = mpsc::channel(AHEAD);
    let form = if order.spec.output == Output::Tar { Form::Tar } else { Form::Exact };
    let writing = tokio::task::spawn_blocking(move || write(file, pieces));
    let sent = engine.files(request, source, form, sink, log.sender(), cancel.clone()).await;
    let written = writing.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    // A disk that is full is why the Engine could send no more.
    let (file, digest, size) =
        written.map_err(|error| HandoverError::writing(folder.clone(), error).into_failure())?;
    sent.map_err(BuildError::into_failure)?;
    let content = Content::File(Arc::new(file), folder);
    let blob = Blob { media_type: TAR.to_owned(), digest, size, content };
    let artifacts = leave(order, vec![blob], log, cancel).await?;
    let config_digest = Some(built.config.unwrap_or(built.image));
    Ok(ImageResult { config_digest, artifacts, ..ImageResult::default() })
}

/// All but the manifest. None where a layer's file is gone already.
fn image_blobs(taken: &Taken) -> Result<Option<Vec<Blob>>, HandoverError> {
    let mut blobs = vec![Blob {
        media_type: CONFIG.to_owned(),
        digest: taken.config_digest,
        size: taken.config.len() as u64,
        content: Content::Memory(Bytes::copy_from_slice(&taken.config)),
    }];
    for layer in &taken.layers {
        let file = match File::open(&layer.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(HandoverError::Disk { path: layer.path.clone(), error }),
        };
        blobs.push(Blob {
            media_type: LAYER.to_owned(),
            digest: layer.digest,
            size: layer.size_bytes,
            content: Content::File(Arc::new(file), layer.path.clone()),
        });
    }
    Ok(Some(blobs))
}

async fn leave(
    order: &Order,
    blobs: Vec<Blob>,
    log: &Log,
    cancel: &CancellationToken,
) -> Result<Vec<Artifact>, Failure> {
    let told = Told { log: log.sender(), started: SystemTime::now() };
    told.step(None, String::new()).await;
    let handover = Handover::new(order.scheduler.clone(), order.attempt, cancel.clone());
    let left = handover.leave(blobs, |sent, total| told.transfer(sent, total)).await;
    let error = left.as_ref().err().map(ToString::to_string).unwrap_or_default();
    told.step(Some(SystemTime::now()), error).await;
    left.map_err(HandoverError::into_failure)
}

/// Writes what arrives, and knows its digest and length.
fn write(mut file: File, mut pieces: mpsc::Receiver<Bytes>) -> std::io::Result<(File, Sha256, u64)> {
    let (mut hasher, mut size) = (sha2::Sha256::new(), 0_u64);
    while let Some(piece) = pieces.blocking_recv() {
        size += piece.len() as u64;
        if size > limits::ARTIFACT_BYTES {
            let text = format!("the root file system has more than {} bytes", limits::ARTIFACT_BYTES);
            return Err(std::io::Error::other(text));
        }
        hasher.update(&piece);
        file.write_all(&piece)?;
    }
    Ok((file, Sha256::from_bytes(hasher.finalize().into()), size))
}

/// The handover as a step of the log: BuildKit knows nothing of it.
struct Told {
    log: mpsc::Sender<LogFrame>,
    started: SystemTime,
}

impl Told {
    async fn step(&self, completed: Option<SystemTime>, error: String) {
        let vertex = Vertex {
            digest: STEP.to_owned(),
            name: "leaving the result with the scheduler".to_owned(),
            cached: false,
            started_at: Some(self.started.into()),
            completed_at: completed.map(Into::into),
            error,
        };
        let frame = LogFrame { at: Some(SystemTime::now().into()), frame: Some(Frame::Vertex(vertex)) };
        // Nobody listens any more: the work goes on without.
        self.log.send(frame).await.ok();
    }

    /// How far it is. A log that lags behind misses one, but not the last.
    fn transfer(&self, sent: u64, total: u64) {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let status = Status {
            vertex: STEP.to_owned(),
            name: "sending".to_owned(),
            current_bytes: signed(sent),
            total_bytes: signed(total),
            completed: sent == total,
        };
        let frame = LogFrame { at: Some(SystemTime::now().into()), frame: Some(Frame::Status(status)) };
        self.log.try_send(frame).ok();
    }
}
