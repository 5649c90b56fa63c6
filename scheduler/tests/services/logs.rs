//! Logs: what a worker spools is what a reader gets, byte for byte.

use std::time::Duration;

use archyard_proto::v1 as proto;
use tonic::Code;

use crate::harness::{Farm, Spooler, Worker, hello};

fn whole(build: &str, follow: bool) -> proto::ReadLogRequest {
    proto::ReadLogRequest { build_id: build.to_owned(), follow, ..Default::default() }
}

fn infrastructure() -> proto::Failure {
    proto::Failure {
        failure_class: proto::FailureClass::Infrastructure.into(),
        code: "engine_gone".to_owned(),
        message: "the Engine went away".to_owned(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gets_every_byte_and_then_the_end() {
    let farm = Farm::start().await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let build = farm.submit("r1", &["linux/amd64"]).await;
    let attempt = worker.lease().await.attempt.unwrap();

    let mut follower = farm.builds().read_log(whole(&build, true)).await.unwrap().into_inner();
    let mut spooler = Spooler::connect(farm.channel()).await;
    let ack = spooler.open(&attempt).await;
    assert_eq!((ack.received_bytes, ack.refused), (0, false));
    let pieces: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; 20_000]).collect();
    let mut sent: Vec<u8> = Vec::new();
    for piece in &pieces {
        // Every piece twice: what is known already adds nothing.
        spooler.send(&attempt, sent.len() as u64, piece, false).await;
        spooler.send(&attempt, sent.len() as u64, piece, false).await;
        sent.extend_from_slice(piece);
    }
    let first = follower.message().await.unwrap().unwrap();
    assert_eq!((first.token, first.offset), (1, 0));

    // The result overtakes the end of the log.
    worker.finish(&attempt, None, sent.len() as u64 + 4).await;
    farm.ended(&build).await;
    spooler.send(&attempt, sent.len() as u64, b"done", true).await;
    sent.extend_from_slice(b"done");
    loop {
        if spooler.acknowledged().await.unwrap().received_bytes == sent.len() as u64 {
            break;
        }
    }
    let mut got = first.data.to_vec();
    while let Some(chunk) = follower.message().await.unwrap() {
        assert_eq!(chunk.offset, got.len() as u64);
        got.extend_from_slice(&chunk.data);
    }
    assert!(got == sent, "the follower got {} bytes, not those {} that were sent", got.len(), sent.len());

    // And who comes later gets the same, from any offset.
    assert!(farm.log(whole(&build, false)).await.unwrap() == sent);
    let tail = proto::ReadLogRequest { token: 1, offset: sent.len() as u64 - 2, ..whole(&build, true) };
    assert_eq!(farm.log(tail).await.unwrap(), b"ne");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_goes_on_with_the_next_attempt() {
    let farm = Farm::start().await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let build = farm.submit("r1", &["linux/amd64"]).await;
    let mut spooler = Spooler::connect(farm.channel()).await;
    let first = worker.lease().await.attempt.unwrap();
    spooler.open(&first).await;
    spooler.send(&first, 0, b"one ", true).await;
    spooler.acknowledged().await.unwrap();
    let channel = farm.channel();
    let request = whole(&build, true);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut builds = proto::build_service_client::BuildServiceClient::new(channel);
        crate::harness::collect(builds.read_log(request).await.unwrap().into_inner()).await.unwrap()
    });
    worker.finish(&first, Some(infrastructure()), 4).await;
    let second = worker.lease().await.attempt.unwrap();
    assert_eq!(second.token, 2);
    spooler.open(&second).await;
    spooler.send(&second, 0, b"two", true).await;
    worker.finish(&second, None, 3).await;
    let chunks = tasks.join_next().await.unwrap().unwrap();
    let got: Vec<(u64, &[u8])> = chunks.iter().map(|chunk| (chunk.token, &*chunk.data)).collect();
    assert_eq!(got, [(1, &b"one "[..]), (2, &b"two"[..])]);
    let only = proto::ReadLogRequest { token: 1, ..whole(&build, true) };
    assert_eq!(farm.log(only).await.unwrap(), b"one ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_resumes_across_schedulers() {
    let mut farm = Farm::start().await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let build = farm.submit("r1", &["linux/amd64"]).await;
    let attempt = worker.lease().await.attempt.unwrap();
    let mut spooler = Spooler::connect(farm.channel()).await;
    spooler.open(&attempt).await;
    spooler.send(&attempt, 0, b"before ", false).await;
    assert_eq!(spooler.acknowledged().await.unwrap().received_bytes, 7);
    farm.restart().await;
    let running = vec![proto::RunningAttempt { attempt: Some(attempt.clone()), finished: false }];
    let mut worker = Worker::join(farm.channel(), proto::Hello { running, ..hello("w1") }).await.unwrap();
    let mut spooler = Spooler::connect(farm.channel()).await;
    assert_eq!(spooler.open(&attempt).await.received_bytes, 7);
    spooler.send(&attempt, 7, b"after", true).await;
    assert_eq!(spooler.acknowledged().await.unwrap().received_bytes, 12);
    worker.finish(&attempt, None, 12).await;
    assert_eq!(farm.log(whole(&build, true)).await.unwrap(), b"before after");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_order_or_not_ours_is_refused() {
    let farm = Farm::start().await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let build = farm.submit("r1", &["linux/amd64"]).await;
    let attempt = worker.lease().await.attempt.unwrap();
    let mut spooler = Spooler::connect(farm.channel()).await;
    let stale = proto::AttemptRef { token: 9, ..attempt.clone() };
    assert!(spooler.open(&stale).await.refused, "a token that never was is nobody's");
    spooler.open(&attempt).await;
    spooler.send(&attempt, 5, b"gap", false).await;
    let status = spooler.acknowledged().await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    let mut spooler = Spooler::connect(farm.channel()).await;
    spooler.send(&attempt, 0, b"unopened", false).await;
    assert_eq!(spooler.acknowledged().await.unwrap_err().code(), Code::InvalidArgument);

    for (request, code) in [
        (proto::ReadLogRequest { job_index: 1, ..whole(&build, false) }, Code::InvalidArgument),
        (proto::ReadLogRequest { token: 9, ..whole(&build, false) }, Code::NotFound),
        (whole("01ARZ3NDEKTSV4RRFFQ69G5FAV", false), Code::NotFound),
        (whole("nonsense", false), Code::InvalidArgument),
    ] {
        assert_eq!(farm.log(request.clone()).await.unwrap_err().code(), code, "{request:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_end_never_comes_is_told() {
    let farm = Farm::start().await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let build = farm.submit("r1", &["linux/amd64"]).await;
    let attempt = worker.lease().await.attempt.unwrap();
    worker.finish(&attempt, None, 100).await;
    let status = tokio::time::timeout(Duration::from_secs(25), farm.log(whole(&build, true)))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(status.code(), Code::DataLoss, "{status:?}");
    assert!(status.message().contains("100 bytes and only 0"), "{status:?}");
}
