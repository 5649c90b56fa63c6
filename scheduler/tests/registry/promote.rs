//! A candidate's images under new tags: in its own repository, in another, and in another registry.

use std::sync::Arc;

use archyard_model::build::PushedManifest;
use archyard_model::{FailureClass, INDEX_MEDIA_TYPE, Index, Output, Plan, Platform};
use archyard_scheduler::core::PublishOrder;
use archyard_scheduler::core::heritage::Promotion;
use archyard_scheduler::publish::{Failed, publish};
use archyard_scheduler::registry::Registries;
use xtask::oci;

use crate::fixture::{push_untagged, registry, unique};
use crate::publish::Journal;

const PLATFORMS: [&str; 2] = ["linux/amd64", "linux/386"];

/// A candidate that waits in `staging`, to be promoted to `tag`.
fn order(staging: &str, images: &[PushedManifest], tag: &str) -> PublishOrder {
    let images: Vec<(Platform, PushedManifest)> = PLATFORMS
        .iter()
        .zip(images)
        .map(|(platform, manifest)| (platform.parse().unwrap(), manifest.clone()))
        .collect();
    let (plan, _) = crate::harness::plan(&PLATFORMS);
    let tags = vec![tag.parse().unwrap()];
    let plan = Plan { output: Output::Push, tags: tags.clone(), ..plan };
    let cross = std::collections::BTreeMap::new();
    let index = Index::of(&plan, &images, &cross).unwrap();
    let (registry, repository) = staging.split_once('/').unwrap();
    let digest = index.digest.to_string();
    oci::put_manifest(registry, repository, &digest, INDEX_MEDIA_TYPE, &index.bytes).unwrap();
    PublishOrder {
        build: archyard_model::BuildId::from_parts(1, 1),
        plan: Arc::new(plan),
        images,
        cross,
        promotion: Some(Promotion { staging: staging.to_owned(), index: (index.digest, index.size()) }),
        tags,
        index: None,
        attempt: 1,
    }
}

fn candidate(registry: &str, repository: &str) -> Vec<PushedManifest> {
    PLATFORMS.map(|platform| push_untagged(registry, repository, platform)).to_vec()
}

async fn run(order: &PublishOrder) -> Result<bool, Failed> {
    let staging = order.promotion.as_ref().map(|promotion| promotion.staging.as_str());
    let registry = Registries::default().reaching(&order.plan, staging, Arc::default()).unwrap();
    publish(&registry, order, &Journal::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_very_digests_get_the_tag_wherever_it_is() {
    let registry = registry();
    let port = registry.rsplit_once(':').unwrap().1;
    let staged = unique("staging");
    let images = candidate(&registry, &staged);
    let staging = format!("{registry}/{staged}");
    // Under another name it is another registry: nothing can be mounted from there.
    for host in [registry.clone(), format!("localhost:{port}")] {
        for repository in [staged.clone(), unique("release")] {
            let order = order(&staging, &images, &format!("{host}/{repository}:v1"));
            assert!(run(&order).await.unwrap());
            assert!(run(&order).await.unwrap(), "a second time");
            let index = oci::get_manifest(&registry, &repository, "v1").unwrap();
            assert_eq!(index.digest, order.promotion.unwrap().index.0.to_string());
            for image in &images {
                let manifest = oci::get_manifest(&registry, &repository, &image.digest.to_string()).unwrap();
                let config = manifest.json["config"]["digest"].as_str().unwrap();
                assert!(!oci::get_blob(&registry, &repository, config).unwrap().is_empty());
                let layer = manifest.json["layers"][0]["digest"].as_str().unwrap();
                assert_eq!(oci::get_blob(&registry, &repository, layer).unwrap(), b"not really a layer");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_collected_is_named_and_nothing_moves() {
    let (registry, staged, release) = (registry(), unique("staging"), unique("release"));
    let images = candidate(&registry, &staged);
    let order = order(&format!("{registry}/{staged}"), &images, &format!("{registry}/{release}:v1"));
    oci::delete_manifest(&registry, &staged, &images[1].digest.to_string()).unwrap();
    let failed = run(&order).await.unwrap_err();
    assert_eq!((failed.failure.code.as_str(), failed.retryable), ("candidate_incomplete", false));
    assert_eq!(failed.failure.class, FailureClass::User);
    for part in [&images[1].digest.to_string(), "linux/386", &staged, "Build the candidate anew"] {
        assert!(failed.failure.message.contains(part), "{}", failed.failure);
    }
    assert!(oci::tags(&registry, &release).map_or(true, |tags| tags.is_empty()));
    assert!(
        oci::get_manifest(&registry, &release, &images[0].digest.to_string()).is_err(),
        "one was brought"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_was_withdrawn_by_its_index_stays_so() {
    let (registry, staged, release) = (registry(), unique("staging"), unique("release"));
    let images = candidate(&registry, &staged);
    let order = order(&format!("{registry}/{staged}"), &images, &format!("{registry}/{release}:v1"));
    let index = order.promotion.as_ref().unwrap().index.0.to_string();
    oci::delete_manifest(&registry, &staged, &index).unwrap();
    let failed = run(&order).await.unwrap_err();
    assert_eq!((failed.failure.code.as_str(), failed.retryable), ("candidate_incomplete", false));
    for part in [&index, &staged, "Build the candidate anew"] {
        assert!(failed.failure.message.contains(part), "{}", failed.failure);
    }
    assert!(oci::tags(&registry, &release).map_or(true, |tags| tags.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_index_is_no_promotion() {
    let (registry, staged) = (registry(), unique("staging"));
    let images = candidate(&registry, &staged);
    let mut order = order(&format!("{registry}/{staged}"), &images, &format!("{registry}/{staged}:v1"));
    order.images.pop();
    let failed = run(&order).await.unwrap_err();
    assert_eq!(failed.failure.code, "index_changed");
    assert!(oci::tags(&registry, &staged).map_or(true, |tags| tags.is_empty()));
}
