//! One index in a real registry, however often and however badly it goes.

use std::sync::{Arc, Mutex};

use archyard_model::build::PushedManifest;
use archyard_model::{BuildId, FailureClass, Output, Plan, Platform, Reference, Sha256};
use archyard_scheduler::core::PublishOrder;
use archyard_scheduler::publish::{Failed, Ledger, publish};
use xtask::oci;

use crate::fixture::{answering, client, push_untagged, registry, unique};

/// Remembers what was journaled, and says stop after so many facts.
#[derive(Default)]
pub(crate) struct Journal {
    facts: Mutex<Vec<String>>,
    stop_after: Option<usize>,
}

impl Journal {
    fn note(&self, fact: String) -> bool {
        let mut facts = self.facts.lock().unwrap();
        facts.push(fact);
        self.stop_after.is_none_or(|most| facts.len() <= most)
    }

    fn facts(&self) -> Vec<String> {
        self.facts.lock().unwrap().clone()
    }
}

impl Ledger for Journal {
    async fn prepared(&self, _: BuildId, index: Sha256, size: u64) -> bool {
        self.note(format!("prepared {index} {size}"))
    }

    async fn moved(&self, _: BuildId, tag: Reference) -> bool {
        self.note(format!("moved {}", tag.tag().unwrap()))
    }
}

fn order(names: &[String], tags: &[&str], images: Vec<(&str, PushedManifest)>) -> PublishOrder {
    let tags: Vec<Reference> = names
        .iter()
        .flat_map(|name| tags.iter().map(move |tag| format!("{name}:{tag}").parse().unwrap()))
        .collect();
    let (plan, _) = crate::harness::plan(&["linux/amd64", "linux/386"]);
    PublishOrder {
        build: BuildId::from_parts(1, 1),
        plan: Arc::new(Plan { output: Output::Push, tags: tags.clone(), ..plan }),
        images: images
            .into_iter()
            .map(|(platform, manifest)| (platform.parse::<Platform>().unwrap(), manifest))
            .collect(),
        cross: std::collections::BTreeMap::new(),
        promotion: None,
        tags,
        index: None,
        attempt: 1,
    }
}

fn pushed(registry: &str, repository: &str) -> Vec<(&'static str, PushedManifest)> {
    ["linux/amd64", "linux/386"]
        .map(|platform| (platform, push_untagged(registry, repository, platform)))
        .to_vec()
}

