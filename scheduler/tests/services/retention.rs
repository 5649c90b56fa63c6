//! What is past its limit goes, and its callers are told so; what is needed stays.

use std::time::{Duration, Instant};

use archyard_model::convert::plan_to_proto;
use archyard_model::{Blake3, ContextEntry, ContextManifest, EntryKind, Plan};
use archyard_proto::v1 as proto;
use archyard_scheduler::Times;
use archyard_scheduler::retention::{Keep, Limit, Options};
use proto::KeptClass;
use tonic::{Code, Status};

use crate::harness::{Farm, PATIENCE, Spooler, Worker, hello, plan};

const RECENT: Duration = Duration::from_secs(8);

async fn farm(age: Limit<Duration>) -> Farm {
    let keep = Keep { age, bytes: Limit::None, project_bytes: Limit::None };
    let retention = Options {
        recent: RECENT,
        contexts: keep.clone(),
        logs: keep.clone(),
        records: keep,
        ..Options::default()
    };
    Farm::keeping(Times::default(), retention).await
}

/// A plan whose context holds this text, of a project, and its blobs.
fn of(project: &str, text: &str) -> (Plan, Vec<Vec<u8>>) {
    let (plan, blobs) = plan(&["linux/amd64"]);
    let content = text.repeat(2_000).into_bytes();
    let manifest = ContextManifest::new(vec![ContextEntry {
        path: b"hello".to_vec(),
        mode: 0o644,
        modified_s: 1,
        modified_ns: 0,
        xattrs: Vec::new(),
        kind: EntryKind::File { size: content.len() as u64, digest: Blake3::of(&content) },
    }])
    .unwrap();
    let encoded = manifest.encode();
    let context = manifest.to_ref(&encoded);
    let plan = Plan { project: project.parse().unwrap(), context, ..plan };
    (plan, vec![blobs[0].clone(), content, encoded])
}

/// Builds it until it fails, with a log.
async fn failed(farm: &Farm, worker: &mut Worker, request: &str, of: &(Plan, Vec<Vec<u8>>)) -> String {
    farm.upload(&of.1).await.unwrap();
    let build = farm.submit_plan(request, plan_to_proto(&of.0)).await.unwrap().build_id;
    fail(farm, worker).await;
    farm.ended(&build).await;
    build
}

async fn fail(farm: &Farm, worker: &mut Worker) {
    let attempt = worker.lease().await.attempt.unwrap();
    let mut spooler = Spooler::connect(farm.channel()).await;
    spooler.open(&attempt).await;
    spooler.send(&attempt, 0, b"what it wrote", true).await;
    spooler.acknowledged().await.unwrap();
    let failure = proto::Failure {
        failure_class: proto::FailureClass::User.into(),
        code: "run_failed".to_owned(),
        message: "RUN make failed".to_owned(),
        ..Default::default()
    };
    worker.finish(&attempt, Some(failure), 13).await;
}

async fn get(farm: &Farm, build: &str) -> Result<proto::BuildRecord, Status> {
    let request = proto::GetBuildRequest { build_id: build.to_owned() };
    farm.builds().get_build(request).await.map(|answer| answer.into_inner().build.unwrap())
}

async fn log(farm: &Farm, build: &str) -> Result<Vec<u8>, Status> {
    farm.log(proto::ReadLogRequest { build_id: build.to_owned(), ..Default::default() }).await
}

async fn rerun(farm: &Farm, build: &str) -> Result<String, Status> {
    let request = proto::RerunBuildRequest {
        request_id: format!("again-{build}"),
        build_id: build.to_owned(),
        credentials: Vec::new(),
    };
    farm.builds().rerun_build(request).await.map(|answer| answer.into_inner().build_id)
}

async fn missing(farm: &Farm, blobs: &[Vec<u8>]) -> usize {
    let digests = blobs.iter().map(|blob| Blake3::of(blob).as_bytes().to_vec()).collect();
    let request = proto::FindMissingRequest { digests };
    farm.contexts().find_missing(request).await.unwrap().into_inner().digests.len()
}

