//! Bad input and bad neighbours: one clear error, and nothing left behind.

use archyard_model::convert::plan_to_proto;
use archyard_model::limits;
use archyard_proto::v1 as proto;
use archyard_scheduler::{Config, Listen, Scheduler};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{Farm, plan};

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_plan_names_field_value_and_remedy() {
    let farm = Farm::start().await;
    let (good, blobs) = plan(&["linux/amd64"]);
    farm.upload(&blobs).await.unwrap();
    let good = plan_to_proto(&good);
    let platform = |architecture: &str| proto::Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: String::new(),
    };
    for (field, remedy, bad) in [
        (
            "plan.platforms[0]",
            "did you mean linux/amd64",
            proto::Plan { platforms: vec![platform("amd46")], ..good.clone() },
        ),
        (
            "plan.platforms[1]",
            "twice",
            proto::Plan { platforms: vec![platform("arm64"), platform("aarch64")], ..good.clone() },
        ),
        ("plan.tags", "-t", proto::Plan { output: proto::OutputKind::Push.into(), ..good.clone() }),
        ("plan.tags[0]", "lowercase", proto::Plan { tags: vec!["UPPER/x:1".to_owned()], ..good.clone() }),
        ("plan.project", "--project", proto::Plan { project: "../x".to_owned(), ..good.clone() }),
        ("plan.output", "CHECK, PUSH", proto::Plan { output: 0, ..good.clone() }),
        ("plan", "1048576", proto::Plan { dockerfile_name: "x".repeat(limits::PLAN_BYTES), ..good.clone() }),
    ] {
        let status = farm.submit_plan("r1", bad).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
        assert!(status.message().contains(remedy), "{field}: {status:?}");
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
    let status = farm.submit_plan("not valid!", good).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let listed = farm.builds().list_builds(proto::ListBuildsRequest::default()).await.unwrap().into_inner();
    assert!(listed.builds.is_empty(), "a bad plan left a build");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_builds_and_bad_pages() {
    let farm = Farm::start().await;
    let unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned();
    let get = |build_id: &str| proto::GetBuildRequest { build_id: build_id.to_owned() };
    let status = farm.builds().get_build(get(&unknown)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains(&unknown), "{status:?}");
    assert_eq!(farm.builds().get_build(get("nonsense")).await.unwrap_err().code(), Code::InvalidArgument);
    let watch = proto::WatchBuildRequest { build_id: unknown.clone(), after_seq: 0 };
    assert_eq!(farm.builds().watch_build(watch).await.unwrap_err().code(), Code::NotFound);
    let cancel = proto::CancelBuildRequest { build_id: unknown.clone(), reason: String::new() };
    assert_eq!(farm.builds().cancel_build(cancel).await.unwrap_err().code(), Code::NotFound);
    let attach = proto::AttachBuildRequest { build_id: unknown.clone(), credentials: Vec::new() };
    assert_eq!(farm.builds().attach_build(attach).await.unwrap_err().code(), Code::NotFound);
    let long = proto::CancelBuildRequest { build_id: unknown, reason: "x".repeat(limits::REASON_BYTES + 1) };
    assert_eq!(farm.builds().cancel_build(long).await.unwrap_err().code(), Code::InvalidArgument);
    for bad in [
        proto::ListBuildsRequest { page_size: limits::PAGE_MAX + 1, ..Default::default() },
        proto::ListBuildsRequest { page_token: "nonsense".to_owned(), ..Default::default() },
        proto::ListBuildsRequest { states: vec![0], ..Default::default() },
        proto::ListBuildsRequest { project: "../x".to_owned(), ..Default::default() },
    ] {
        let status = farm.builds().list_builds(bad.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{bad:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversize_message_is_refused_before_it_is_read() {
    let farm = Farm::start().await;
    let plan = proto::Plan { dockerfile_name: "x".repeat(limits::MESSAGE_BYTES + 1), ..Default::default() };
    let status = farm.submit_plan("r1", plan).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert!(status.message().contains("4194304"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_message_is_its_senders_fault() {
    let farm = Farm::start().await;
    let mut grpc = tonic::client::Grpc::new(farm.channel());
    grpc.ready().await.unwrap();
    // A request of the same shape, whose text is no UTF-8 where the service expects a string.
    let codec = tonic_prost::ProstCodec::<proto::ContextEntry, proto::GetBuildResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/archyard.v1.BuildService/GetBuild");
    let malformed = proto::ContextEntry { path: vec![0xff, 0xfe], ..Default::default() };
    let status = grpc.unary(tonic::Request::new(malformed), path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer() {
    let farm = Farm::start().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(farm.channel());
    for service in ["", "archyard.v1.BuildService", "archyard.v1.WorkerService"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, tonic_health::pb::health_check_response::ServingStatus::Serving, "{service}");
    }
    use tonic_reflection::pb::v1 as reflection;
    let request = reflection::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(reflection::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client = reflection::server_reflection_client::ServerReflectionClient::new(farm.channel());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert!(format!("{answer:?}").contains("archyard.v1.ContextService"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_schedulers_share_neither_folder_nor_socket() {
    let farm = Farm::start().await;
    let data = farm.dir.path().join("data");
    let other = Listen::Unix(farm.dir.path().join("other.sock"));
    let error = Scheduler::start(Config::new(data.clone(), vec![other])).await.unwrap_err().to_string();
    assert!(error.contains("--data-dir") && error.contains(data.to_str().unwrap()), "{error}");
    let socket = Listen::Unix(farm.dir.path().join("s.sock"));
    let config = Config::new(farm.dir.path().join("other"), vec![socket]);
    let error = Scheduler::start(config).await.unwrap_err().to_string();
    assert!(error.contains("another scheduler listens on unix:"), "{error}");
    assert!(farm.dir.path().join("s.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_open_and_bind_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let socket = dir.path().join("s.sock");
    let listen = vec![Listen::Unix(socket.clone()), "0.0.0.0:0".parse().unwrap()];
    let error = Scheduler::start(Config::new(data.clone(), listen)).await.unwrap_err().to_string();
    assert!(error.contains("0.0.0.0:0") && error.contains("--tls"), "{error}");
    assert!(!data.exists() && !socket.exists());
}
