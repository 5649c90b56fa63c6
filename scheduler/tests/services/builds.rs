//! From a submission to a record, and what can be asked meanwhile and afterwards.

use archyard_model::convert::plan_to_proto;
use archyard_proto::v1 as proto;
use proto::build_event::Event;
use tonic::Code;

use crate::harness::{Farm, Worker, collect, hello, plan};

fn kinds(events: &[proto::BuildEvent]) -> Vec<&'static str> {
    events
        .iter()
        .map(|event| match event.event.as_ref().unwrap() {
            Event::Accepted(_) => "accepted",
            Event::Locked(_) => "locked",
            Event::JobWaiting(_) => "job waiting",
            Event::JobLeased(_) => "leased",
            Event::JobStarted(_) => "started",
            Event::AttemptEnded(_) => "attempt ended",
            Event::JobEnded(_) => "job ended",
            Event::Publishing(_) => "publishing",
            Event::TagMoved(_) => "tag moved",
            Event::Ended(_) => "ended",
            Event::Waiting(_) => "waiting",
            Event::ContextMissed(_) => "context missed",
            Event::CancelRequested(_) => "cancel requested",
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_runs_and_is_kept() {
    let farm = Farm::start().await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let build = farm.submit("r1", &["linux/amd64"]).await;
    let lease = worker.lease().await;
    let spec = lease.spec.unwrap();
    assert_eq!(spec.dockerfile_name, "Dockerfile");
    assert!(lease.credentials.is_empty());
    worker.finish(&lease.attempt.unwrap(), None, 0).await;

    let events = farm.events(&build, 0).await;
    assert_eq!(
        kinds(&events),
        ["accepted", "locked", "leased", "started", "attempt ended", "job ended", "ended"]
    );
    assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "numbers have no gaps");
    let record = farm.record(&build).await;
    assert_eq!(record.state(), proto::BuildState::Succeeded);
    assert_eq!(record.principal, "local");
    assert_eq!(record.jobs[0].attempts.len(), 1);
    assert_eq!(record.jobs[0].result.as_ref().unwrap().config_digest, format!("sha256:{}", "1".repeat(64)));

    // A watcher that comes late, and one that resumes, see the same.
    assert_eq!(farm.events(&build, 0).await, events);
    assert_eq!(farm.events(&build, 5).await, events[5..]);
    assert_eq!(farm.events(&build, 7).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_is_the_same_build() {
    let farm = Farm::start().await;
    let first = farm.submit("r1", &["linux/amd64"]).await;
    let (plan, _) = plan(&["linux/amd64"]);
    let again = farm.submit_plan("r1", plan_to_proto(&plan)).await.unwrap();
    assert_eq!((again.build_id, again.existing), (first.clone(), true));
    assert_ne!(farm.submit("r2", &["linux/amd64"]).await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_build_survives_the_scheduler() {
    let mut farm = Farm::start().await;
    let build = farm.submit("r1", &["linux/amd64"]).await;
    farm.restart().await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let lease = worker.lease().await;
    let attempt = lease.attempt.unwrap();
    assert_eq!(attempt.job.as_ref().unwrap().build_id, build);

    // And the running attempt survives the next one: the worker tells of it, and goes on.
    farm.restart().await;
    let running = vec![proto::RunningAttempt { attempt: Some(attempt.clone()), finished: false }];
    let mut worker = Worker::join(farm.channel(), proto::Hello { running, ..hello("w1") }).await.unwrap();
    assert_eq!(worker.welcome.adopt, std::slice::from_ref(&attempt));
    worker.finish(&attempt, None, 0).await;
    let record = farm.ended(&build).await;
    assert_eq!(record.state(), proto::BuildState::Succeeded);
    assert_eq!(record.jobs[0].attempts.len(), 1, "the attempt was adopted, not repeated");

    farm.restart().await;
    assert_eq!(farm.record(&build).await, record);
    assert_eq!(kinds(&farm.events(&build, 0).await).last(), Some(&"ended"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_own_failure_fails_the_build_once() {
    let farm = Farm::start().await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let build = farm.submit("r1", &["linux/amd64"]).await;
    let lease = worker.lease().await;
    let failure = proto::Failure {
        failure_class: proto::FailureClass::User.into(),
        code: "run_failed".to_owned(),
        message: "RUN false: exit code 1".to_owned(),
        ..Default::default()
    };
    worker.finish(&lease.attempt.unwrap(), Some(failure), 0).await;
    let record = farm.ended(&build).await;
    assert_eq!(record.state(), proto::BuildState::Failed);
    assert_eq!(record.jobs[0].failure.as_ref().unwrap().code, "run_failed");
    assert_eq!(record.jobs[0].attempts.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_build_stops_its_worker() {
    let farm = Farm::start().await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let build = farm.submit("r1", &["linux/amd64"]).await;
    let lease = worker.lease().await;
    let request = proto::CancelBuildRequest { build_id: build.clone(), reason: "enough".to_owned() };
    farm.builds().cancel_build(request.clone()).await.unwrap();
    let stopped = loop {
        if let proto::scheduler_message::Message::Cancel(cancel) = worker.next().await.unwrap().unwrap() {
            break cancel;
        }
    };
    assert_eq!(stopped.attempt, lease.attempt);
    let failure = proto::Failure {
        failure_class: proto::FailureClass::Canceled.into(),
        code: "canceled".to_owned(),
        message: "canceled".to_owned(),
        ..Default::default()
    };
    worker.finish(&lease.attempt.unwrap(), Some(failure), 0).await;
    assert_eq!(farm.ended(&build).await.state(), proto::BuildState::Canceled);
    let late = farm.builds().cancel_build(request).await.unwrap_err();
    assert_eq!(late.code(), Code::FailedPrecondition, "{late:?}");
    assert!(late.message().contains("canceled"), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_holds_running_and_ended_builds_newest_first() {
    let farm = Farm::start().await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let mut want = Vec::new();
    for number in 0..5 {
        let build = farm.submit(&format!("r{number}"), &["linux/amd64"]).await;
        let lease = worker.lease().await;
        if number < 3 {
            worker.finish(&lease.attempt.unwrap(), None, 0).await;
            farm.ended(&build).await;
        }
        want.insert(0, build);
        // Names sort by their milliseconds.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let mut listed = Vec::new();
    let mut token = String::new();
    loop {
        let request = proto::ListBuildsRequest { page_size: 2, page_token: token, ..Default::default() };
        let page = farm.builds().list_builds(request).await.unwrap().into_inner();
        assert!(page.builds.len() <= 2);
        listed.extend(page.builds.into_iter().map(|build| build.build_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, want);
    let request =
        proto::ListBuildsRequest { states: vec![proto::BuildState::Running.into()], ..Default::default() };
    let running = farm.builds().list_builds(request).await.unwrap().into_inner();
    assert_eq!(running.builds.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_waits_for_its_clients_credentials() {
    let mut farm = Farm::start().await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let (mut plan, blobs) = plan(&["linux/amd64"]);
    plan.credential_hosts = vec!["registry.example".to_owned()];
    farm.upload(&blobs).await.unwrap();
    let credential = proto::RegistryCredential {
        host: "registry.example".to_owned(),
        username: "me".to_owned(),
        password: "hush".to_owned(),
        identity_token: String::new(),
    };

    // With them it runs, and they reach the worker.
    let request = proto::SubmitBuildRequest {
        request_id: "with".to_owned(),
        plan: Some(plan_to_proto(&plan)),
        credentials: vec![credential.clone()],
    };
    farm.builds().submit_build(request).await.unwrap();
    let lease = worker.lease().await;
    assert_eq!(lease.credentials, std::slice::from_ref(&credential));

    // Without them it waits and says so, until they are supplied; a restart loses them again.
    let build = farm.submit_plan("without", plan_to_proto(&plan)).await.unwrap().build_id;
    let record = farm.record(&build).await;
    assert_eq!(record.state(), proto::BuildState::Waiting);
    assert!(record.waiting_reason.contains("registry.example"), "{}", record.waiting_reason);
    farm.restart().await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let mut attach = proto::AttachBuildRequest { build_id: build.clone(), credentials: Vec::new() };
    let lacking = farm.builds().attach_build(attach.clone()).await.unwrap_err();
    assert_eq!(lacking.code(), Code::InvalidArgument);
    assert!(lacking.message().contains("registry.example"), "{lacking:?}");
    attach.credentials = vec![credential.clone()];
    farm.builds().attach_build(attach).await.unwrap();
    let lease = loop {
        let lease = worker.lease().await;
        if lease.attempt.as_ref().unwrap().job.as_ref().unwrap().build_id == build {
            break lease;
        }
    };
    assert_eq!(lease.credentials, [credential]);
    for entry in walk(farm.dir.path()) {
        let bytes = std::fs::read(&entry).unwrap_or_default();
        assert!(!bytes.windows(4).any(|four| four == b"hush"), "{} holds a password", entry.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_scheduler_ends_its_streams() {
    let mut farm = Farm::start().await;
    let build = farm.submit("r1", &["linux/amd64"]).await;
    let request = proto::WatchBuildRequest { build_id: build, after_seq: 0 };
    let watching = farm.builds().watch_build(request).await.unwrap().into_inner();
    let started = std::time::Instant::now();
    farm.stop().await;
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(collect(watching).await.unwrap_err().code(), Code::Unavailable);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files.extend(walk(&entry.path())),
            kind if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files
}