async fn prune(farm: &Farm, classes: &[KeptClass], dry_run: bool) -> Result<Vec<proto::Pruned>, Status> {
    let classes = classes.iter().map(|class| i32::from(*class)).collect();
    let request = proto::PruneRequest { classes, dry_run, ..Default::default() };
    farm.disk().prune(request).await.map(|answer| answer.into_inner().pruned)
}

async fn usage(farm: &Farm, project: &str) -> Vec<(KeptClass, u64, u64, u64)> {
    let request = proto::GetDiskUsageRequest { project: project.to_owned(), by_project: false };
    let answer = farm.disk().get_disk_usage(request).await.unwrap().into_inner();
    assert!(answer.disk_bytes >= answer.free_bytes && answer.free_bytes > 0);
    answer
        .usages
        .into_iter()
        .map(|usage| {
            assert_eq!(usage.project, project);
            (usage.class(), usage.count, usage.bytes, usage.reclaimable_bytes)
        })
        .collect()
}

const ALL: [KeptClass; 4] = [KeptClass::Contexts, KeptClass::Logs, KeptClass::Records, KeptClass::Artifacts];

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_removes_old_builds_and_keeps_what_is_needed() {
    let mut farm = farm(Limit::None).await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let (old_plan, recent_plan, running_plan) = (of("a", "old"), of("a", "recent"), of("b", "running"));
    let old = failed(&farm, &mut worker, "r1", &old_plan).await;
    let early = prune(&farm, &[KeptClass::Contexts], false).await.unwrap_err();
    assert_eq!(early.code(), Code::FailedPrecondition, "{early:?}");
    assert!(early.message().contains("--recent"), "{early:?}");
    farm.upload(&running_plan.1).await.unwrap();
    let running = farm.submit_plan("r2", plan_to_proto(&running_plan.0)).await.unwrap().build_id;
    let held = worker.lease().await.attempt.unwrap();
    tokio::time::sleep(RECENT + Duration::from_secs(1)).await;
    let recent = failed(&farm, &mut worker, "r3", &recent_plan).await;
    let ended = Instant::now();

    // Its record is written a moment after its end is told.
    let mut before = usage(&farm, "").await;
    while before[2].1 < 2 {
        before = usage(&farm, "").await;
    }
    assert_eq!(before.iter().map(|(class, ..)| *class).collect::<Vec<_>>(), ALL);
    let [contexts, logs, records, artifacts] = before[..] else { panic!("{before:?}") };
    assert_eq!((contexts.1, logs.1, records.1, artifacts.1), (3, 2, 2, 0));
    assert!(contexts.3 > 0 && contexts.3 < contexts.2, "one of three could go: {contexts:?}");
    let of_b = usage(&farm, "b").await;
    assert_eq!(of_b.len(), 1, "{of_b:?}");
    assert_eq!((of_b[0].0, of_b[0].1, of_b[0].3), (KeptClass::Contexts, 1, 0));

    let would = prune(&farm, &ALL, true).await.unwrap();
    assert_eq!(usage(&farm, "").await, before, "a dry run removed something");
    let pruned = prune(&farm, &ALL, false).await.unwrap();
    assert!(ended.elapsed() < RECENT, "this machine is too slow for the test");
    let counts: Vec<u64> = pruned.iter().map(|pruned| pruned.count).collect();
    assert_eq!(counts, would.iter().map(|pruned| pruned.count).collect::<Vec<_>>());
    assert_eq!(counts[0], 1, "{pruned:?}");
    assert_eq!(counts[2], 1, "{pruned:?}");
    assert!(pruned[0].bytes >= 4096 && pruned[2].bytes >= 4096, "{pruned:?}");

    // Whoever asks for what went is told so, as of a build that never was; a later scheduler says the same.
    for _ in 0..2 {
        let id = old.clone();
        for status in [
            get(&farm, &id).await.unwrap_err(),
            log(&farm, &id).await.unwrap_err(),
            rerun(&farm, &id).await.unwrap_err(),
        ] {
            assert_eq!(status.code(), Code::NotFound, "{status:?}");
            assert!(
                status.message().contains("archyard prune") && status.message().contains(&id),
                "{status:?}"
            );
        }
        assert_eq!(missing(&farm, &old_plan.1).await, 2, "its Dockerfile is that of the others");
        assert_eq!(missing(&farm, &recent_plan.1).await, 0);
        assert_eq!(missing(&farm, &running_plan.1).await, 0);
        assert_eq!(log(&farm, &recent).await.unwrap(), b"what it wrote");
        assert_eq!(get(&farm, &running).await.unwrap().state(), proto::BuildState::Running);
        farm.restart().await;
    }

    // The recent one can be built again, and the old one anew.
    let mut worker = Worker::join(
        farm.channel(),
        proto::Hello {
            running: vec![proto::RunningAttempt { attempt: Some(held), ..Default::default() }],
            ..hello("w1")
        },
    )
    .await
    .unwrap();
    let again = rerun(&farm, &recent).await.unwrap();
    fail(&farm, &mut worker).await;
    assert_eq!(farm.ended(&again).await.state(), proto::BuildState::Failed);
    let lacks = farm.submit_plan("r4", plan_to_proto(&old_plan.0)).await.unwrap_err();
    assert_eq!(lacks.code(), Code::FailedPrecondition, "{lacks:?}");
    failed(&farm, &mut worker, "r4", &old_plan).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_past_its_age_goes_by_itself() {
    let farm = farm(Limit::At(RECENT + Duration::from_secs(1))).await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let source = of("a", "old");
    let build = failed(&farm, &mut worker, "r1", &source).await;
    assert_eq!(log(&farm, &build).await.unwrap(), b"what it wrote");
    let started = Instant::now();
    let status = loop {
        match get(&farm, &build).await {
            Err(status) => break status,
            Ok(_) => assert!(started.elapsed() < PATIENCE, "its record is still there"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(started.elapsed() >= RECENT, "it was removed while it was recent");
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("9 s") && status.message().contains("--records-kept"), "{status:?}");
    // Not asked of the scheduler: a question would pin it.
    let (digest, root) = (Blake3::of(&source.1[1]).hex(), farm.dir.path().join("data"));
    let blob = root.join("blobs").join(&digest[..2]).join(&digest[2..]);
    while blob.exists() {
        assert!(started.elapsed() < PATIENCE, "its context is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!root.join("spools").join(&build).exists(), "its log is still there");
    let request = proto::ListBuildsRequest::default();
    assert_eq!(farm.builds().list_builds(request).await.unwrap().into_inner().builds, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_log_is_told_and_does_not_come_back() {
    let farm = farm(Limit::None).await;
    let mut worker = Worker::join(farm.channel(), hello("w1")).await.unwrap();
    let build = farm.submit("r1", &["linux/amd64"]).await;
    let attempt = worker.lease().await.attempt.unwrap();
    let mut spooler = Spooler::connect(farm.channel()).await;
    spooler.open(&attempt).await;
    spooler.send(&attempt, 0, b"what it wrote", true).await;
    spooler.acknowledged().await.unwrap();
    worker.finish(&attempt, None, 13).await;
    farm.ended(&build).await;
    tokio::time::sleep(RECENT + Duration::from_millis(500)).await;
    let pruned = prune(&farm, &[KeptClass::Logs], false).await.unwrap();
    assert_eq!((pruned.len(), pruned[0].count), (1, 1), "{pruned:?}");
    let status = log(&farm, &build).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    assert!(status.message().contains("log of build") && status.message().contains("prune"), "{status:?}");
    assert!(get(&farm, &build).await.is_ok(), "its record stays");
    // A worker that was away does not bring it again.
    assert!(spooler.open(&attempt).await.refused);
}
