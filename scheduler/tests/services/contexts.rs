//! Blobs over the wire.

use archyard_model::convert::plan_to_proto;
use archyard_model::{Blake3, limits};
use archyard_proto::v1 as proto;
use bytes::Bytes;
use tonic::Code;

use crate::harness::{Farm, collect, part, plan};

fn digests(blobs: &[Vec<u8>]) -> Vec<Bytes> {
    blobs.iter().map(|blob| Bytes::copy_from_slice(Blake3::of(blob).as_bytes())).collect()
}

async fn missing(farm: &Farm, digests: Vec<Bytes>) -> Vec<Bytes> {
    let digests = digests.into_iter().map(|digest| digest.to_vec()).collect();
    let request = proto::FindMissingRequest { digests };
    let answer = farm.contexts().find_missing(request).await.unwrap().into_inner();
    answer.digests.into_iter().map(Into::into).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_missing_need_travel() {
    let farm = Farm::start().await;
    let (_, blobs) = plan(&["linux/amd64"]);
    assert_eq!(missing(&farm, digests(&blobs)).await, digests(&blobs));
    let answer = farm.upload(&blobs).await.unwrap();
    assert_eq!(answer.stored, 3);
    assert_eq!(missing(&farm, digests(&blobs)).await, [] as [Bytes; 0]);
    assert_eq!(farm.upload(&blobs).await.unwrap().stored, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_blob_travels_in_pieces_both_ways() {
    let farm = Farm::start().await;
    let large: Vec<u8> = (0..9_000_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[2]).collect();
    let digest = Bytes::copy_from_slice(Blake3::of(&large).as_bytes());
    let chunks: Vec<&[u8]> = large.chunks(limits::BLOB_MESSAGE_BYTES).collect();
    let messages: Vec<proto::UploadRequest> = chunks
        .iter()
        .enumerate()
        .map(|(at, chunk)| proto::UploadRequest {
            parts: vec![proto::BlobPart {
                digest: digest.clone(),
                size_bytes: if at == 0 { large.len() as u64 } else { 0 },
                data: Bytes::copy_from_slice(chunk),
                last: at + 1 == chunks.len(),
            }],
        })
        .collect();
    let answer = farm.contexts().upload(tokio_stream::iter(messages)).await.unwrap().into_inner();
    assert_eq!((answer.stored, answer.stored_bytes), (1, 9_000_000));
    let request = proto::DownloadRequest { digests: vec![digest.to_vec()] };
    let messages = collect(farm.contexts().download(request).await.unwrap().into_inner()).await.unwrap();
    let bytes: Vec<u8> =
        messages.into_iter().flat_map(|message| message.parts).flat_map(|part| part.data).collect();
    assert_eq!(bytes, large);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_not_what_it_says_is_refused_and_leaves_nothing() {
    let farm = Farm::start().await;
    let wrong = proto::BlobPart { data: Bytes::from_static(b"HELLO"), ..part(b"hello") };
    let messages = tokio_stream::once(proto::UploadRequest { parts: vec![wrong] });
    let status = farm.contexts().upload(messages).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains(&Blake3::of(b"hello").to_string()), "{status:?}");
    assert_eq!(missing(&farm, digests(&[b"hello".to_vec()])).await.len(), 1);
    no_incoming(&farm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dies_in_mid_upload_leaves_nothing() {
    let farm = Farm::start().await;
    let (sender, messages) = tokio::sync::mpsc::channel(1);
    let mut contexts = farm.contexts();
    let mut set = tokio::task::JoinSet::new();
    let upload = set
        .spawn(async move { contexts.upload(tokio_stream::wrappers::ReceiverStream::new(messages)).await });
    let open = proto::BlobPart { data: Bytes::from_static(b"hel"), last: false, ..part(b"hello") };
    sender.send(proto::UploadRequest { parts: vec![part(b"first"), open] }).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    upload.abort();
    drop(sender);
    no_incoming(&farm).await;
    assert_eq!(missing(&farm, digests(&[b"first".to_vec(), b"hello".to_vec()])).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_without_its_blobs_is_refused_by_name() {
    let farm = Farm::start().await;
    let (plan, blobs) = plan(&["linux/amd64"]);
    let status = farm.submit_plan("r1", plan_to_proto(&plan)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert!(status.message().contains(&plan.context.manifest_digest.to_string()), "{status:?}");
    // The manifest without one of its files.
    farm.upload(&[blobs[0].clone(), blobs[2].clone()]).await.unwrap();
    let status = farm.submit_plan("r1", plan_to_proto(&plan)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert!(status.message().contains(&Blake3::of(&blobs[1]).to_string()), "{status:?}");
    farm.upload(&blobs[1..2]).await.unwrap();
    farm.submit_plan("r1", plan_to_proto(&plan)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_digests_are_refused() {
    let farm = Farm::start().await;
    let digests = vec![vec![0; 32]; limits::BLOB_DIGESTS + 1];
    let status = farm.contexts().find_missing(proto::FindMissingRequest { digests }).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("32768"), "{status:?}");
    let request = proto::DownloadRequest { digests: vec![vec![7; 32]] };
    let status = collect(farm.contexts().download(request).await.unwrap().into_inner()).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
}

async fn no_incoming(farm: &Farm) {
    let incoming = farm.dir.path().join("data/blobs/incoming");
    for _ in 0..200 {
        if std::fs::read_dir(&incoming).unwrap().count() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("a broken upload left something");
}
