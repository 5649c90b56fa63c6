//! What was locked is what is built, whatever its tag means since.

use std::path::Path;

use archyard_model::{Reference, Sha256};
use archyard_worker::engine::{BuildRequest, Engine as _, Feature, Pin, PushRequest};
use http::HeaderValue;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Ended, Kind, Tree, build, coordinates, dockerfile, engine, request, unique};

on_every_engine! {
    what_is_locked_is_built_though_its_tag_has_moved,
    a_frontend_is_locked_too,
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A repository whose tag `1` moves.
struct Moving {
    name: String,
    cache: TempDir,
}

impl Moving {
    fn new() -> Self {
        let name = format!("{}/{}", coordinates().registry, unique("moving"));
        Self { name, cache: TempDir::new().unwrap() }
    }

    fn image(&self) -> Reference {
        format!("{}:1", self.name).parse().unwrap()
    }

    /// Builds an image and moves the tag to it.
    async fn becomes(&self, text: &str) -> Sha256 {
        let on = Kind::Debian12;
        let ended = build(&engine(on), request(text), Tree::builder().busybox().done()).await;
        let digest = push(&self.name, ended.succeeded().image, self.cache.path()).await;
        let (host, path) = self.name.split_once('/').unwrap();
        let client = Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
        let at = oci_client::Reference::with_digest(host.to_owned(), path.to_owned(), digest.to_string());
        let tag = oci_client::Reference::with_tag(host.to_owned(), path.to_owned(), "1".to_owned());
        client.auth(&at, &RegistryAuth::Anonymous, RegistryOperation::Push).await.unwrap();
        let raw = client.pull_manifest_raw(&at, &RegistryAuth::Anonymous, &[MANIFEST]).await.unwrap().0;
        client.push_manifest_raw(&tag, raw, HeaderValue::from_static(MANIFEST)).await.unwrap();
        digest
    }
}

async fn push(repository: &str, image: Sha256, cache: &Path) -> Sha256 {
    let (progress, mut told) = mpsc::channel(16);
    let drain = async { while told.recv().await.is_some() {} };
    let request = PushRequest {
        image,
        repositories: vec![repository.to_owned()],
        insecure_registries: Vec::new(),
        credentials: Vec::new(),
        annotations: Default::default(),
        layer_cache: cache.to_owned(),
        layer_cache_bytes: 1 << 30,
    };
    let engine = engine(Kind::Debian12);
    let pushed = tokio::join!(engine.push(request, progress, CancellationToken::new()), drain).0;
    pushed.unwrap().manifest.digest
}

/// Builds under a lock as a runner does: by policy where the Engine takes one, else in the Dockerfile.
async fn build_locked(on: Kind, text: &str, image: &Reference, digest: Sha256) -> Ended {
    let mut request = BuildRequest { no_cache: true, pull: true, ..request(text) };
    if engine(on).probe().await.unwrap().has(Feature::SourcePolicy) {
        request.pins = vec![Pin { image: image.clone(), digest }];
    } else {
        let pinned = text.replace(&image.to_string(), &image.pinned(digest).to_string());
        request.dockerfile = pinned.into();
    }
    build(&engine(on), request, Tree::builder().busybox().done()).await
}

async fn what_is_locked_is_built_though_its_tag_has_moved(on: Kind) {
    let (moving, salt) = (Moving::new(), unique("x"));
    let words = |word: &str| dockerfile(&format!("RUN echo {word}-{salt} > /word\n"));
    let old = moving.becomes(&words("old")).await;
    let new = moving.becomes(&words("new")).await;
    assert_ne!(old, new);

    let image = moving.image();
    let text = format!(
        "FROM {image} AS first\nRUN cat /word\nFROM {image}\nCOPY --from={image} /word /copied\nCOPY --from=first /word /own\n\
         RUN --mount=type=bind,from={image},target=/m cat /word /copied /m/word\n"
    );
    let ended = build_locked(on, &text, &image, old).await;
    ended.succeeded();
    assert_eq!(ended.output(1), format!("old-{salt}\n").repeat(4));
    let looked_up: Vec<&str> = ended
        .vertices()
        .filter_map(|vertex| vertex.name.split_once("load metadata for "))
        .map(|(_, name)| name)
        .collect();
    let served = if on == Kind::Debian12 { image.pinned(old) } else { image.clone() };
    assert!(
        !looked_up.is_empty() && looked_up.iter().all(|name| *name == served.to_string()),
        "{looked_up:?}"
    );

    // Without the lock it is the new one: the tag has moved indeed.
    let request =
        BuildRequest { no_cache: true, pull: true, ..request(&format!("FROM {image}\nRUN cat /word\n")) };
    let ended = build(&engine(on), request, Tree::builder().busybox().done()).await;
    ended.succeeded();
    assert_eq!(ended.output(1), format!("new-{salt}\n"));
}

/// No frontend that works, but one that says which it is.
async fn a_frontend_is_locked_too(on: Kind) {
    let (moving, salt) = (Moving::new(), unique("x"));
    let exits = |code: u32| {
        dockerfile(&format!(
            "LABEL salt={salt}\nENTRYPOINT [\"/bin/busybox\", \"sh\", \"-c\", \"exit {code}\"]\n"
        ))
    };
    let old = moving.becomes(&exits(41)).await;
    moving.becomes(&exits(42)).await;
    let text = format!("# syntax={}\nFROM scratch\nCOPY busybox /\n", moving.image());
    let failure = build_locked(on, &text, &moving.image(), old).await.failure();
    eprintln!("{failure:#?}");
    assert!(failure.message.contains("41"), "{failure}");
    let failure = build(&engine(on), request(&text), Tree::builder().busybox().done()).await.failure();
    assert!(failure.message.contains("42"), "{failure}");
}
