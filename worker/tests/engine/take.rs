//! Images come out of the Engine: the same layers whatever it is, each seen once.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

use archyard_model::Sha256;
use archyard_worker::engine::{
    BuildRequest, Built, Engine as _, EngineError, LayerObserver, Observer, PushError, TakeRequest, Taken,
};
use archyard_worker::inspect::Index;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Kind, Tree, build, coordinates, dockerfile, engine, request, unique};

on_every_engine! {
    what_is_taken_is_the_image,
    a_layer_is_seen_once_and_a_known_image_not_even_asked_for,
    an_image_of_another_platform_is_taken_too,
    an_image_that_is_not_there_is_gone,
    an_image_is_described_without_being_taken,
    a_layers_folder_tells_what_its_tar_tells,
}

/// Sees layers whole, and remembers how long they were.
#[derive(Default)]
struct Seeing(Arc<Mutex<Vec<(Sha256, usize)>>>);

struct SeeingOne(Vec<u8>, Arc<Mutex<Vec<(Sha256, usize)>>>);

impl Observer for Seeing {
    fn knows(&self, diff_id: Sha256) -> bool {
        self.0.lock().unwrap().iter().any(|(known, _)| *known == diff_id)
    }

    fn begin(&self) -> Box<dyn LayerObserver> {
        Box::new(SeeingOne(Vec::new(), self.0.clone()))
    }
}

impl LayerObserver for SeeingOne {
    fn read(&mut self, tar: &mut dyn Read) {
        tar.read_to_end(&mut self.0).unwrap();
    }

    fn end(self: Box<Self>, diff_id: Sha256) {
        assert_eq!(Sha256::of(&self.0), diff_id);
        self.1.lock().unwrap().push((diff_id, self.0.len()));
    }
}

async fn built(on: Kind, request: BuildRequest) -> Built {
    build(&engine(on), request, Tree::builder().busybox().done()).await.succeeded().clone()
}

async fn take(on: Kind, request: TakeRequest) -> Result<Taken, PushError> {
    let (progress, mut told) = mpsc::channel(16);
    let drain = async { while told.recv().await.is_some() {} };
    let engine = engine(on);
    tokio::join!(engine.take(request, progress, CancellationToken::new()), drain).0
}

fn of(image: Sha256, cache: &Path) -> TakeRequest {
    let layer_cache = cache.to_owned();
    TakeRequest { image, layer_cache, layer_cache_bytes: 1 << 30, compress: false, observer: None }
}

async fn what_is_taken_is_the_image(on: Kind) {
    let cache = TempDir::new().unwrap();
    // A base from a registry: it lies in the Engine's store as the registry had it.
    let text = format!(
        "FROM {}\nCOPY busybox /copied\nRUN echo {} > /x\n",
        coordinates().base.reference,
        unique("x")
    );
    let built = built(on, request(&text)).await;
    let taken = take(on, TakeRequest { compress: true, ..of(built.image, cache.path()) }).await.unwrap();
    assert_eq!(taken.config_digest, Sha256::of(&taken.config));
    assert!(built.config.is_none_or(|config| config == taken.config_digest), "{built:?}");
    let described = engine(on).describe(built.image).await.unwrap();
    assert_eq!((taken.diff_ids.len(), &described.config.diff_ids), (3, &taken.diff_ids));
    assert_eq!((taken.layers.len(), taken.compressed_layers), (3, 3));
    for (layer, diff_id) in taken.layers.iter().zip(&taken.diff_ids) {
        let bytes = fs::read(&layer.path).unwrap();
        assert_eq!((Sha256::of(&bytes), bytes.len() as u64), (layer.digest, layer.size_bytes));
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut tar).unwrap();
        assert_eq!((Sha256::of(&tar), layer.diff_id), (*diff_id, *diff_id));
    }
    // The same content has the same digest on every other Engine.
    for other in Kind::ALL {
        let cache = TempDir::new().unwrap();
        let built = self::built(other, request(&text)).await;
        let there =
            take(other, TakeRequest { compress: true, ..of(built.image, cache.path()) }).await.unwrap();
        assert_eq!(
            (&there.layers[0].digest, there.layers[0].size_bytes),
            (&taken.layers[0].digest, taken.layers[0].size_bytes)
        );
    }
}

