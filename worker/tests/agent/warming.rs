//! Runners that are started ahead of their attempt.

use std::fs;

use archyard_model::{AttemptId, Output, convert};
use archyard_proto::v1 as proto;
use proto::scheduler_message::Message as Down;
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{Farm, attempt, lease, spec, until};
use crate::scheduler::{Control, adopt_all};

/// The runners of this worker that were started ahead, called or not.
fn warm(farm: &Farm) -> Vec<Pid> {
    let attempts = farm.config.data_dir.join("attempts").display().to_string();
    let is_warm = |pid: &Pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        matches!(words[..], [_, b"runner", b"--warm", dir, ..] if dir == attempts.as_bytes())
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    pids.filter(is_warm).collect()
}

async fn until_one_waits(farm: &Farm) -> Pid {
    until("one waits", || warm(farm).len() == 1).await;
    // It has read its command line, and reads its standard input next.
    warm(farm)[0]
}

/// An attempt that ends at once: its job has no Dockerfile. Gives who ran it.
async fn run(farm: &Farm, control: &mut Control) -> Option<Pid> {
    let id = attempt();
    control.lease(lease(id, &spec(Output::Check))).await;
    let code = control.result().await.failure.unwrap().code;
    assert_eq!(code, "context_missing");
    let pid = farm.attempt_dir(id).pid();
    acknowledge(control, id).await;
    pid
}

async fn acknowledge(control: &mut Control, id: AttemptId) {
    control.acknowledge_result(&convert::attempt_to_proto(id)).await;
}

#[tokio::test]
async fn an_attempt_is_run_by_the_runner_that_waits() {
    let mut farm = Farm::with(Farm::real_runner);
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    for _ in 0..3 {
        let waiting = until_one_waits(&farm).await;
        assert_eq!(run(&farm, &mut control).await, Some(waiting));
        until("it has ended", || !warm(&farm).contains(&waiting)).await;
    }
}

#[tokio::test]
async fn what_a_called_runner_says_is_in_its_own_log() {
    let mut farm = Farm::with(Farm::real_runner);
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    until_one_waits(&farm).await;
    let id = attempt();
    control.lease(lease(id, &spec(Output::Check))).await;
    control.result().await;
    let said = fs::read_to_string(farm.attempt_dir(id).runner_log()).unwrap();
    assert!(said.contains("context_missing"), "{said}");
}

#[tokio::test]
async fn without_one_that_waits_runners_are_started_as_ever() {
    let mut farm = Farm::with(Farm::real_runner);
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    let waiting = until_one_waits(&farm).await;
    kill_process(waiting, Signal::KILL).unwrap();
    until("it is dead", || warm(&farm).is_empty()).await;
    assert!(run(&farm, &mut control).await.is_some_and(|pid| pid != waiting));
    // And the next one waits again.
    until_one_waits(&farm).await;
}

#[tokio::test]
async fn none_waits_without_an_agent() {
    let mut farm = Farm::with(Farm::real_runner);
    let (_, control) = farm.scheduler.welcome(adopt_all).await;
    until_one_waits(&farm).await;
    farm.ask_to_stop();
    drop(control);
    farm.agent_ended().await.unwrap();
    assert!(warm(&farm).is_empty());
}

#[tokio::test]
async fn none_waits_while_no_lease_is_taken() {
    let mut farm = Farm::with(Farm::real_runner);
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    until_one_waits(&farm).await;
    control.say(Down::Drain(proto::Drain { draining: true })).await;
    until("it is dismissed", || warm(&farm).is_empty()).await;
    control.say(Down::Drain(proto::Drain { draining: false })).await;
    run(&farm, &mut control).await;
    until_one_waits(&farm).await;
}

#[test]
fn a_runner_that_nobody_calls_ends_with_its_input() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(crate::fixture::coordinates().archyard);
    command.args(["runner", "--warm"]).arg(folder.path()).stdin(std::process::Stdio::piped());
    let mut runner = command.spawn().unwrap();
    drop(runner.stdin.take());
    assert!(runner.wait().unwrap().success());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
