//! Inspection: the image that was just built has to be what its job asked for, before anybody gets it.
//!
//! The judgement is [`crate::inspect`]'s; here is how it comes to know the image. What passed before is let pass. Else
//! an image that was seen before is known whole, and the Engine is not even asked. Of another one the Engine tells the
//! layers, and when all of them are known that is enough. Where nobody is to get the others, they are read in the
//! Engine's own folders, if that can be done. Only else the image is taken out, and then in the one pass that
//! compresses it for a registry, where it is to go to one.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use archyard_model::{Failure, FailureClass, Inspection, Output, Sha256};
use archyard_proto::v1::LogFrame;
use archyard_proto::v1::log_frame::{Frame, Warning};
use bytes::Bytes;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::log::Log;
use super::order::Order;
use super::passed::{self, Passed};
use crate::engine::{Described, Engine, LayerObserver, Observer, PushError, TakeRequest};
use crate::inspect::{Config, Index, Job, MergeError, Store, Tree, Verdict, Written, judge};

/// An image that passed.
#[derive(Debug, Default)]
pub(super) struct Inspected {
    pub(super) inspection: Inspection,
    /// Of the image.
    pub(super) labels: BTreeMap<String, String>,
}

/// Inspects the image that the Engine calls `image`, built from this Dockerfile.
pub(super) async fn run(
    order: &Order,
    engine: &impl Engine,
    image: Sha256,
    written: &Bytes,
    log: &Log,
    cancel: &CancellationToken,
) -> Result<Inspected, Failure> {
    let store = Store::open(order.layout.inspected()).map_err(|error| disk(&error))?;
    log.phase("inspect", order.spec.platform.to_string()).await;
    let question = passed::question(&order.spec, image);
    let passed = match Passed::known(&store, question) {
        Some(passed) => passed,
        None => {
            let inspecting = Inspecting { order, engine, image, written, store: store.clone(), log, cancel };
            let (config, Verdict { inspection, warnings }) = inspecting.verdict().await?;
            let passed = Passed { inspection, warnings, labels: config.labels };
            passed.keep(&store, question).map_err(|error| disk(&error))?;
            passed
        }
    };
    for warning in passed.warnings {
        let line = warning.line.unwrap_or_default();
        let frame = Warning { message: warning.message, line, ..Warning::default() };
        let frame = LogFrame { at: Some(SystemTime::now().into()), frame: Some(Frame::Warning(frame)) };
        // Nobody writes the log any more: the attempt is over anyway.
        log.sender().send(frame).await.ok();
    }
    Ok(Inspected { inspection: passed.inspection, labels: passed.labels })
}

struct Inspecting<'a, E> {
    order: &'a Order,
    engine: &'a E,
    image: Sha256,
    written: &'a Bytes,
    store: Store,
    log: &'a Log,
    cancel: &'a CancellationToken,
}

/// What came of judging an image by what is kept.
enum Judged {
    /// There it is.
    Done(Box<Config>, Result<Verdict, Failure>),
    /// Something that was to be kept is not.
    Unknown,
}

