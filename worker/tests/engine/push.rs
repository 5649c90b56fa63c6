//! Images reach registries as OCI manifests, by digest, and only what is new is sent.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use archyard_model::FailureClass::{Infrastructure, User};
use archyard_model::Sha256;
use archyard_worker::engine::{Engine as _, PushError, PushRequest, Pushed};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::OciImageManifest;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Kind, Tree, build, coordinates, dockerfile, engine, request, unique};
use crate::registries;

on_every_engine! {
    what_arrives_is_the_image_as_oci_and_no_tag,
    what_a_registry_has_is_neither_compressed_nor_sent_again,
    annotations_are_on_the_manifest,
    a_cache_without_room_costs_time_only,
    pushes_at_once_do_not_disturb_each_other,
    a_registry_that_refuses_is_named_and_one_that_is_down_is_not_the_users_fault,
    bad_requests_are_refused_before_anything_is_done,
    a_canceled_push_ends_at_once,
}

async fn image(on: Kind, rest: &str) -> Sha256 {
    let ended = build(&engine(on), request(&dockerfile(rest)), Tree::builder().busybox().done()).await;
    ended.succeeded().image
}

fn to(repositories: &[&str], image: Sha256, cache: &Path) -> PushRequest {
    PushRequest {
        image,
        repositories: repositories.iter().map(|name| (*name).to_owned()).collect(),
        insecure_registries: Vec::new(),
        credentials: Vec::new(),
        annotations: Default::default(),
        layer_cache: cache.to_owned(),
        layer_cache_bytes: 1 << 30,
    }
}

async fn push(on: Kind, request: PushRequest) -> Result<Pushed, PushError> {
    let (progress, mut told) = mpsc::channel(16);
    let drain = async { while told.recv().await.is_some() {} };
    let engine = engine(on);
    tokio::join!(engine.push(request, progress, CancellationToken::new()), drain).0
}

/// A repository nobody used before.
fn repository() -> String {
    format!("{}/{}", coordinates().registry, unique("push"))
}

fn client() -> Client {
    Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() })
}

fn at(repository: &str, digest: Sha256) -> Reference {
    let (host, path) = repository.split_once('/').unwrap();
    Reference::with_digest(host.to_owned(), path.to_owned(), digest.to_string())
}

async fn blob(repository: &str, digest: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    client().pull_blob(&at(repository, digest.parse().unwrap()), digest, &mut bytes).await.unwrap();
    assert_eq!(Sha256::of(&bytes).to_string(), digest);
    bytes
}

async fn what_arrives_is_the_image_as_oci_and_no_tag(on: Kind) {
    let (cache, repository) = (TempDir::new().unwrap(), repository());
    let image = image(on, &format!("RUN echo {} > /x\nLABEL a=b\n", unique("x"))).await;
    let pushed = push(on, to(&[&repository], image, cache.path())).await.unwrap();
    assert_eq!(pushed.compressed_layers, 2);

    let target = at(&repository, pushed.manifest.digest);
    let accepted = [pushed.manifest.media_type.as_str()];
    let (raw, digest) =
        client().pull_manifest_raw(&target, &RegistryAuth::Anonymous, &accepted).await.unwrap();
    assert_eq!((digest, raw.len() as u64), (pushed.manifest.digest.to_string(), pushed.manifest.size));
    let manifest: OciImageManifest = serde_json::from_slice(&raw).unwrap();
    assert_eq!(manifest.media_type.as_deref(), Some("application/vnd.oci.image.manifest.v1+json"));
    assert_eq!(manifest.config.media_type, "application/vnd.oci.image.config.v1+json");
    assert_eq!(manifest.config.digest, pushed.config.to_string());
    assert_eq!(manifest.annotations, None);
    let config: serde_json::Value =
        serde_json::from_slice(&blob(&repository, &manifest.config.digest).await).unwrap();
    for (layer, diff_id) in manifest.layers.iter().zip(config["rootfs"]["diff_ids"].as_array().unwrap()) {
        assert_eq!(layer.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
        let compressed = blob(&repository, &layer.digest).await;
        assert_eq!(compressed.len() as i64, layer.size);
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut tar).unwrap();
        assert_eq!(Sha256::of(&tar).to_string(), diff_id.as_str().unwrap());
    }
    let tags = client().list_tags(&target, &RegistryAuth::Anonymous, None, None).await;
    assert!(tags.is_err() || tags.unwrap().tags.is_empty(), "a tag was left behind");
}

async fn what_a_registry_has_is_neither_compressed_nor_sent_again(on: Kind) {
    let (cache, repository, other) = (TempDir::new().unwrap(), repository(), repository());
    let salt = unique("x");
    let first = image(on, &format!("RUN echo {salt} > /x\n")).await;
    let once = push(on, to(&[&repository], first, cache.path())).await.unwrap();
    assert!(once.sent_bytes > 0);

    // The image itself is not even asked for: it is gone.
    engine(on).remove_image(first).await.unwrap();
    let twice = push(on, to(&[&repository], first, cache.path())).await.unwrap();
    assert_eq!((twice.manifest, twice.sent_bytes, twice.compressed_layers), (once.manifest.clone(), 0, 0));

    // Another repository of the registry borrows the layers: only the config is sent.
    let config = blob(&repository, &once.config.to_string()).await.len() as u64;
    let lent = push(on, to(&[&other, &repository], first, cache.path())).await.unwrap();
    assert_eq!((lent.manifest, lent.sent_bytes, lent.compressed_layers), (once.manifest, config, 0));

    // Of an image with one more layer, that layer is sent.
    let second = image(on, &format!("RUN echo {salt} > /x\nRUN echo more > /y\n")).await;
    let more = push(on, to(&[&repository], second, cache.path())).await.unwrap();
    assert_eq!(more.compressed_layers, 1);
    assert!(more.sent_bytes < once.sent_bytes / 10, "{} of {}", more.sent_bytes, once.sent_bytes);
}

