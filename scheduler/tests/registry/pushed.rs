//! A whole scheduler with a real registry behind it: the lock before the first lease, the index after the last result.

use archyard_model::Output;
use archyard_model::convert::plan_to_proto;
use archyard_proto::v1 as proto;
use proto::worker_message::Message as Up;
use xtask::oci;

use crate::fixture::{image, plan, push_untagged, registry, unique};
use crate::harness::{Farm, Worker, hello};

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_locked_built_and_published() {
    let (registry, base, repository) = (registry(), unique("base"), unique("app"));
    let digest = oci::push_index(&registry, &base, "1", &[image("linux/amd64"), image("linux/386")]).unwrap();
    let farm = Farm::start().await;
    let sibling = proto::Platform { architecture: "386".to_owned(), ..hello("w1").platforms[0].clone() };
    let platforms = vec![hello("w1").platforms[0].clone(), sibling];
    let mut worker = Worker::join(farm.channel(), proto::Hello { platforms, ..hello("w1") }).await.unwrap();

    let mut wanted = plan(&format!("{registry}/{base}:1"), &["linux/amd64", "linux/386"]);
    wanted.output = Output::Push;
    wanted.tags =
        ["v1", "latest"].map(|tag| format!("{registry}/{repository}:{tag}").parse().unwrap()).to_vec();
    let (_, blobs) = crate::harness::plan(&["linux/amd64"]);
    farm.upload(&blobs).await.unwrap();
    let build = farm.submit_plan("r1", plan_to_proto(&wanted)).await.unwrap().build_id;

    for _ in 0..2 {
        let lease = worker.lease().await;
        let spec = lease.spec.unwrap();
        assert_eq!(spec.lock.unwrap().images[0].digest, digest);
        assert_eq!(spec.repositories, [format!("{registry}/{repository}")]);
        let platform = spec.platform.unwrap();
        let pushed = push_untagged(&registry, &repository, &format!("linux/{}", platform.architecture));
        let image = proto::ImageResult {
            manifest_digest: pushed.digest.to_string(),
            manifest_bytes: pushed.size,
            media_type: pushed.media_type,
            config_digest: format!("sha256:{}", "1".repeat(64)),
            repository: format!("{registry}/{repository}"),
            ..proto::ImageResult::default()
        };
        worker
            .say(Up::Result(proto::AttemptResult {
                attempt: lease.attempt,
                image: Some(image),
                failure: None,
                log_bytes: 0,
                log_warning: String::new(),
            }))
            .await;
    }
    let record = farm.ended(&build).await;
    assert_eq!(record.state(), proto::BuildState::Succeeded, "{record:#?}");
    let index = oci::get_manifest(&registry, &repository, "latest").unwrap();
    assert_eq!((record.index_digest, record.index_bytes), (index.digest, index.bytes.len() as u64));
    assert!(record.tags.iter().all(|tag| tag.moved) && record.tags.len() == 2, "{:?}", record.tags);
    assert_eq!(oci::tags(&registry, &repository).unwrap(), ["latest", "v1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_lacks_a_platform_fails_before_any_lease() {
    let (registry, base) = (registry(), unique("base"));
    oci::push_index(&registry, &base, "1", &[image("linux/arm64")]).unwrap();
    let farm = Farm::start().await;
    let (_, blobs) = crate::harness::plan(&["linux/amd64"]);
    farm.upload(&blobs).await.unwrap();
    let wanted = plan(&format!("{registry}/{base}:1"), &["linux/amd64"]);
    let build = farm.submit_plan("r1", plan_to_proto(&wanted)).await.unwrap().build_id;
    let record = farm.ended(&build).await;
    assert_eq!(record.state(), proto::BuildState::Failed);
    assert_eq!(record.failure.unwrap().code, "base_lacks_platform");
    assert!(record.jobs.iter().all(|job| job.attempts.is_empty()));
}
