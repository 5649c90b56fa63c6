//! How attempts end, and how the scheduler hears of it.

use std::time::Duration;

use archyard_model::{Output, convert};
use archyard_proto::v1 as proto;
use archyard_worker::OnExit;
use proto::scheduler_message::Message as Down;
use proto::worker_message::Message as Up;
use rustix::process::{Signal, kill_process};

use crate::fixture::{Farm, attempt, lease, spec, until};
use crate::scheduler::adopt_all;

#[tokio::test]
async fn a_result_is_repeated_on_every_connection_until_acknowledged() {
    let (mut farm, mut control, id) = Farm::leased(0).await;
    let reference = convert::attempt_to_proto(id);
    farm.script.end(id);
    let first = control.result().await;
    for _ in 0..2 {
        drop(control);
        let hello;
        (hello, control) = farm.scheduler.welcome(adopt_all).await;
        let running = &hello.running[0];
        assert_eq!((running.attempt.as_ref(), running.finished), (Some(&reference), true));
        assert_eq!(control.result().await, first);
    }
    control.acknowledge_result(&reference).await;
    let mut spool = farm.scheduler.spool().await;
    assert_eq!(spool.read_all(&reference, 0).await, b"");
    let dir = farm.attempt_dir(id);
    until("its folder goes", || !dir.path().exists()).await;
}

#[tokio::test]
async fn a_folder_stays_until_its_log_is_told_too() {
    let (mut farm, mut control, id) = Farm::leased(0).await;
    let reference = convert::attempt_to_proto(id);
    let mut spool = farm.scheduler.spool().await;
    farm.script.end(id);
    control.result().await;
    control.acknowledge_result(&reference).await;
    let dir = farm.attempt_dir(id);
    until("it is noted", || dir.is_acked()).await;

    // The next agent knows that there is only a log left to tell.
    farm.kill_agent().await;
    drop((control, spool));
    farm.start_agent();
    let (hello, _control) = farm.scheduler.welcome(adopt_all).await;
    assert_eq!(hello.running, []);
    spool = farm.scheduler.spool().await;
    spool.read_all(&reference, 0).await;
    until("its folder goes", || !dir.path().exists()).await;
}

#[tokio::test]
async fn canceling_asks_the_runner() {
    let (farm, mut control, id) = Farm::leased(0).await;
    until("it runs", || farm.script.starts(id) == 1).await;
    let attempt = Some(convert::attempt_to_proto(id));
    control.say(Down::Cancel(proto::CancelAttempt { attempt, reason: "changed my mind".to_owned() })).await;
    assert_eq!(control.result().await.failure.unwrap().code, "canceled");
}

#[tokio::test]
async fn a_runner_that_is_killed_is_an_infrastructure_failure() {
    let (farm, mut control, id) = Farm::leased(0).await;
    until("it runs", || farm.script.starts(id) == 1).await;
    farm.script.say(id, b"last words");
    let dir = farm.attempt_dir(id);
    until("it said something", || dir.spool_bytes() == 10).await;
    kill_process(dir.pid().unwrap(), Signal::KILL).unwrap();
    let result = control.result().await;
    let failure = result.failure.unwrap();
    assert_eq!(failure.code, "runner_died");
    assert_eq!(failure.failure_class(), proto::FailureClass::Infrastructure);
    assert!(failure.message.contains("SIGKILL"), "{}", failure.message);
    assert_eq!(result.log_bytes, 10);
}

#[tokio::test]
async fn what_is_stale_is_stopped_and_forgotten() {
    let (mut farm, mut control, id) = Farm::leased(0).await;
    until("it runs", || farm.script.starts(id) == 1).await;
    drop(control);
    let stop = |hello: &proto::Hello| proto::Welcome {
        stop: vec![hello.running[0].attempt.clone().unwrap()],
        adopt: Vec::new(),
        heartbeat_ms: 100,
        ..adopt_all(hello)
    };
    (_, control) = farm.scheduler.welcome(stop).await;
    let dir = farm.attempt_dir(id);
    until("its folder goes", || !dir.path().exists()).await;
    // Until it had stopped it kept its slot.
    while !control.heartbeat().await.running.is_empty() {}
}

#[tokio::test]
async fn an_agent_that_is_asked_to_stop_drains_and_leaves_its_runners() {
    let (mut farm, mut control, id) = Farm::leased(0).await;
    until("it runs", || farm.script.starts(id) == 1).await;
    farm.ask_to_stop();
    assert_eq!(control.next().await, Up::DrainRequested(proto::DrainRequested { draining: true }));
    drop(control);
    farm.agent_ended().await.unwrap();
    assert!(farm.attempt_dir(id).try_lock().unwrap().is_none(), "its runner goes on");
}

#[tokio::test]
async fn an_agent_that_takes_its_runners_along_waits_for_their_end() {
    let mut farm = Farm::with(|config| config.on_exit = OnExit::Stop);
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    let id = attempt();
    let reference = convert::attempt_to_proto(id);
    farm.script.expect(id, 0);
    control.lease(lease(id, &spec(Output::Check))).await;
    until("it runs", || farm.script.starts(id) == 1).await;
    farm.ask_to_stop();
    let mut said = vec![control.next().await, control.next().await];
    said.retain(|message| !matches!(message, Up::DrainRequested(_)));
    assert!(matches!(&said[..], [Up::Result(result)] if result.failure.as_ref().unwrap().code == "canceled"));
    control.acknowledge_result(&reference).await;
    let mut spool = farm.scheduler.spool().await;
    spool.read_all(&reference, 0).await;
    let started = std::time::Instant::now();
    farm.agent_ended().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "it knows that all is told");
}

#[tokio::test]
async fn a_runner_that_does_not_stop_is_killed() {
    let mut farm = Farm::start();
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    let id = attempt();
    farm.script.expect(id, 0);
    farm.script.be_stubborn();
    control.lease(lease(id, &spec(Output::Check))).await;
    until("it runs", || farm.script.starts(id) == 1).await;
    let attempt = Some(convert::attempt_to_proto(id));
    let started = std::time::Instant::now();
    control.say(Down::Cancel(proto::CancelAttempt { attempt, reason: String::new() })).await;
    let failure = loop {
        // Heartbeats go on all the while.
        if let Up::Result(result) = control.message().await {
            break result.failure.unwrap();
        }
    };
    assert_eq!((failure.code.as_str(), failure.failure_class()), ("canceled", proto::FailureClass::Canceled));
    assert!(started.elapsed() >= Duration::from_secs(20), "it was given its time");
}