async fn annotations_are_on_the_manifest(on: Kind) {
    let (cache, repository) = (TempDir::new().unwrap(), repository());
    let image = image(on, &format!("RUN echo {} > /x\n", unique("x"))).await;
    let annotations = [("z.example", "last"), ("a.example", "first")];
    let annotations: BTreeMap<_, _> = annotations.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    let request = PushRequest { annotations: annotations.clone(), ..to(&[&repository], image, cache.path()) };
    let pushed = push(on, request).await.unwrap();
    let target = at(&repository, pushed.manifest.digest);
    let accepted = [pushed.manifest.media_type.as_str()];
    let raw = client().pull_manifest_raw(&target, &RegistryAuth::Anonymous, &accepted).await.unwrap().0;
    let manifest: OciImageManifest = serde_json::from_slice(&raw).unwrap();
    assert_eq!(manifest.annotations, Some(annotations));
    assert!(
        String::from_utf8_lossy(&raw).ends_with(r#""annotations":{"a.example":"first","z.example":"last"}}"#)
    );
}

async fn a_cache_without_room_costs_time_only(on: Kind) {
    let (cache, first, second) = (TempDir::new().unwrap(), repository(), repository());
    let image = image(on, &format!("RUN echo {} > /x\n", unique("x"))).await;
    let tight = |repository| PushRequest { layer_cache_bytes: 0, ..to(&[repository], image, cache.path()) };
    let once = push(on, tight(&first)).await.unwrap();
    std::fs::remove_dir_all(cache.path().join("places")).unwrap();
    let twice = push(on, tight(&second)).await.unwrap();
    assert_eq!((twice.manifest, twice.sent_bytes), (once.manifest, once.sent_bytes));
    assert_eq!(std::fs::read_dir(cache.path().join("blobs")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(cache.path().join("tmp")).unwrap().count(), 0);
}

async fn pushes_at_once_do_not_disturb_each_other(on: Kind) {
    let (cache, repository) = (TempDir::new().unwrap(), repository());
    let image = image(on, &format!("RUN echo {} > /x\n", unique("x"))).await;
    let pushes = (0..4).map(|_| push(on, to(&[&repository], image, cache.path())));
    let pushed = futures_util::future::try_join_all(pushes).await.unwrap();
    assert!(pushed.iter().all(|one| one.manifest == pushed[0].manifest));
}

async fn a_registry_that_refuses_is_named_and_one_that_is_down_is_not_the_users_fault(on: Kind) {
    let cache = TempDir::new().unwrap();
    let image = image(on, "RUN true\n").await;
    for (host, class, code, words) in [
        (registries::answering(401).await, User, "registry_denied", "run docker login"),
        (registries::answering(403).await, User, "registry_denied", "run docker login"),
        (registries::answering(400).await, User, "registry_refused", "check the repository's name"),
        (registries::answering(500).await, Infrastructure, "registry_failed", "500"),
        ("127.0.0.1:1".to_owned(), Infrastructure, "registry_unreachable", "refused"),
    ] {
        let repository = format!("{host}/team/app");
        let failure = push(on, to(&[&repository], image, cache.path())).await.unwrap_err().into_failure();
        assert_eq!((failure.class, failure.code.as_str()), (class, code), "{failure}");
        assert!(failure.message.contains(&repository) && failure.message.contains(words), "{failure}");
    }
}

async fn bad_requests_are_refused_before_anything_is_done(on: Kind) {
    let cache = TempDir::new().unwrap();
    let nothing = Sha256::of(b"no such image");
    for bad in ["UPPER/case", "app", "127.0.0.1:5000/app:tag"] {
        let failure = push(on, to(&[bad], nothing, cache.path())).await.unwrap_err().into_failure();
        assert_eq!((failure.class, failure.code.as_str()), (User, "repository_invalid"), "{failure}");
    }
    let failure = push(on, to(&[&repository()], nothing, cache.path())).await.unwrap_err().into_failure();
    assert_eq!((failure.class, failure.code.as_str()), (Infrastructure, "image_gone"), "{failure}");
}

async fn a_canceled_push_ends_at_once(on: Kind) {
    let cache = TempDir::new().unwrap();
    let (progress, _told) = mpsc::channel(16);
    let cancel = CancellationToken::new();
    cancel.cancel();
    let request = to(&[&repository()], Sha256::of(b"no such image"), cache.path());
    let error = engine(on).push(request, progress, cancel).await.unwrap_err();
    assert!(matches!(error, PushError::Canceled), "{error}");
}
