//! What the registry holds before a test looks at it.

use std::sync::atomic::{AtomicU32, Ordering};

use archyard_model::build::PushedManifest;
use archyard_model::{Base, BaseKind, BaseUse, Plan, Reference};
use archyard_scheduler::registry::{Registries, Registry};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use xtask::coordinates::Coordinates;
use xtask::images::{Entry, Image, Platform, tar};
use xtask::oci;

/// The registry of the environment that the tests were started with; without one the test fails and says so.
pub(crate) fn registry() -> String {
    match Coordinates::from_env() {
        Ok(coordinates) => coordinates.registry,
        Err(error) => panic!("{error:#}"),
    }
}

/// A repository that no other test, and no other run, uses.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    format!("scheduler/{name}-{}-{now}-{number}", std::process::id())
}

pub(crate) fn image(platform: &str) -> Image {
    let platform = Platform::parse(platform).unwrap();
    Image::new(&platform, tar(&[("word", Entry::File(0o644, platform.to_string().as_bytes()))]).unwrap())
}

/// A manifest with its blobs, by digest only: what a worker leaves.
pub(crate) fn push_untagged(registry: &str, repository: &str, platform: &str) -> PushedManifest {
    let layer = b"not really a layer".to_vec();
    let config = json!({ "os": "linux", "architecture": platform.split('/').nth(1).unwrap() })
        .to_string()
        .into_bytes();
    for blob in [&layer, &config] {
        oci::put_blob(registry, repository, blob).unwrap();
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": oci::MANIFEST,
        "config": { "mediaType": oci::CONFIG, "size": config.len(), "digest": oci::digest(&config) },
        "layers": [{ "mediaType": oci::LAYER, "size": layer.len(), "digest": oci::digest(&layer) }],
    });
    let bytes = manifest.to_string().into_bytes();
    let digest = oci::digest(&bytes);
    oci::put_manifest(registry, repository, &digest, oci::MANIFEST, &bytes).unwrap();
    PushedManifest {
        digest: digest.parse().unwrap(),
        size: bytes.len() as u64,
        media_type: oci::MANIFEST.to_owned(),
    }
}

/// A plan whose Dockerfile's line 2 is `FROM image`, for all its platforms.
pub(crate) fn plan(image: &str, platforms: &[&str]) -> Plan {
    let image: Reference = image.parse().unwrap();
    let (plan, _) = crate::harness::plan(platforms);
    let uses = (0..)
        .zip(&plan.platforms)
        .map(|(job, platform)| BaseUse { job, image: image.clone(), platform: Some(platform.clone()) })
        .collect();
    let base = Base { kind: BaseKind::From, line: 2, span: 5..10, token: "IMAGE".to_owned(), uses };
    Plan { bases: vec![base], ..plan }
}

pub(crate) fn client(plan: &Plan) -> Registry {
    Registries::default().of(plan, std::sync::Arc::default()).unwrap()
}

/// A registry that answers every request alike, for as long as it is held.
pub(crate) struct Answering {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    _serving: tokio::task::JoinSet<()>,
}

/// Starts a registry that answers with this status and body. With none it takes connections and says nothing.
pub(crate) async fn answering(answer: Option<(&'static str, &'static str)>) -> Answering {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if let Some((status, body)) = answer {
                let mut request = vec![0; 16 * 1024];
                drop(stream.read(&mut request).await);
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                drop(stream.write_all(answer.as_bytes()).await);
            } else {
                held.push(stream);
            }
        }
    });
    Answering { address, _serving: serving }
}
