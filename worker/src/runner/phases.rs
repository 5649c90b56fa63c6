//! What an attempt does, in order: bring the context, build, inspect, smoke-test, hand over.

use std::sync::Arc;

use archyard_model::convert::JobSpec;
use archyard_model::{ContextRef, Failure, FailureClass, ImageResult, Output, limits};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::handover;
use super::inspect;
use super::log::Log;
use super::order::Order;
use super::pins::pinned;
use super::smoke;
use crate::cache::{Cache, CacheError, Context, Downloads};
use crate::engine::{
    BuildError, BuildRequest, Built, Credential, DockerEngine, Engine as _, PushError, PushRequest,
    Source as _, marks,
};
use crate::images::Images;
use crate::sent::Sent;

/// See [`BuildRequest::whole_context`].
const SMALL_FILES: u64 = 256;
const SMALL_BYTES: u64 = 1024 * 1024;

/// Runs the attempt. A failure says who is to blame.
pub(super) async fn run(
    order: &Order,
    credentials: Vec<Credential>,
    log: &Log,
    cancel: &CancellationToken,
) -> Result<ImageResult, Failure> {
    let (dockerfile, context) = bring(order, log, cancel).await.map_err(CacheError::into_failure)?;
    let engine = DockerEngine::connect(&order.engine).map_err(|error| {
        Failure::new(FailureClass::Infrastructure, "engine_unreachable", error.to_string())
    })?;
    let images = Images::open(&order.layout).in_use().await?;
    let context = Arc::new(context);
    let shared_key = shared_key(order, &context).await?;

    log.phase("build", order.engine.clone()).await;
    let request = request(order, dockerfile.clone(), shared_key, credentials.clone());
    // The Engine has enough to do before it asks for the context's files.
    let read = async { context.read().await.map_err(CacheError::into_failure) };
    let build = engine.build(request.clone(), context.clone(), log.sender(), cancel.clone());
    let build = async { build.await.map_err(BuildError::into_failure) };
    let ((), built) = tokio::try_join!(read, build)?;
    images.keep(built.image);
    tracing::info!(image = %built.image, steps = built.steps, cached = built.cached_steps, "built");

    let inspected = inspect::run(order, &engine, built.image, &dockerfile, log, cancel).await?;
    let smoke = smoke::run(order, &engine, built.image, &inspected.labels, log, cancel).await?;
    let image = match order.spec.output {
        Output::Check => {
            let config_digest = Some(built.config.unwrap_or(built.image));
            Ok(ImageResult { config_digest, ..ImageResult::default() })
        }
        Output::Push | Output::Candidate => push(order, &engine, &built, credentials, log, cancel).await,
        Output::Oci | Output::Load => handover::image(order, &engine, &built, log, cancel).await,
        Output::Local | Output::Tar => {
            handover::files(order, &engine, request, context.clone(), &built, log, cancel).await
        }
    };
    // To free many thousand entries takes a while, and nobody is to wait for it.
    drop(tokio::task::spawn_blocking(move || drop(context)));
    Ok(ImageResult { inspection: Some(inspected.inspection), smoke, ..image? })
}

/// The Dockerfile as its user wrote it, and the context.
async fn bring(order: &Order, log: &Log, cancel: &CancellationToken) -> Result<(Bytes, Context), CacheError> {
    let spec = &order.spec;
    let detail = format!("{} files, {} bytes", spec.context.files, spec.context.total_bytes);
    log.phase("context", detail).await;
    let root = order.layout.cache();
    let cache = Cache::open(&root).map_err(|error| CacheError::disk(root, error))?;
    let mut downloads = Downloads::new(order.scheduler.clone(), cancel.clone());
    let dockerfile = cache.small_blob(&spec.dockerfile, limits::DOCKERFILE_BYTES, &mut downloads).await?;
    let context = cache.context(&spec.context, &mut downloads).await?;
    Ok((dockerfile.into(), context))
}

/// Under which name the Engine may keep this context. What it may already have under that name is known then, and on
/// disk.
async fn shared_key(order: &Order, context: &Arc<Context>) -> Result<String, Failure> {
    // Builds of two slots never meet under one key: one of them would send everything again.
    let base = format!("{}/{}/{}", order.worker, namespace(order), order.slot);
    let marks = async || {
        context.read().await.map_err(CacheError::into_failure)?;
        let context = context.clone();
        let marks = tokio::task::spawn_blocking(move || marks(context.entries())).await;
        marks.map_err(|error| {
            Failure::new(FailureClass::Infrastructure, "runner_failed", format!("the runner broke: {error}"))
        })
    };
    Sent::at(order.layout.sent()).name(&base, &order.spec.context.manifest_digest, marks).await
}

fn namespace(order: &Order) -> String {
    format!("{}/{}", order.spec.pool, order.spec.project)
}

fn request(order: &Order, written: Bytes, shared_key: String, credentials: Vec<Credential>) -> BuildRequest {
    let spec = &order.spec;
    let (dockerfile, pins) = pinned(spec, &written, order.source_policy);
    BuildRequest {
        build_ref: order.attempt.file_name(),
        platform: spec.platform.clone(),
        cross: spec.cross,
        dockerfile,
        pins,
        written,
        dockerfile_name: spec.dockerfile_name.clone(),
        target: spec.target.clone(),
        build_args: spec.build_args.clone(),
        labels: spec.labels.clone(),
        no_cache: spec.no_cache,
        pull: spec.pull,
        whole_context: !order.source_policy && is_small(&spec.context) && answers_all(spec),
        shared_key,
        cache_namespace: namespace(order),
        credentials,
    }
}

/// Whether nothing that the build reads can be missing from its context. Where BuildKit is handed all of it there is no
/// question that would tell.
fn answers_all(spec: &JobSpec) -> bool {
    !spec.context.partial || !spec.lock.is_unlocked()
}

/// A context that is read as fast as part of it.
fn is_small(context: &ContextRef) -> bool {
    context.files <= SMALL_FILES && context.total_bytes <= SMALL_BYTES
}

async fn push(
    order: &Order,
    engine: &DockerEngine,
    built: &Built,
    credentials: Vec<Credential>,
    log: &Log,
    cancel: &CancellationToken,
) -> Result<ImageResult, Failure> {
    let spec = &order.spec;
    log.phase("push", spec.repositories.join(", ")).await;
    let request = PushRequest {
        image: built.image,
        repositories: spec.repositories.clone(),
        insecure_registries: spec.insecure_registries.clone(),
        credentials,
        annotations: spec.annotations.clone(),
        layer_cache: order.layout.layers(),
        layer_cache_bytes: order.layer_cache_bytes,
    };
    let pushed = engine.push(request, log.sender(), cancel.clone()).await.map_err(PushError::into_failure)?;
    tracing::info!(
        manifest = %pushed.manifest.digest,
        sent_bytes = pushed.sent_bytes,
        compressed_layers = pushed.compressed_layers,
        "pushed"
    );
    Ok(ImageResult {
        manifest: Some(pushed.manifest),
        config_digest: Some(pushed.config),
        ..ImageResult::default()
    })
}
