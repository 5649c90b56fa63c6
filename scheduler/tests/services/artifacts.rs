//! What workers leave for clients, over the wire.

use archyard_model::convert::plan_to_proto;
use archyard_model::{Blake3, Output, Plan, Sha256};
use archyard_proto::v1 as proto;
use proto::artifact_service_client::ArtifactServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::harness::{Farm, Worker, hello, part, plan};

fn artifacts(farm: &Farm) -> ArtifactServiceClient<Channel> {
    ArtifactServiceClient::new(farm.channel())
}

/// A build of this output that is under way on a worker.
async fn running(farm: &Farm, worker: &mut Worker, request: &str) -> (String, proto::AttemptRef) {
    let (plan, blobs) = plan(&["linux/amd64"]);
    farm.upload(&blobs).await.unwrap();
    let plan = Plan { output: Output::Tar, ..plan };
    let build = farm.submit_plan(request, plan_to_proto(&plan)).await.unwrap().build_id;
    (build, worker.lease().await.attempt.unwrap())
}

async fn upload(farm: &Farm, attempt: &proto::AttemptRef, blob: &[u8]) -> Result<u64, Status> {
    let message = proto::UploadArtifactsRequest { attempt: Some(attempt.clone()), parts: vec![part(blob)] };
    let answer = artifacts(farm).upload(tokio_stream::once(message)).await?;
    Ok(answer.into_inner().stored)
}

async fn missing(farm: &Farm, attempt: &proto::AttemptRef, blob: &[u8]) -> Result<usize, Status> {
    let digests = vec![Blake3::of(blob).as_bytes().to_vec()];
    let request = proto::FindMissingArtifactsRequest { attempt: Some(attempt.clone()), digests };
    Ok(artifacts(farm).find_missing(request).await?.into_inner().digests.len())
}

async fn download(farm: &Farm, build: &str, blob: &[u8], offset_bytes: u64) -> Result<Vec<u8>, Status> {
    let request = proto::DownloadArtifactRequest {
        build_id: build.to_owned(),
        blob: Blake3::of(blob).to_string(),
        offset_bytes,
    };
    let mut stream = artifacts(farm).download(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.message().await? {
        bytes.extend_from_slice(&chunk.data);
    }
    Ok(bytes)
}

/// Whether anything is kept, and for how many seconds after the build's end.
async fn kept(farm: &Farm, build: &str) -> (bool, Option<i64>) {
    let request = proto::GetBuildRequest { build_id: build.to_owned() };
    let answer = farm.builds().get_build(request).await.unwrap().into_inner();
    let ended = answer.build.unwrap().ended_at;
    let seconds = answer.artifacts_until.map(|until| until.seconds - ended.unwrap().seconds);
    (answer.artifacts_kept, seconds)
}

fn image(blob: &[u8]) -> proto::ImageResult {
    let artifact = proto::Artifact {
        media_type: "application/x-tar".to_owned(),
        digest: Sha256::from_bytes([7; 32]).to_string(),
        size_bytes: blob.len() as u64,
        blob: Blake3::of(blob).to_string(),
    };
    proto::ImageResult { artifacts: vec![artifact], ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_gives_what_its_worker_left_and_nothing_else() {
    let mut farm = Farm::start().await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let (build, attempt) = running(&farm, &mut worker, "r1").await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    assert_eq!(missing(&farm, &attempt, b"blob").await.unwrap(), 1);
    assert_eq!(upload(&farm, &attempt, b"blob").await.unwrap(), 1);
    assert_eq!(missing(&farm, &attempt, b"blob").await.unwrap(), 0);
    assert_eq!(
        download(&farm, &build, b"blob", 0).await.unwrap_err().code(),
        Code::NotFound,
        "no result yet"
    );
    assert_eq!(kept(&farm, &build).await, (true, None), "for how long is not known yet");
    worker.succeed(&attempt, image(b"blob")).await;
    farm.ended(&build).await;
    assert_eq!(kept(&farm, &build).await, (true, Some(6 * 60 * 60)));

    assert_eq!(download(&farm, &build, b"blob", 0).await.unwrap(), b"blob");
    assert_eq!(download(&farm, &build, b"blob", 3).await.unwrap(), b"b");
    assert_eq!(download(&farm, &build, b"blob", 5).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(download(&farm, &build, &large, 0).await.unwrap_err().code(), Code::NotFound);
    let other = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    assert_eq!(download(&farm, other, b"blob", 0).await.unwrap_err().code(), Code::NotFound);

    // An attempt that has ended leaves nothing more, and a restart changes nothing.
    assert_eq!(upload(&farm, &attempt, &large[..9]).await.unwrap_err().code(), Code::FailedPrecondition);
    farm.restart().await;
    assert_eq!(download(&farm, &build, b"blob", 0).await.unwrap(), b"blob");
    let release = || proto::ReleaseArtifactsRequest { build_id: build.clone() };
    artifacts(&farm).release(release()).await.unwrap();
    artifacts(&farm).release(release()).await.unwrap();
    let gone = download(&farm, &build, b"blob", 0).await.unwrap_err();
    assert!(gone.code() == Code::NotFound && gone.message().contains("build again"), "{gone:?}");
    assert_eq!(kept(&farm, &build).await, (false, None));
}
