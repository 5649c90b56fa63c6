//! Everything that is neither a build nor a push.

use archyard_worker::engine::{DockerEngine, Engine as _, EngineError, Feature, ProbeError};

use crate::fixture::{Tree, api, build, dockerfile, engine, request, unique};

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_says_what_the_engine_is() {
    let probe = engine().probe().await.unwrap();
    let version = api().version().await.unwrap();
    assert_eq!(Some(&probe.version), version.version.as_ref());
    assert!(probe.describe().starts_with("Docker Engine "), "{}", probe.describe());
    assert!(!probe.id.is_empty());
    assert_eq!(probe.has(Feature::OciExporter), probe.containerd_store);
    assert_eq!(probe.limitations().is_empty(), probe.features.len() == 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_not_there_is_named_with_a_remedy() {
    let nowhere = DockerEngine::connect("unix:///nonexistent/docker.sock").unwrap();
    let error = nowhere.probe().await.unwrap_err();
    assert!(matches!(error, ProbeError::Engine(EngineError::Unreachable { .. })), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("unix:///nonexistent/docker.sock") && text.contains("is it running"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_image_is_gone_and_its_steps_are_not() {
    let tree = Tree::builder().busybox().done();
    let mut request = request(&dockerfile(&format!("RUN echo {} > /x\n", unique("x"))));
    let image = build(&engine(), request.clone(), tree.clone()).await.succeeded().image;
    assert!(api().inspect_image(&image.to_string()).await.is_ok());
    engine().remove_image(image).await.unwrap();
    engine().remove_image(image).await.unwrap();
    assert!(api().inspect_image(&image.to_string()).await.is_err());
    request.build_ref = unique("build");
    let ended = build(&engine(), request, tree).await;
    assert_eq!(ended.succeeded().cached_steps, ended.succeeded().steps);
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_within_the_limit_takes_nothing() {
    let tree = Tree::builder().busybox().done();
    let mut request = request(&dockerfile(&format!("RUN echo {} > /x\n", unique("x"))));
    build(&engine(), request.clone(), tree.clone()).await.succeeded();
    assert_eq!(engine().prune(1 << 50).await.unwrap(), 0);
    request.build_ref = unique("build");
    let ended = build(&engine(), request, tree).await;
    assert_eq!(ended.succeeded().cached_steps, ended.succeeded().steps);
}
