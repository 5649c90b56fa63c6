//! Blobs of a promotion: lent where they can be, else moved once, as long as they move.

use std::sync::Arc;
use std::time::{Duration, Instant};

use archyard_model::build::PushedManifest;
use archyard_model::{BuildId, FailureClass, INDEX_MEDIA_TYPE, Index, Output, Plan};
use archyard_scheduler::core::PublishOrder;
use archyard_scheduler::core::heritage::Promotion;
use archyard_scheduler::publish::{Failed, publish};
use archyard_scheduler::registry::Registries;
use serde_json::json;
use tokio::task::JoinSet;
use xtask::oci;
use xtask::registry::{OwnRegistry, Request};

use crate::fixture::unique;
use crate::publish::Journal;
use crate::slow::{Flow, way};

const PATIENCE: Duration = Duration::from_secs(2);
const MIB: usize = 1024 * 1024;

/// A candidate of one platform that waits in a registry.
struct Candidate {
    repository: String,
    image: PushedManifest,
    /// Its config and its layers.
    blobs: Vec<String>,
}

impl Candidate {
    /// With layers of these sizes.
    fn of(registry: &str, layers: &[usize]) -> Self {
        let repository = unique("staging");
        let config = json!({ "os": "linux", "architecture": "amd64", "of": repository }).to_string();
        let layers: Vec<Vec<u8>> = (1_u8..).zip(layers).map(|(byte, size)| vec![byte; *size]).collect();
        let put = |blob: &[u8]| oci::put_blob(registry, &repository, blob).unwrap();
        let mut blobs = vec![put(config.as_bytes())];
        blobs.extend(layers.iter().map(|layer| put(layer)));
        let described: Vec<_> = layers
            .iter()
            .map(
                |layer| json!({ "mediaType": oci::LAYER, "size": layer.len(), "digest": oci::digest(layer) }),
            )
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": oci::MANIFEST,
            "config": { "mediaType": oci::CONFIG, "size": config.len(), "digest": blobs[0] },
            "layers": described,
        });
        let bytes = manifest.to_string().into_bytes();
        let digest = oci::digest(&bytes);
        oci::put_manifest(registry, &repository, &digest, oci::MANIFEST, &bytes).unwrap();
        let size = bytes.len() as u64;
        let image =
            PushedManifest { digest: digest.parse().unwrap(), size, media_type: oci::MANIFEST.to_owned() };
        Self { repository, image, blobs }
    }

    /// From where it is as seen from `host`, to these tags.
    fn order(&self, host: &str, tags: &[String]) -> PublishOrder {
        let (plan, _) = crate::harness::plan(&["linux/amd64"]);
        let tags: Vec<_> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        let plan = Plan { output: Output::Push, tags: tags.clone(), ..plan };
        let images = vec![(plan.platforms[0].clone(), self.image.clone())];
        let cross = std::collections::BTreeMap::new();
        let index = Index::of(&plan, &images, &cross).unwrap();
        oci::put_manifest(host, &self.repository, &index.digest.to_string(), INDEX_MEDIA_TYPE, &index.bytes)
            .unwrap();
        let staging = format!("{host}/{}", self.repository);
        PublishOrder {
            build: BuildId::from_parts(1, 1),
            plan: Arc::new(plan),
            images,
            cross,
            promotion: Some(Promotion { staging, index: (index.digest, index.size()) }),
            tags,
            index: None,
            attempt: 1,
        }
    }
}

async fn run(order: &PublishOrder) -> Result<bool, Failed> {
    let staging = order.promotion.as_ref().map(|promotion| promotion.staging.as_str());
    let registries = Registries::default().stalling(PATIENCE);
    let registry = registries.reaching(&order.plan, staging, Arc::default()).unwrap();
    publish(&registry, order, &Journal::default()).await
}

/// Blobs that were lent, by repository and digest.
fn lent(requests: &[Request]) -> usize {
    requests.iter().filter(|request| request.path.contains("mount=sha256") && request.status == 201).count()
}

