//! The driver over a journal in memory: durable before answered, one stream a worker, nobody left waiting.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use archyard_model::{
    AttemptId, BuildId, BuildRecord, BuildState, EventKind, ImageResult, Lock, Plan, Pool, Principal,
    WorkerOffer,
};

use super::{Connection, Error, Filter, Handle, NewBuild, Options, Running, Shell, WorkerInput, start};
use crate::core::{Downstream, EndedBuild, Fact, PublishOrder, Refusal};
use crate::journal::memory::{Disk, Memory};
use crate::journal::{self, codec};
use crate::testing::plan;

/// What the driver asked of its hands.
#[derive(Debug)]
enum Asked {
    Resolve(BuildId),
    Archive(BuildState),
}

struct Hands(Sender<Asked>);

impl Shell for Hands {
    fn resolve(&mut self, build: BuildId, _plan: Arc<Plan>) {
        self.0.send(Asked::Resolve(build)).unwrap();
    }
    fn publish(&mut self, _order: PublishOrder) {}
    fn archive(&mut self, ended: EndedBuild) {
        self.0.send(Asked::Archive(ended.record.state)).unwrap();
    }
}

fn drive(disk: &Disk) -> (Handle, Running, Receiver<Asked>) {
    let (sender, asked) = channel();
    let journal = Box::new(Memory::open(disk.clone(), 40));
    let (handle, running) = start(journal, &Options::default(), |_| Hands(sender)).unwrap();
    (handle, running, asked)
}

fn new_build(request: &str) -> NewBuild {
    NewBuild {
        request_id: request.parse().unwrap(),
        principal: Principal::local(),
        plan: Arc::new(plan()),
        pool: Pool::Trusted,
        heritage: None,
        lock: None,
    }
}

async fn connect(handle: &Handle, name: &str) -> Connection {
    let offer = WorkerOffer {
        name: name.parse().unwrap(),
        boot_id: "boot".to_owned(),
        session_id: "session".to_owned(),
        instance_id: "folder".to_owned(),
        platforms: vec!["linux/amd64".parse().unwrap()],
        emulated: Vec::new(),
        slots: 1,
        labels: [].into(),
        pool: Pool::Trusted,
        version: "0".to_owned(),
        engine: "Docker Engine".to_owned(),
        draining: false,
        dial: 0,
    };
    handle.connect_worker(offer, Vec::new()).await.unwrap()
}

async fn lease(connection: &mut Connection) -> AttemptId {
    loop {
        for message in connection.messages.next().await.unwrap() {
            if let Downstream::Lease { attempt, .. } = message {
                return attempt;
            }
        }
    }
}

async fn finish(handle: &Handle, connection: &Connection, attempt: AttemptId) {
    let outcome = Ok(ImageResult::default());
    let ended =
        WorkerInput::AttemptEnded { attempt, outcome: Box::new(outcome), log_bytes: 3, log_warning: None };
    handle.worker_said(connection.id, WorkerInput::LeaseAccepted { attempt }).await.unwrap();
    handle.worker_said(connection.id, ended).await.unwrap();
}

#[tokio::test]
async fn a_build_is_watched_from_its_submission_to_its_archive() {
    let disk = Disk::default();
    let (handle, running, asked) = drive(&disk);
    let mut worker = connect(&handle, "amd").await;
    let submitted = handle.submit(new_build("r1"), false).await.unwrap();
    let again = handle.submit(new_build("r1"), false).await.unwrap();
    assert!(!submitted.existing && again.existing && submitted.build == again.build);
    let build = submitted.build;
    assert!(matches!(asked.recv().unwrap(), Asked::Resolve(of) if of == build));
    let mut events = handle.events(build, 0).await.unwrap().unwrap();
    assert!(matches!(events.batch[..], [ref one] if matches!(one.kind, EventKind::Accepted { .. })));
    handle.lock_resolved(build, Lock::default()).await.unwrap();
    let attempt = lease(&mut worker).await;
    assert!(handle.attempt(attempt).await.unwrap().is_some_and(|status| status.latest && !status.ended));
    assert_eq!(handle.counts().await.unwrap().running_jobs, 1);
    finish(&handle, &worker, attempt).await;
    let mut seen = events.batch.len() as u64;
    while !events.ended {
        events.changed.wait_for(|last| *last > seen).await.unwrap();
        events = handle.events(build, seen).await.unwrap().unwrap();
        assert_eq!(events.batch[0].seq, seen + 1);
        seen += events.batch.len() as u64;
    }
    assert!(matches!(asked.recv().unwrap(), Asked::Archive(BuildState::Succeeded)));
    let listed = handle.list_active(Filter { limit: 10, ..Filter::default() }).await.unwrap();
    assert_eq!(listed, [handle.standing(build).await.unwrap().unwrap()]);
    handle.archived(build).await.unwrap();
    assert_eq!(handle.record(build).await.unwrap(), None);
    assert!(events.changed.changed().await.is_err(), "an archived build is still watched");
    let late = handle.cancel(build, Principal::local(), String::new()).await;
    assert_eq!(late, Err(Error::Refused(Refusal::UnknownBuild(build))));
    handle.stop();
    running.ended().await.unwrap();
    assert_eq!(handle.record(build).await, Err(Error::Stopped));
}