async fn run(order: &PublishOrder, journal: &Journal) -> Result<bool, Failed> {
    publish(&client(&order.plan), order, journal).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_index_under_every_tag_and_nothing_else() {
    let (registry, repository) = (registry(), unique("publish"));
    let images = pushed(&registry, &repository);
    let order = order(&[format!("{registry}/{repository}")], &["one", "two"], images);
    let journal = Journal::default();
    assert!(run(&order, &journal).await.unwrap());
    let one = oci::get_manifest(&registry, &repository, "one").unwrap();
    assert_eq!(one.media_type, oci::INDEX);
    assert_eq!(one.bytes, oci::get_manifest(&registry, &repository, "two").unwrap().bytes);
    assert_eq!(oci::tags(&registry, &repository).unwrap(), ["one", "two"]);
    let platforms: Vec<String> = one.json["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["platform"]["architecture"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(platforms, ["amd64", "386"], "in the plan's order");
    let prepared = format!("prepared {} {}", one.digest, one.bytes.len());
    assert_eq!(journal.facts(), [prepared.clone(), "moved one".to_owned(), "moved two".to_owned()]);

    // Again, as after a scheduler that died: the same index.
    let mut again = order.clone();
    again.index = Some((one.digest.parse().unwrap(), one.bytes.len() as u64));
    again.tags.truncate(1);
    let journal = Journal::default();
    assert!(run(&again, &journal).await.unwrap());
    assert_eq!(journal.facts(), [prepared, "moved one".to_owned()]);
    again.index = Some((Sha256::from_bytes([0; 32]), 1));
    assert_eq!(run(&again, &Journal::default()).await.unwrap_err().failure.code, "index_changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_repository_gets_the_index() {
    let registry = registry();
    let repositories = [unique("first"), unique("second")];
    let images = repositories.each_ref().map(|repository| pushed(&registry, repository))[1].clone();
    let names: Vec<String> =
        repositories.iter().map(|repository| format!("{registry}/{repository}")).collect();
    assert!(run(&order(&names, &["v1"], images), &Journal::default()).await.unwrap());
    let bytes = |repository| oci::get_manifest(&registry, repository, "v1").unwrap().bytes;
    assert_eq!(bytes(&repositories[0]), bytes(&repositories[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_before_it_is_journaled() {
    let (registry, repository) = (registry(), unique("stop"));
    let images = pushed(&registry, &repository);
    let order = order(&[format!("{registry}/{repository}")], &["one", "two"], images);
    let journal = Journal { stop_after: Some(0), ..Journal::default() };
    assert!(!run(&order, &journal).await.unwrap());
    let facts = journal.facts();
    let index = facts[0].split(' ').nth(1).unwrap();
    assert!(oci::get_manifest(&registry, &repository, index).is_err(), "the index was pushed all the same");
    assert_eq!(oci::tags(&registry, &repository).unwrap(), [] as [&str; 0]);
    let journal = Journal { stop_after: Some(1), ..Journal::default() };
    assert!(!run(&order, &journal).await.unwrap());
    assert_eq!(oci::tags(&registry, &repository).unwrap(), ["one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_gone_or_differs_stops_it() {
    let (registry, repository) = (registry(), unique("gone"));
    let good = pushed(&registry, &repository);
    let spoil = |spoil: &dyn Fn(&mut PushedManifest)| {
        let mut images = good.clone();
        spoil(&mut images[1].1);
        images
    };
    let name = format!("{registry}/{repository}");
    for (images, problem) in [
        (spoil(&|manifest| manifest.digest = Sha256::from_bytes([7; 32])), "is not there"),
        (spoil(&|manifest| manifest.size += 1), "bytes and not"),
        (
            spoil(&|manifest| {
                manifest.media_type = "application/vnd.docker.distribution.manifest.v2+json".to_owned();
            }),
            "is a application/vnd.oci",
        ),
    ] {
        let journal = Journal::default();
        let failed = run(&order(std::slice::from_ref(&name), &["v1"], images), &journal).await.unwrap_err();
        assert!(failed.failure.message.contains(problem), "{}", failed.failure);
        assert!(failed.failure.message.contains("linux/386"), "{}", failed.failure);
        assert_eq!(journal.facts(), [] as [&str; 0]);
    }
    assert_eq!(oci::tags(&registry, &repository).unwrap(), [] as [&str; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_denies_is_final_and_one_in_trouble_is_not() {
    let manifest =
        PushedManifest { digest: Sha256::from_bytes([1; 32]), size: 1, media_type: oci::MANIFEST.to_owned() };
    let denied = answering(Some(("403 Forbidden", "{}"))).await;
    let images = vec![("linux/amd64", manifest)];
    let order_at = |address: &str| order(&[format!("{address}/x")], &["v1"], images.clone());
    let failed = run(&order_at(&denied.address), &Journal::default()).await.unwrap_err();
    assert_eq!((failed.retryable, failed.failure.class), (false, FailureClass::User));
    assert!(
        failed.failure.message.contains(&format!("docker login {}", denied.address)),
        "{}",
        failed.failure
    );

    let broken = answering(Some(("500 Internal Server Error", "{}"))).await;
    let failed = run(&order_at(&broken.address), &Journal::default()).await.unwrap_err();
    assert_eq!((failed.retryable, failed.failure.class), (true, FailureClass::Infrastructure));

    let failed = run(&order_at("127.0.0.1:9"), &Journal::default()).await.unwrap_err();
    assert_eq!((failed.retryable, failed.failure.code.as_str()), (true, "registry_unreachable"));
}
