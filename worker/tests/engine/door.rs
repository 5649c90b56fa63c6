//! Everything that is neither a build nor a push.

use archyard_worker::engine::{DockerEngine, Engine as _, EngineError, Feature, ProbeError};

use crate::fixture::{Kind, Tree, api, build, dockerfile, engine, request, unique};

on_every_engine! {
    a_probe_says_what_the_engine_is,
    a_removed_image_is_gone_and_its_steps_are_not,
    pruning_within_the_limit_takes_nothing,
}

async fn a_probe_says_what_the_engine_is(on: Kind) {
    let probe = engine(on).probe().await.unwrap();
    let version = api(on).version().await.unwrap();
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

async fn a_removed_image_is_gone_and_its_steps_are_not(on: Kind) {
    let tree = Tree::builder().busybox().done();
    let mut request = request(&dockerfile(&format!("RUN echo {} > /x\n", unique("x"))));
    let image = build(&engine(on), request.clone(), tree.clone()).await.succeeded().image;
    assert!(api(on).inspect_image(&image.to_string()).await.is_ok());
    engine(on).remove_image(image).await.unwrap();
    engine(on).remove_image(image).await.unwrap();
    assert!(api(on).inspect_image(&image.to_string()).await.is_err());
    request.build_ref = unique("build");
    let ended = build(&engine(on), request, tree).await;
    assert_eq!(ended.succeeded().cached_steps, ended.succeeded().steps);
}

async fn pruning_within_the_limit_takes_nothing(on: Kind) {
    let tree = Tree::builder().busybox().done();
    let mut request = request(&dockerfile(&format!("RUN echo {} > /x\n", unique("x"))));
    build(&engine(on), request.clone(), tree.clone()).await.succeeded();
    assert_eq!(engine(on).prune(1 << 50).await.unwrap(), 0);
    request.build_ref = unique("build");
    let ended = build(&engine(on), request, tree).await;
    assert_eq!(ended.succeeded().cached_steps, ended.succeeded().steps);
}