async fn a_layer_is_seen_once_and_a_known_image_not_even_asked_for(on: Kind) {
    let (cache, salt) = (TempDir::new().unwrap(), unique("x"));
    let seeing = Arc::new(Seeing::default());
    let watched = |image| TakeRequest { observer: Some(seeing.clone()), ..of(image, cache.path()) };
    let first = built(on, request(&dockerfile(&format!("RUN echo {salt} > /x\n")))).await.image;
    let taken = take(on, watched(first)).await.unwrap();
    assert_eq!((taken.compressed_layers, taken.layers.len()), (0, 0));
    let seen = seeing.0.lock().unwrap().clone();
    assert_eq!(seen.len(), taken.diff_ids.len());
    assert!(seen.iter().all(|(diff_id, bytes)| taken.diff_ids.contains(diff_id) && *bytes > 0), "{seen:?}");

    engine(on).remove_image(first).await.unwrap();
    assert_eq!(take(on, watched(first)).await.unwrap(), Taken { read_bytes: 0, ..taken.clone() });

    // One more layer, and it is the only one that is new to the eye.
    let second =
        built(on, request(&dockerfile(&format!("RUN echo {salt} > /x\nRUN echo more > /y\n")))).await.image;
    let more = take(on, watched(second)).await.unwrap();
    assert_eq!(more.diff_ids[..2], taken.diff_ids);
    assert!(seeing.knows(more.diff_ids[2]));

    // What was only seen is compressed once somebody wants it so.
    let sent = take(on, TakeRequest { compress: true, ..watched(second) }).await.unwrap();
    assert_eq!((sent.compressed_layers, sent.layers.len()), (3, 3));
    let again = take(on, TakeRequest { compress: true, ..watched(second) }).await.unwrap();
    assert_eq!(again, Taken { read_bytes: 0, compressed_layers: 0, ..sent });
}

async fn an_image_of_another_platform_is_taken_too(on: Kind) {
    let cache = TempDir::new().unwrap();
    let mut request = request("FROM scratch\nCOPY busybox /\n");
    request.platform = "linux/arm64".parse().unwrap();
    let image = built(on, request).await.image;
    let taken = take(on, TakeRequest { compress: true, ..of(image, cache.path()) }).await.unwrap();
    assert_eq!(taken.layers.len(), 1);
    assert!(String::from_utf8_lossy(&taken.config).contains("arm64"));
    engine(on).remove_image(image).await.unwrap();
    assert!(engine(on).describe(image).await.is_err(), "it was not removed");
}

async fn an_image_that_is_not_there_is_gone(on: Kind) {
    let cache = TempDir::new().unwrap();
    let failure = take(on, of(Sha256::of(b"no such image"), cache.path())).await.unwrap_err().into_failure();
    assert_eq!(failure.code, "image_gone", "{failure}");
    let error = engine(on).describe(Sha256::of(b"no such image")).await.unwrap_err();
    assert!(matches!(error, EngineError::Refused { .. }), "{error}");
}

