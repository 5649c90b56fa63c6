//! Builds that start from others, as their callers meet them.

use archyard_model::Output;
use archyard_model::convert::plan_to_proto;
use archyard_proto::v1 as proto;
use tonic::{Code, Status};

use crate::harness::{Farm, Worker, hello, plan};

fn failure() -> proto::Failure {
    proto::Failure {
        failure_class: proto::FailureClass::User.into(),
        code: "run_failed".to_owned(),
        message: "RUN make failed".to_owned(),
        ..Default::default()
    }
}

async fn rerun(farm: &Farm, request: &str, build: &str) -> Result<proto::SubmitBuildResponse, Status> {
    let request = proto::RerunBuildRequest {
        request_id: request.to_owned(),
        build_id: build.to_owned(),
        credentials: Vec::new(),
    };
    farm.builds().rerun_build(request).await.map(tonic::Response::into_inner)
}

async fn promote(farm: &Farm, build: &str, tags: &[&str]) -> Result<proto::SubmitBuildResponse, Status> {
    let request = proto::PromoteBuildRequest {
        request_id: "promotion".to_owned(),
        build_id: build.to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..Default::default()
    };
    farm.builds().promote_build(request).await.map(tonic::Response::into_inner)
}

/// One platform of two has failed, and the build is archived.
async fn half(farm: &Farm, worker: &mut Worker) -> String {
    let build = farm.submit("first", &["linux/amd64", "linux/386"]).await;
    for lease in [worker.lease().await, worker.lease().await] {
        let fails = lease.spec.unwrap().platform.unwrap().architecture == "386";
        worker.finish(&lease.attempt.unwrap(), fails.then(failure), 0).await;
    }
    assert_eq!(farm.ended(&build).await.state(), proto::BuildState::Failed);
    build
}

fn both() -> proto::Hello {
    let amd = hello("w1").platforms[0].clone();
    let sibling = proto::Platform { architecture: "386".to_owned(), ..amd.clone() };
    proto::Hello { platforms: vec![amd, sibling], ..hello("w1") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rerun_is_a_build_of_its_own_that_asks_for_the_rest_alone() {
    let mut farm = Farm::start().await;
    let mut worker = Worker::join(farm.channel(), both()).await.unwrap();
    let first = half(&farm, &mut worker).await;
    // What is known of the first build is read from the disk of its views.
    farm.restart().await;
    let mut worker = Worker::join(farm.channel(), both()).await.unwrap();
    let again = rerun(&farm, "again", &first).await.unwrap();
    let repeated = rerun(&farm, "again", &first).await.unwrap();
    assert_eq!((&repeated.build_id, repeated.existing, again.existing), (&again.build_id, true, false));
    let lease = worker.lease().await;
    assert_eq!(lease.spec.unwrap().platform.unwrap().architecture, "386");
    worker.finish(&lease.attempt.unwrap(), None, 0).await;
    let record = farm.ended(&again.build_id).await;
    assert_eq!(record.state(), proto::BuildState::Succeeded);
    let origin = record.origin.unwrap();
    assert_eq!((origin.kind(), origin.build_id), (proto::OriginKind::Rerun, first.clone()));
    let carried: Vec<bool> = record.jobs.iter().map(|job| job.carried).collect();
    assert_eq!(carried, [true, false]);
    let status = rerun(&farm, "more", &again.build_id).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("nothing of it is left"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_built_again_says_why() {
    let farm = Farm::start().await;
    let mut worker = Worker::join(farm.channel(), both()).await.unwrap();
    let first = half(&farm, &mut worker).await;
    let running = farm.submit("running", &["linux/amd64"]).await;
    let status = rerun(&farm, "r1", &running).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("is running") && status.message().contains("cancel it"), "{status}");
    let status = rerun(&farm, "r2", "01ARZ3NDEKTSV4RRFFQ69G5FAV").await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let status = rerun(&farm, "not a request", &first).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);

    // Somebody removed what was uploaded.
    let blobs = farm.dir.path().join("data").join("blobs");
    for folder in std::fs::read_dir(&blobs).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        std::fs::remove_dir_all(folder.path()).unwrap();
    }
    let status = rerun(&farm, "r3", &first).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    for part in [first.as_str(), "cannot be built again", "not here any more", "blake3:", "archyard build"] {
        assert!(status.message().contains(part), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_candidate_with_tags_is_promoted() {
    let farm = Farm::start().await;
    let mut worker = Worker::join(farm.channel(), both()).await.unwrap();
    let failed = half(&farm, &mut worker).await;
    let status = promote(&farm, &failed, &["r.example/app:1"]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("is no candidate"), "{status}");
    for tag in ["UPPER/x:1", "r.example/app:1@sha256:0", ""] {
        let status = promote(&farm, &failed, &[tag]).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{tag}: {status}");
        assert!(status.message().contains("tags[0]"), "{status}");
    }
    let (wanted, blobs) = plan(&["linux/amd64"]);
    farm.upload(&blobs).await.unwrap();
    let wanted = archyard_model::Plan {
        output: Output::Candidate,
        staging: Some("127.0.0.1:9/staging".to_owned()),
        ..wanted
    };
    let build = farm.submit_plan("candidate", plan_to_proto(&wanted)).await.unwrap().build_id;
    let status = promote(&farm, &build, &["r.example/app:1"]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("once it has succeeded"), "{status}");
}