impl<E: Engine> Inspecting<'_, E> {
    async fn verdict(&self) -> Result<(Config, Verdict), Failure> {
        if let Some(config) = self.store.config(self.image).and_then(|json| Config::from_json(&json).ok()) {
            if let Judged::Done(config, verdict) = self.judge(config).await? {
                return Ok((*config, verdict?));
            }
        } else {
            let described = self.engine.describe(self.image).await;
            let described = described.map_err(|error| infrastructure("engine_failed", error.to_string()))?;
            // A layer that is to be compressed is read in the same pass.
            if !self.compress() {
                self.read_folders(&described).await?;
            }
            // Which steps made the layers is not told here, so who is to be told of a line has to wait.
            if let Judged::Done(config, Ok(verdict)) = self.judge(described.config).await?
                && verdict.warnings.is_empty()
            {
                return Ok((*config, verdict));
            }
        }
        let config = self.take().await?;
        match self.judge(config).await? {
            Judged::Done(config, verdict) => Ok((*config, verdict?)),
            Judged::Unknown => Err(infrastructure(
                "inspect_failed",
                "what is kept of the image's layers vanishes while it is read; is the worker's disk full?"
                    .to_owned(),
            )),
        }
    }

    /// Whether somebody is to get the image's layers.
    fn compress(&self) -> bool {
        match self.order.spec.output {
            Output::Push | Output::Candidate | Output::Oci | Output::Load => true,
            Output::Check | Output::Local | Output::Tar => false,
        }
    }

    /// Reads layers that are not known where the Engine keeps them, as far as that can be done: it takes a small part
    /// of the time in which the Engine would pack the whole image.
    async fn read_folders(&self, described: &Described) -> Result<(), Failure> {
        let layers = described.config.diff_ids.iter().copied().zip(described.folders.iter().cloned());
        let layers: Vec<(Sha256, PathBuf)> = layers.collect();
        let store = self.store.clone();
        let reading = spawn_blocking(move || {
            let mut sees = None;
            for (diff_id, folder) in layers {
                if store.index(diff_id).is_some() {
                    continue;
                }
                if !*sees.get_or_insert_with(|| store.sees_overlays()) {
                    return Ok(());
                }
                match Index::read_folder(&folder) {
                    Ok(index) => store.keep_index(diff_id, &index)?,
                    Err(error) => {
                        tracing::info!(folder = %folder.display(), %error, "the image is taken out whole");
                        return Ok(());
                    }
                }
            }
            Ok(())
        });
        let read = reading.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        read.map_err(|error| disk(&error))
    }

    /// Takes the image out of the Engine, so that all of it is known; gives its config.
    async fn take(&self) -> Result<Config, Failure> {
        let observer = Arc::new(Reading { store: self.store.clone(), failed: Arc::default() });
        let request = TakeRequest {
            image: self.image,
            layer_cache: self.order.layout.layers(),
            layer_cache_bytes: self.order.layer_cache_bytes,
            compress: self.compress(),
            observer: Some(observer.clone()),
        };
        let taken = self.engine.take(request, self.log.sender(), self.cancel.clone()).await;
        if let Some(error) = observer.failed.lock().ok().and_then(|mut failed| failed.take()) {
            return Err(disk(&error));
        }
        let taken = taken.map_err(PushError::into_failure)?;
        tracing::info!(read_bytes = taken.read_bytes, "taken out to be inspected");
        let config = Config::from_json(&taken.config)
            .map_err(|error| Failure::new(FailureClass::User, "image_malformed", error.to_string()))?;
        let kept = self.store.keep_config(self.image, &taken.config);
        kept.and_then(|()| self.store.shrink()).map_err(|error| disk(&error))?;
        Ok(Config { diff_ids: taken.diff_ids, ..config })
    }

    /// Judges by what is kept of the layers.
    async fn judge(&self, config: Config) -> Result<Judged, Failure> {
        let (store, spec) = (self.store.clone(), self.order.spec.clone());
        let written = self.written.clone();
        let judging = spawn_blocking(move || {
            let mut tree = Tree::default();
            for diff_id in &config.diff_ids {
                let Some(index) = store.index(*diff_id) else { return Judged::Unknown };
                match tree.lay(&index) {
                    Ok(()) => {}
                    Err(MergeError::Unusable { .. }) => {
                        // Where it cannot be removed, it is overwritten.
                        store.forget_index(*diff_id).ok();
                        return Judged::Unknown;
                    }
                    Err(error) => {
                        let code = match error {
                            MergeError::TooLarge(_) => "image_too_large",
                            _ => "layer_malformed",
                        };
                        let failure = Failure::new(FailureClass::User, code, error.to_string());
                        return Judged::Done(config.into(), Err(failure));
                    }
                }
            }
            let text = String::from_utf8_lossy(&written);
            let written =
                Written { name: &spec.dockerfile_name, text: &text, target: spec.target.as_deref() };
            let only_files = spec.output.is_files();
            let job = Job { platform: &spec.platform, checks: &spec.checks, only_files, written };
            let verdict = judge(&config, &tree, &job);
            Judged::Done(config.into(), verdict)
        });
        judging.await.map_err(|error| infrastructure("inspect_failed", format!("inspecting failed: {error}")))
    }
}

/// Reads layers while they leave the Engine.
#[derive(Clone)]
struct Reading {
    store: Store,
    /// Why one could not be kept.
    failed: Arc<Mutex<Option<io::Error>>>,
}

struct ReadingLayer {
    reading: Reading,
    index: Option<Index>,
}

impl Observer for Reading {
    fn knows(&self, diff_id: Sha256) -> bool {
        self.store.index(diff_id).is_some()
    }

    fn begin(&self) -> Box<dyn LayerObserver> {
        Box::new(ReadingLayer { reading: self.clone(), index: None })
    }
}

impl LayerObserver for ReadingLayer {
    fn read(&mut self, tar: &mut dyn io::Read) {
        // A reader that fails fails the taking, too.
        self.index = Index::read(tar).ok();
    }

    fn end(self: Box<Self>, diff_id: Sha256) {
        let Some(index) = self.index else { return };
        if let Err(error) = self.reading.store.keep_index(diff_id, &index)
            && let Ok(mut failed) = self.reading.failed.lock()
        {
            *failed = Some(error);
        }
    }
}

fn disk(error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "disk_full",
        _ => "disk_failed",
    };
    infrastructure(code, format!("what is known of images cannot be kept on the worker's disk: {error}"))
}

fn infrastructure(code: &str, message: String) -> Failure {
    Failure::new(FailureClass::Infrastructure, code, message)
}