async fn an_image_is_described_without_being_taken(on: Kind) {
    let text = dockerfile(
        "ENV A=b\nWORKDIR /w\nUSER 7:8\nEXPOSE 80/tcp\nVOLUME /v\nENTRYPOINT [\"/bin/busybox\"]\nCMD [\"echo\", \"x\"]\n",
    );
    let mut request = request(&text);
    request.platform = "linux/arm/v7".parse().unwrap();
    request.labels.insert("l".to_owned(), "1".to_owned());
    let foreign = built(on, request).await;
    let image = engine(on).describe(foreign.image).await.unwrap().config;
    assert_eq!(
        (image.os.as_str(), image.architecture.as_str(), image.variant.as_str()),
        ("linux", "arm", "v7")
    );
    assert_eq!(
        (image.entrypoint, image.cmd),
        (vec!["/bin/busybox".to_owned()], vec!["echo".to_owned(), "x".to_owned()])
    );
    assert!(
        image.env.contains(&"A=b".to_owned()) && image.env.contains(&"PATH=/bin".to_owned()),
        "{:?}",
        image.env
    );
    assert_eq!((image.working_dir.as_str(), image.labels["l"].as_str()), ("/w", "1"));
    assert_eq!(image.diff_ids.len(), 2);
}

/// Reads layers as inspection does.
struct Indexing(Arc<Mutex<BTreeMap<Sha256, Index>>>);

struct IndexingOne(Option<Index>, Arc<Mutex<BTreeMap<Sha256, Index>>>);

impl Observer for Indexing {
    fn knows(&self, diff_id: Sha256) -> bool {
        self.0.lock().unwrap().contains_key(&diff_id)
    }

    fn begin(&self) -> Box<dyn LayerObserver> {
        Box::new(IndexingOne(None, self.0.clone()))
    }
}

impl LayerObserver for IndexingOne {
    fn read(&mut self, tar: &mut dyn Read) {
        self.0 = Some(Index::read(tar).unwrap());
    }

    fn end(self: Box<Self>, diff_id: Sha256) {
        self.1.lock().unwrap().insert(diff_id, self.0.unwrap());
    }
}

async fn a_layers_folder_tells_what_its_tar_tells(on: Kind) {
    let base = coordinates().base.reference;
    let (salt, steps) = (
        unique("x"),
        [
            // Whiteouts, a folder in place of another, a folder in place of a file, a file in place of a folder.
            "RUN rm /copied && rm -r /d/gone && rm -r /d/anew && mkdir /d/anew && echo 1 > /d/anew/file",
            "RUN rm /d/file && mkdir /d/file && touch /d/file/in && rm -r /d/folder && echo x > /d/folder",
            // Links, devices, a pipe, bits of a mode, names of bytes, a file with holes.
            "RUN ln -s ../bin/busybox /d/link && ln /bin/busybox /d/hard && mknod /d/null c 1 3 && mkfifo /d/pipe",
            "RUN printf '#!/bin/sh -e\\nexit\\n' > /d/script && chmod 6711 /d/script && touch \"/d/$(printf 'a\\377\\n')\"",
            "RUN dd if=/dev/zero of=/d/holes bs=1 count=1 seek=67108864 2>&1 && mv /d/moved /d/away",
        ],
    );
    let made = "RUN mkdir -p /d/gone/x /d/anew/old /d/folder/x /d/moved/x && echo x > /d/file && touch /d/anew/older";
    let text = format!("FROM {base}\nCOPY busybox /copied\nENV SALT={salt}\n{made}\n{}\n", steps.join("\n"));
    let built = built(on, request(&text)).await;
    let described = engine(on).describe(built.image).await.unwrap();
    if on.stores_in_containerd() {
        assert!(described.folders.is_empty(), "{described:?}");
        return;
    }
    let (cache, seen) = (TempDir::new().unwrap(), Arc::default());
    let observer: Arc<dyn Observer> = Arc::new(Indexing(Arc::clone(&seen)));
    let taken =
        take(on, TakeRequest { observer: Some(observer), ..of(built.image, cache.path()) }).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!((taken.diff_ids.len(), described.folders.len()), (8, 8));
    for (diff_id, folder) in taken.diff_ids.iter().zip(&described.folders) {
        assert_eq!(Index::read_folder(folder).unwrap(), seen[diff_id], "{}", folder.display());
    }
}
