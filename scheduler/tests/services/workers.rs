//! The control stream and the farm's own service.

use std::time::Duration;

use archyard_proto::v1 as proto;
use archyard_scheduler::Times;
use proto::scheduler_message::Message as Down;
use proto::worker_message::Message as Up;
use tonic::Code;

use crate::harness::{Farm, Worker, hello};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_welcomed_listed_and_drained() {
    let farm = Farm::start().await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    assert_eq!(
        (worker.welcome.protocol, worker.welcome.heartbeat_ms, worker.welcome.lease_ms),
        (2, 2_000, 30_000)
    );
    worker.say(Up::Heartbeat(proto::Heartbeat { sequence: 7, ..Default::default() })).await;
    assert!(matches!(worker.next().await.unwrap(), Some(Down::HeartbeatAck(ack)) if ack.sequence == 7));

    let listed = farm.farm().list_workers(proto::ListWorkersRequest {}).await.unwrap().into_inner().workers;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].name.as_str(), listed[0].state()), ("w1", proto::WorkerState::Ready));
    assert_eq!(listed[0].slots, 2);

    let request = proto::DrainWorkerRequest { name: "w1".to_owned(), draining: true };
    let drained = farm.farm().drain_worker(request).await.unwrap().into_inner().worker.unwrap();
    assert_eq!(drained.state(), proto::WorkerState::Draining);
    assert!(matches!(worker.next().await.unwrap(), Some(Down::Drain(drain)) if drain.draining));
    let request = proto::DrainWorkerRequest { name: "stranger".to_owned(), draining: true };
    let unknown = farm.farm().drain_worker(request).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("stranger"), "{unknown:?}");
    let request = proto::DrainWorkerRequest { name: "Not A Name".to_owned(), draining: true };
    assert_eq!(farm.farm().drain_worker(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_farm_is() {
    let farm = Farm::start().await;
    farm.submit("r1", &["linux/amd64"]).await;
    let about = farm.farm().get_farm(proto::GetFarmRequest {}).await.unwrap().into_inner();
    assert_eq!((about.protocol, about.principal.as_str()), (2, "local"));
    assert_eq!(about.version, env!("CARGO_PKG_VERSION"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_replaced_says_by_whom() {
    let farm = Farm::start().await;
    let of = |session: &str, instance: &str, dial: u64| proto::Hello {
        session_id: session.to_owned(),
        instance_id: instance.to_owned(),
        dial,
        ..hello("w1")
    };
    let mut current = Worker::join(farm.channel(), of("first", "folder", 1)).await.unwrap();
    for (next, reason, clash) in [
        (of("first", "folder", 2), "the same agent has connected again", false),
        (of("second", "folder", 1), "the agent was restarted", false),
        (of("third", "another folder", 1), "give each worker a --name of its own", true),
        // An agent of an earlier version says nothing of its folder.
        (of("fourth", "", 1), "give each worker a --name of its own", true),
        (of("fifth", "", 1), "give each worker a --name of its own", true),
    ] {
        let next = Worker::join(farm.channel(), next).await.unwrap();
        let ended = std::mem::replace(&mut current, next).next().await.unwrap_err();
        assert_eq!(ended.code(), Code::Aborted, "{ended:?}");
        assert!(ended.message().contains(reason), "{reason}: {ended:?}");
        assert_eq!(ended.message().contains("--name"), clash, "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_lease_goes_elsewhere() {
    let farm = Farm::start().await;
    let mut full = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    farm.submit("r1", &["linux/amd64"]).await;
    let Some(Down::Lease(lease)) = full.next().await.unwrap() else { panic!("no lease") };
    let mut other = Worker::join(farm.channel(), hello("w2")).await.unwrap();
    full.say(Up::LeaseRejected(proto::LeaseRejected {
        attempt: lease.attempt.clone(),
        code: "disk_low".to_owned(),
        message: "2 GB left".to_owned(),
    }))
    .await;
    let taken = other.lease().await.attempt.unwrap();
    assert_eq!(taken.job, lease.attempt.unwrap().job);
    assert_eq!(taken.token, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_worker_is_lost_and_its_attempt_tried_again() {
    let short = Duration::from_millis(400);
    let farm = Farm::with(Times { heartbeat: short / 4, lease: short, ..Times::default() }).await;
    let mut silent = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    assert_eq!((silent.welcome.heartbeat_ms, silent.welcome.lease_ms), (100, 400));
    let build = farm.submit("r1", &["linux/amd64"]).await;
    let first = silent.lease().await.attempt.unwrap();
    let mut other = Worker::join(farm.channel(), hello("w2")).await.unwrap();
    let second = loop {
        other.say(Up::Heartbeat(proto::Heartbeat::default())).await;
        if let Some(Down::Lease(lease)) = other.next().await.unwrap() {
            break lease.attempt.unwrap();
        }
        tokio::time::sleep(short / 8).await;
    };
    assert_eq!((second.job, second.token), (first.job, 2));
    let record = farm.record(&build).await;
    let lost = record.jobs[0].attempts[0].failure.as_ref().unwrap();
    assert_eq!(lost.failure_class(), proto::FailureClass::Infrastructure);
    assert!(lost.message.contains("w1 was silent"), "{}", lost.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_nobody_runs_fails_after_a_patience() {
    let patience = Duration::from_millis(300);
    let times = Times { no_worker: patience, ..Times::default() };
    let farm = Farm::with(times).await;
    let _worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let build = farm.submit("r1", &["linux/s390x"]).await;
    let record = farm.ended(&build).await;
    assert_eq!(record.state(), proto::BuildState::Failed);
    assert_eq!(record.jobs[0].failure.as_ref().unwrap().code, "no_worker");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_makes_no_sense_is_refused() {
    let farm = Farm::start().await;
    let base = hello("w1");
    for (hello, code, remedy) in [
        (
            proto::Hello { protocol_min: 3, protocol_max: 4, ..base.clone() },
            Code::FailedPrecondition,
            "upgrade",
        ),
        // One that would inspect nothing, and not say so.
        (
            proto::Hello { protocol_min: 1, protocol_max: 1, ..base.clone() },
            Code::FailedPrecondition,
            "upgrade",
        ),
        (proto::Hello { name: "Worker One".to_owned(), ..base.clone() }, Code::InvalidArgument, "--name"),
        (
            proto::Hello { platforms: Vec::new(), ..base.clone() },
            Code::InvalidArgument,
            "at least one platform",
        ),
        (proto::Hello { slots: 0, ..base.clone() }, Code::InvalidArgument, "slots"),
        (proto::Hello { slots: 257, ..base.clone() }, Code::InvalidArgument, "slots"),
        (proto::Hello { pool: "vip".to_owned(), ..base.clone() }, Code::InvalidArgument, "trusted"),
    ] {
        let status = Worker::join(farm.channel(), hello.clone()).await.err().unwrap();
        assert_eq!(status.code(), code, "{hello:?}: {status:?}");
        assert!(status.message().contains(remedy), "{status:?}");
    }
    let mut client = proto::worker_service_client::WorkerServiceClient::new(farm.channel());
    let first = proto::WorkerMessage { message: Some(Up::Heartbeat(proto::Heartbeat::default())) };
    let status = client.control(tokio_stream::once(first)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    // A message that is none ends the stream and nothing else.
    let mut worker = Worker::join(farm.channel(), base).await.unwrap();
    worker.say(Up::Result(proto::AttemptResult::default())).await;
    assert_eq!(worker.next().await.unwrap_err().code(), Code::InvalidArgument);
}
