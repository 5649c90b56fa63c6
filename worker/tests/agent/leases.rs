//! Which leases are taken, and what becomes of secrets.

use archyard_model::{Output, convert};
use archyard_proto::v1 as proto;
use proto::scheduler_message::Message as Down;
use proto::worker_message::Message as Up;

use crate::fixture::{Farm, attempt, lease, spec, until};
use crate::scheduler::{Control, adopt_all};

async fn refused(control: &mut Control) -> proto::LeaseRejected {
    control.say(Down::Lease(lease(attempt(), &spec(Output::Check)))).await;
    match control.next().await {
        Up::LeaseRejected(rejected) => rejected,
        message => panic!("not refused: {message:?}"),
    }
}

#[tokio::test]
async fn a_worker_says_what_was_measured() {
    let mut farm = Farm::start();
    let (hello, mut control) = farm.scheduler.welcome(adopt_all).await;
    assert_eq!((hello.name.as_str(), hello.slots, hello.pool.as_str()), ("worker-1", 2, "trusted"));
    assert!(hello.engine.starts_with("Docker Engine "), "{}", hello.engine);
    assert!(!hello.platforms.is_empty() && hello.running.is_empty());
    assert_eq!(control.heartbeat().await.engine_problem, "");
}

#[tokio::test]
async fn slots_are_never_over_committed() {
    let mut farm = Farm::start();
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    let ids = [attempt(), attempt()];
    for id in ids {
        farm.script.expect(id, 0);
        control.lease(lease(id, &spec(Output::Check))).await;
    }
    let rejected = refused(&mut control).await;
    assert_eq!(rejected.code, "no_slot");
    assert!(rejected.message.contains("2 slots"), "{}", rejected.message);

    farm.script.end(ids[0]);
    control.result().await;
    let id = attempt();
    farm.script.expect(id, 0);
    control.lease(lease(id, &spec(Output::Check))).await;
    let slots: Vec<u32> =
        [ids[1], id].iter().map(|id| farm.attempt_dir(*id).assignment().unwrap().unwrap().slot).collect();
    assert_eq!(slots, [1, 0]);
}

#[tokio::test]
async fn a_lease_that_is_offered_again_starts_no_second_runner() {
    let (farm, mut control, id) = Farm::leased(0).await;
    control.lease(lease(id, &spec(Output::Check))).await;
    farm.script.end(id);
    control.result().await;
    assert_eq!(farm.script.starts(id), 1);
}

#[tokio::test]
async fn a_draining_worker_takes_none_until_told_otherwise() {
    let mut farm = Farm::start();
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    control.say(Down::Drain(proto::Drain { draining: true })).await;
    assert_eq!(refused(&mut control).await.code, "draining");
    control.say(Down::Drain(proto::Drain { draining: false })).await;
    let id = attempt();
    farm.script.expect(id, 0);
    control.lease(lease(id, &spec(Output::Check))).await;
}

#[tokio::test]
async fn a_nearly_full_disk_takes_none() {
    let mut farm = Farm::with(|config| config.min_free_bytes = u64::MAX);
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    let rejected = refused(&mut control).await;
    assert_eq!(rejected.code, "disk_low");
    assert!(rejected.message.contains("at least"), "{}", rejected.message);
}

#[tokio::test]
async fn without_an_engine_a_worker_joins_and_says_so() {
    let mut farm = Farm::with(|config| config.engine = "unix:///nonexistent/docker.sock".to_owned());
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    let problem = control.heartbeat().await.engine_problem;
    assert!(problem.contains("/nonexistent/docker.sock"), "{problem}");
    assert!(!problem.contains('\n'), "{problem}");
    assert_eq!(refused(&mut control).await.code, "engine_down");
}

#[tokio::test]
async fn a_runner_that_does_not_start_is_a_failed_attempt() {
    let mut farm = Farm::with(|config| config.runner_command = vec!["/nonexistent/archyard".into()]);
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    let id = attempt();
    control.lease(lease(id, &spec(Output::Check))).await;
    let failure = control.result().await.failure.unwrap();
    assert_eq!(failure.code, "runner_failed");
    assert!(failure.message.contains("/nonexistent/archyard"), "{}", failure.message);
    control.acknowledge_result(&convert::attempt_to_proto(id)).await;
    let dir = farm.attempt_dir(id);
    until("its folder goes", || !dir.path().exists()).await;
}

#[tokio::test]
async fn secrets_are_on_no_disk() {
    let mut farm = Farm::start();
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    let id = attempt();
    farm.script.expect(id, 0);
    let mut lease = lease(id, &spec(Output::Check));
    lease.credentials.push(proto::RegistryCredential {
        host: "registry.example".to_owned(),
        username: "user".to_owned(),
        password: "only-in-memory".to_owned(),
        identity_token: String::new(),
    });
    control.lease(lease).await;
    until("it runs", || farm.script.starts(id) == 1).await;
    let found = std::process::Command::new("grep")
        .args(["-r", "only-in-memory"])
        .arg(farm.folder())
        .output()
        .unwrap();
    assert_eq!(found.status.code(), Some(1), "{}", String::from_utf8_lossy(&found.stdout));
}