#[tokio::test]
async fn nothing_is_answered_or_released_that_is_not_durable() {
    let disk = Disk::default();
    let (handle, running, asked) = drive(&disk);
    let kept = handle.submit(new_build("r1"), false).await.unwrap().build;
    asked.recv().unwrap();
    disk.fill_up(true);
    assert_eq!(handle.submit(new_build("r2"), false).await, Err(Error::DiskFull));
    assert!(matches!(running.ended().await, Err(journal::Error::DiskFull(_))));
    assert!(asked.recv().is_err(), "the shell was asked for something that was lost");
    assert!(handle.is_stopped());
    assert_eq!(handle.submit(new_build("r2"), false).await, Err(Error::Stopped));
    disk.fill_up(false);
    let (handle, _running, asked) = drive(&disk);
    assert!(matches!(asked.recv().unwrap(), Asked::Resolve(build) if build == kept));
    assert!(!handle.submit(new_build("r2"), false).await.unwrap().existing);
}

#[tokio::test]
async fn a_restart_gives_everything_back_through_snapshots_too() {
    let disk = Disk::default();
    let (handle, running, _asked) = drive(&disk);
    let mut worker = connect(&handle, "amd").await;
    let mut builds = Vec::new();
    for n in 0..30 {
        let build = handle.submit(new_build(&format!("r{n}")), false).await.unwrap().build;
        handle.lock_resolved(build, Lock::default()).await.unwrap();
        if n < 20 {
            let attempt = lease(&mut worker).await;
            finish(&handle, &worker, attempt).await;
        }
        builds.push(build);
    }
    let before = handle.list_active(Filter { limit: 100, ..Filter::default() }).await.unwrap();
    handle.stop();
    running.ended().await.unwrap();
    let restored = |record: &Vec<u8>| matches!(codec::decode(record).unwrap().1, Fact::BuildRestored(_));
    assert!(disk.records().iter().any(restored), "no snapshot was taken");
    let (handle, _running, _asked) = drive(&disk);
    let after = handle.list_active(Filter { limit: 100, ..Filter::default() }).await.unwrap();
    let records = |listed: &[(BuildRecord, _)]| -> Vec<BuildRecord> {
        listed.iter().map(|(record, _)| record.clone()).collect()
    };
    assert_eq!(records(&before), records(&after));
    assert_eq!(after.len(), builds.len());
}

#[tokio::test]
async fn a_newer_stream_of_a_worker_closes_the_older() {
    let (handle, _running, _asked) = drive(&Disk::default());
    let mut old = connect(&handle, "amd").await;
    assert!(matches!(old.messages.next().await.unwrap()[..], [Downstream::Welcome { .. }]));
    let mut new = connect(&handle, "amd").await;
    assert_eq!(old.messages.next().await, None);
    drop(old);
    let build = handle.submit(new_build("r1"), false).await.unwrap().build;
    handle.lock_resolved(build, Lock::default()).await.unwrap();
    let attempt = tokio::time::timeout(Duration::from_secs(5), lease(&mut new)).await.unwrap();
    assert_eq!(attempt.job.build, build);
    drop(new);
    let other = handle.submit(new_build("r2"), false).await.unwrap().build;
    handle.lock_resolved(other, Lock::default()).await.unwrap();
    assert_eq!(handle.counts().await.unwrap().queued_jobs, 1, "a lease went to a worker that has gone");
}
