//! Agents and schedulers die; runners go on.

use archyard_model::{Output, convert};
use archyard_proto::v1 as proto;
use archyard_worker::WorkerError;

use crate::fixture::{Farm, attempt, lease, spec, until};
use crate::scheduler::adopt_all;

#[tokio::test]
async fn the_next_agent_adopts_the_very_process() {
    let mut farm = Farm::start();
    let (first, mut control) = farm.scheduler.welcome(adopt_all).await;
    let id = attempt();
    let reference = convert::attempt_to_proto(id);
    farm.script.expect(id, 5);
    control.lease(lease(id, &spec(Output::Check))).await;
    until("it runs", || farm.script.starts(id) == 1).await;
    let pid = farm.attempt_dir(id).pid();
    for _ in 0..3 {
        farm.kill_agent().await;
        drop(control);
        farm.start_agent();
        let hello;
        (hello, control) = farm.scheduler.welcome(adopt_all).await;
        assert_eq!(hello.running.len(), 1);
        assert_eq!((hello.running[0].attempt.as_ref(), hello.running[0].finished), (Some(&reference), false));
        assert_eq!(hello.boot_id, first.boot_id);
        assert_ne!(hello.session_id, first.session_id);
    }
    assert_eq!(control.heartbeat().await.running, std::slice::from_ref(&reference));
    farm.script.say(id, b"hello");
    until("it said something", || farm.attempt_dir(id).spool_bytes() == 5).await;
    farm.script.end(id);
    let result = control.result().await;
    assert!(result.image.is_some());
    assert_eq!((farm.script.starts(id), farm.attempt_dir(id).pid()), (1, pid));
    control.acknowledge_result(&reference).await;
    assert_eq!(farm.scheduler.spool().await.read_all(&reference, 0).await, b"hello");
}

#[tokio::test]
async fn what_ended_while_nobody_watched_is_told() {
    let mut farm = Farm::start();
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    let (ended, killed) = (attempt(), attempt());
    for id in [ended, killed] {
        farm.script.expect(id, 0);
        control.lease(lease(id, &spec(Output::Check))).await;
        until("it runs", || farm.script.starts(id) == 1).await;
    }
    farm.kill_agent().await;
    drop(control);
    farm.script.end(ended);
    let pid = farm.attempt_dir(killed).pid().unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    for id in [ended, killed] {
        let dir = farm.attempt_dir(id);
        until("it ended", || dir.try_lock().unwrap().is_some()).await;
    }
    farm.start_agent();
    let (hello, mut control) = farm.scheduler.welcome(adopt_all).await;
    assert_eq!(hello.running.len(), 2);
    for _ in 0..2 {
        let result = control.result().await;
        if result.attempt == Some(convert::attempt_to_proto(ended)) {
            assert!(result.image.is_some());
        } else {
            assert_eq!(result.failure.unwrap().code, "runner_died");
        }
    }
}

#[tokio::test]
async fn a_dead_scheduler_is_dialed_until_it_is_back() {
    let mut farm = Farm::start();
    let (first, mut control) = farm.scheduler.welcome(adopt_all).await;
    let id = attempt();
    farm.script.expect(id, 0);
    control.lease(lease(id, &spec(Output::Check))).await;
    drop(control);
    farm.scheduler.stop().await;
    farm.script.end(id);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    farm.scheduler.listen();
    let (hello, mut control) = farm.scheduler.welcome(adopt_all).await;
    assert_eq!(hello.session_id, first.session_id, "it is the same agent");
    assert!(control.result().await.image.is_some());
}

#[tokio::test]
async fn a_scheduler_that_falls_silent_is_dialed_again() {
    let mut farm = Farm::start();
    let often = |hello: &proto::Hello| proto::Welcome { heartbeat_ms: 50, ..adopt_all(hello) };
    let (_, control) = farm.scheduler.welcome(often).await;
    // Nothing is read and nothing said on the first stream.
    let (_, _second) = farm.scheduler.welcome(adopt_all).await;
    drop(control);
}

#[tokio::test]
async fn two_agents_do_not_share_a_folder() {
    let mut farm = Farm::start();
    let (_, _control) = farm.scheduler.welcome(adopt_all).await;
    farm.start_agent();
    let error = farm.agent_ended().await.unwrap_err();
    assert!(matches!(error, WorkerError::Taken { .. }));
    assert!(error.to_string().contains("--data-dir"), "{error}");
}

#[tokio::test]
async fn a_folder_without_an_order_is_removed() {
    let mut farm = Farm::start();
    let (_, control) = farm.scheduler.welcome(adopt_all).await;
    farm.kill_agent().await;
    drop(control);
    let dir = farm.attempt_dir(attempt());
    std::fs::create_dir(dir.path()).unwrap();
    farm.start_agent();
    let (hello, _control) = farm.scheduler.welcome(adopt_all).await;
    assert!(hello.running.is_empty() && !dir.path().exists());
}
