//! Bases in a real registry, and in registries that do not answer.

use std::time::{Duration, Instant};

use archyard_model::{BaseKind, Failure, FailureClass, Lock, Plan};
use archyard_scheduler::lock::resolve;
use xtask::oci;

use crate::fixture::{answering, client, image, plan, registry, unique};

const PATIENCE: Duration = Duration::from_secs(20);

async fn lock(plan: &Plan) -> Result<Lock, Failure> {
    resolve(&client(plan), plan, PATIENCE).await.map(|resolved| resolved.lock)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_locked_with_what_it_offers() {
    let (registry, repository) = (registry(), unique("index"));
    let digest =
        oci::push_index(&registry, &repository, "1", &[image("linux/amd64"), image("linux/arm/v6")]).unwrap();
    let name = format!("{registry}/{repository}:1");
    let locked = lock(&plan(&name, &["linux/amd64", "linux/arm/v7"])).await.unwrap();
    let image = &locked.images[&name];
    assert_eq!(image.digest.unwrap().to_string(), digest);
    assert_eq!(
        image.platforms.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["linux/amd64", "linux/arm/v6"]
    );
    assert!(!locked.is_unlocked());

    // A reference by digest stays what it is.
    let pinned = format!("{registry}/{repository}@{digest}");
    let locked = lock(&plan(&pinned, &["linux/amd64"])).await.unwrap();
    assert_eq!(locked.images[&pinned].digest.unwrap().to_string(), digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_without_images_is_refused_with_its_line() {
    let (registry, repository) = (registry(), unique("useless"));
    let inner = oci::push_index(&registry, &repository, "inner", &[image("linux/amd64")]).unwrap();
    let index = |manifests: serde_json::Value| {
        serde_json::json!({ "schemaVersion": 2, "mediaType": oci::INDEX, "manifests": manifests }).to_string()
    };
    let size = oci::get_manifest(&registry, &repository, &inner).unwrap().json.to_string().len();
    let nested = serde_json::json!([{ "mediaType": oci::INDEX, "digest": inner, "size": size }]);
    for (tag, manifests, want) in [
        ("empty", serde_json::json!([]), "it is an empty index; push an image to it, or name another"),
        (
            "nested",
            nested,
            &*format!("only other indexes; name one of those, as in {registry}/{repository}@{inner}"),
        ),
    ] {
        oci::put_manifest(&registry, &repository, tag, oci::INDEX, index(manifests).as_bytes()).unwrap();
        let name = format!("{registry}/{repository}:{tag}");
        let failure = lock(&plan(&name, &["linux/amd64"])).await.unwrap_err();
        assert_eq!((failure.class, failure.code.as_str()), (FailureClass::User, "base_unusable"));
        for part in ["Dockerfile:2", &name, want] {
            assert!(failure.message.contains(part), "{part} is not in {failure}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_without_the_platform_fails_in_seconds() {
    let (registry, repository) = (registry(), unique("partial"));
    oci::push_index(&registry, &repository, "1", &[image("linux/amd64"), image("linux/arm64")]).unwrap();
    let name = format!("{registry}/{repository}:1");
    let started = Instant::now();
    let failure = lock(&plan(&name, &["linux/amd64", "linux/riscv64"])).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::User, "base_lacks_platform"));
    for part in ["Dockerfile:2", &name, "no linux/riscv64", "linux/amd64, linux/arm64"] {
        assert!(failure.message.contains(part), "{part} is not in {failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_manifest_serves_its_own_platform_only() {
    let (registry, repository) = (registry(), unique("lone"));
    let digest = oci::push_manifest(&registry, &repository, "1", &image("linux/arm64")).unwrap();
    let name = format!("{registry}/{repository}:1");
    let locked = lock(&plan(&name, &["linux/arm64"])).await.unwrap();
    assert_eq!(locked.images[&name].digest.unwrap().to_string(), digest);
    let failure = lock(&plan(&name, &["linux/amd64"])).await.unwrap_err();
    assert_eq!(failure.code, "base_wrong_platform");
    for part in ["Dockerfile:2", &name, "linux/arm64", "linux/amd64"] {
        assert!(failure.message.contains(part), "{part} is not in {failure}");
    }
    // A frontend runs in BuildKit, whatever the job is for.
    let mut syntax = plan(&name, &["linux/amd64"]);
    syntax.bases[0].kind = BaseKind::Syntax;
    assert!(lock(&syntax).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_image_is_an_image_too() {
    let (registry, repository) = (registry(), unique("docker"));
    let oci_digest = oci::push_manifest(&registry, &repository, "oci", &image("linux/amd64")).unwrap();
    let mut manifest = oci::get_manifest(&registry, &repository, &oci_digest).unwrap().json;
    let media_type = "application/vnd.docker.distribution.manifest.v2+json";
    manifest["mediaType"] = media_type.into();
    manifest["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
    manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
    let bytes = manifest.to_string().into_bytes();
    let digest = oci::put_manifest(&registry, &repository, "1", media_type, &bytes).unwrap();
    let name = format!("{registry}/{repository}:1");
    let locked = lock(&plan(&name, &["linux/amd64"])).await.unwrap();
    assert_eq!(locked.images[&name].digest.unwrap().to_string(), digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_names_its_line() {
    let name = format!("{}/{}:1", registry(), unique("nothing"));
    let failure = lock(&plan(&name, &["linux/amd64"])).await.unwrap_err();
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::User, "base_not_found"));
    assert!(failure.message.contains("Dockerfile:2") && failure.message.contains(&name), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_not_there_is_a_warning() {
    let name = "127.0.0.1:9/gone:1";
    let locked = lock(&plan(name, &["linux/amd64"])).await.unwrap();
    assert!(locked.is_unlocked());
    let warning = locked.images[name].warning.as_ref().unwrap();
    assert!(warning.contains("127.0.0.1:9") && warning.contains("not locked"), "{warning}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_says_nothing_is_waited_for_no_longer_than_told() {
    let silent = answering(None).await;
    let name = format!("{}/slow:1", silent.address);
    let plan = plan(&name, &["linux/amd64"]);
    let started = Instant::now();
    let locked = resolve(&client(&plan), &plan, Duration::from_secs(1)).await.unwrap().lock;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let warning = locked.images[&name].warning.as_ref().unwrap();
    assert!(warning.contains("within 1 s"), "{warning}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_in_trouble_is_a_warning_and_one_that_denies_is_a_failure() {
    let broken = answering(Some(("503 Service Unavailable", "{}"))).await;
    let name = format!("{}/x:1", broken.address);
    let locked = lock(&plan(&name, &["linux/amd64"])).await.unwrap();
    assert!(locked.images[&name].warning.as_ref().unwrap().contains("503"));

    let closed = answering(Some(("403 Forbidden", "{}"))).await;
    let name = format!("{}/x:1", closed.address);
    let failure = lock(&plan(&name, &["linux/amd64"])).await.unwrap_err();
    assert_eq!((failure.class, failure.code.as_str()), (FailureClass::User, "base_denied"));
    assert!(failure.message.contains(&format!("docker login {}", closed.address)), "{failure}");

    let nonsense = answering(Some(("200 OK", "<html>"))).await;
    let name = format!("{}/x:1", nonsense.address);
    let failure = lock(&plan(&name, &["linux/amd64"])).await.unwrap_err();
    assert_eq!(failure.code, "base_unusable");
}