/// Requests that carry a blob of `repository`, or a part of it: into the registry, or out of it.
fn moved<'a>(requests: &'a [Request], repository: &str) -> Vec<&'a Request> {
    let (uploads, blobs) =
        (format!("/v2/{repository}/blobs/uploads/"), format!("/v2/{repository}/blobs/sha256"));
    let carries = |request: &&Request| match request.method.as_str() {
        "PUT" | "PATCH" => request.path.starts_with(&uploads),
        "GET" => request.path.starts_with(&blobs),
        _ => false,
    };
    requests.iter().filter(carries).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn within_a_registry_blobs_are_lent_and_none_moves() {
    let registry = OwnRegistry::open().unwrap();
    let candidate = Candidate::of(&registry.address, &[MIB, 10]);
    let release = unique("release");
    let order = candidate.order(&registry.address, &[format!("{}/{release}:v1", registry.address)]);
    let before = registry.requests().unwrap().len();
    assert!(run(&order).await.unwrap());
    let requests = registry.requests().unwrap().split_off(before);
    assert_eq!(lent(&requests), candidate.blobs.len(), "{requests:#?}");
    for repository in [&candidate.repository, &release] {
        assert!(moved(&requests, repository).is_empty(), "{requests:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn into_another_registry_each_blob_moves_once_whatever_the_number_of_repositories() {
    let (from, to) = (OwnRegistry::open().unwrap(), OwnRegistry::open().unwrap());
    let candidate = Candidate::of(&from.address, &[MIB, 10]);
    let releases = [unique("release"), unique("mirror")];
    let tags = releases.each_ref().map(|release| format!("{}/{release}:v1", to.address));
    let order = candidate.order(&from.address, &tags);
    let before = from.requests().unwrap().len();
    assert!(run(&order).await.unwrap());
    assert!(run(&order).await.unwrap(), "again");
    let given = from.requests().unwrap().split_off(before);
    let taken = to.requests().unwrap();
    let gave = moved(&given, &candidate.repository);
    let took: Vec<_> = releases.iter().flat_map(|release| moved(&taken, release)).collect();
    for blob in &candidate.blobs {
        let of_it = |requests: &[&Request]| {
            let hex = blob.trim_start_matches("sha256:");
            requests.iter().filter(|request| request.path.contains(hex)).count()
        };
        assert_eq!((of_it(&gave), of_it(&took)), (1, 1), "{blob}: {given:#?} {taken:#?}");
    }
    assert_eq!(took.len(), candidate.blobs.len(), "{taken:#?}");
    assert_eq!(lent(&taken), candidate.blobs.len(), "{taken:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_takes_longer_than_it_may_stand_still_arrives_and_is_never_held_whole() {
    let (from, to) = (OwnRegistry::open().unwrap(), OwnRegistry::open().unwrap());
    let (given, taken) = (Flow::free(), Flow::slow(12 * MIB as u64));
    let out = way(&from.address, Flow::free(), Arc::clone(&given));
    let into = way(&to.address, Arc::clone(&taken), Flow::free());
    let size = 72 * MIB;
    let candidate = Candidate::of(&from.address, &[size]);
    let release = unique("release");
    let order = candidate.order(&out.address, &[format!("{}/{release}:v1", into.address)]);
    let mut watching = JoinSet::new();
    watching.spawn(async move {
        let mut ahead = 0;
        while taken.passed() < size as u64 {
            ahead = given.passed().saturating_sub(taken.passed()).max(ahead);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        ahead
    });
    let started = Instant::now();
    assert!(run(&order).await.unwrap());
    assert!(started.elapsed() > 2 * PATIENCE, "it was not slow: {:?}", started.elapsed());
    assert!(oci::get_manifest(&to.address, &release, "v1").is_ok());
    let ahead = watching.join_next().await.unwrap().unwrap();
    // What two sockets' buffers hold, not the blob.
    assert!(ahead < size as u64 / 2, "{ahead} bytes were held on the way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_stands_still_is_named_and_what_arrived_is_not_sent_again() {
    let (from, to) = (OwnRegistry::open().unwrap(), OwnRegistry::open().unwrap());
    for (give, take) in [(u64::MAX, 6 * MIB as u64), (6 * MIB as u64, u64::MAX)] {
        let (given, taken) = (Flow::stalling(give), Flow::stalling(take));
        let out = way(&from.address, Flow::free(), Arc::clone(&given));
        let into = way(&to.address, Arc::clone(&taken), Flow::free());
        let candidate = Candidate::of(&from.address, &[1000, 48 * MIB, 2000]);
        let release = unique("release");
        let order = candidate.order(&out.address, &[format!("{}/{release}:v1", into.address)]);
        let failed = run(&order).await.unwrap_err();
        let (silent, verb) =
            if give < take { (&out.address, "give a layer of") } else { (&into.address, "push") };
        assert_eq!((failed.failure.code.as_str(), failed.retryable), ("registry_unreachable", true));
        assert_eq!(failed.failure.class, FailureClass::Infrastructure);
        for part in [silent, verb, "no byte of a blob moved for 2 s"] {
            assert!(failed.failure.message.contains(part), "{part:?} is not in {}", failed.failure);
        }
        assert!(oci::tags(&to.address, &release).map_or(true, |tags| tags.is_empty()), "a tag moved");

        given.open();
        taken.open();
        assert!(run(&order).await.unwrap());
        let requests = to.requests().unwrap();
        for blob in &candidate.blobs {
            let hex = blob.trim_start_matches("sha256:");
            let arrived = moved(&requests, &release)
                .into_iter()
                .filter(|request| request.path.contains(hex) && request.status == 201)
                .count();
            assert_eq!(arrived, 1, "{blob}: {requests:#?}");
        }
    }
}
