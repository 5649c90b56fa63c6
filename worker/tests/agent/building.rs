//! The real runner on a real Engine.

use std::fs;
use std::time::{Duration, Instant};

use archyard_model::convert::{self, JobSpec};
use archyard_model::{AttemptId, Blake3, ContextEntry, ContextManifest, EntryKind, Output, Reference};
use archyard_proto::v1 as proto;
use archyard_worker::OnExit;
use archyard_worker::spool::Frames;
use proto::log_frame::Frame;
use proto::scheduler_message::Message as Down;

use crate::fixture::{Farm, attempt, coordinates, lease, spec, until};
use crate::scheduler::{Scheduler, adopt_all};

/// A job whose context has these files; the scheduler holds all of it.
fn job(scheduler: &Scheduler, dockerfile: &str, files: &[(&str, &[u8])]) -> JobSpec {
    let entry = |(path, content): &(&str, &[u8])| ContextEntry {
        path: path.as_bytes().to_vec(),
        mode: 0o644,
        modified_s: 1,
        modified_ns: 0,
        xattrs: Vec::new(),
        kind: EntryKind::File { size: content.len() as u64, digest: scheduler.put(content) },
    };
    let manifest = ContextManifest::new(files.iter().map(entry).collect()).unwrap();
    let encoded = manifest.encode();
    scheduler.put(&encoded);
    let dockerfile = dockerfile.replace("BASE", &coordinates().base.reference);
    JobSpec {
        context: manifest.to_ref(&encoded),
        dockerfile: scheduler.put(dockerfile.as_bytes()),
        ..spec(Output::Check)
    }
}

/// Runs an attempt to its end; gives its result and its log.
async fn run(farm: &mut Farm, spec: &JobSpec) -> (proto::AttemptResult, Vec<Frame>) {
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    let id = attempt();
    let reference = convert::attempt_to_proto(id);
    control.lease(lease(id, spec)).await;
    let mut spool = farm.scheduler.spool().await;
    let (log, result) = tokio::join!(spool.read_all(&reference, 0), control.result());
    assert_eq!(result.log_bytes, log.len() as u64);
    control.acknowledge_result(&reference).await;
    let dir = farm.attempt_dir(id);
    until("its folder goes", || !dir.path().exists()).await;
    (result, Frames::new(log.as_slice()).map(|frame| frame.unwrap().frame.unwrap()).collect())
}

fn real() -> Farm {
    Farm::with(Farm::real_runner)
}

fn output(frames: &[Frame]) -> String {
    let bytes = frames.iter().filter_map(|frame| match frame {
        Frame::Output(output) => Some(output.data.as_ref()),
        _ => None,
    });
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>().concat()).into_owned()
}

fn phases(frames: &[Frame]) -> Vec<&str> {
    let phases = frames.iter().filter_map(|frame| match frame {
        Frame::Phase(phase) => Some(phase.name.as_str()),
        _ => None,
    });
    phases.collect()
}

#[tokio::test]
async fn a_context_crosses_the_network_once() {
    let mut farm = real();
    let large = vec![7; 3_000_000];
    let unique = attempt().file_name();
    let dockerfile = format!("FROM BASE\nCOPY . /c\nRUN ls -l /c && cat /c/a && echo {unique}\n");
    let spec = job(&farm.scheduler, &dockerfile, &[("a", b"alpha\n"), ("b", &large), ("c", b"alpha\n")]);
    let (result, frames) = run(&mut farm, &spec).await;
    assert_eq!(result.failure, None);
    assert!(result.image.unwrap().config_digest.starts_with("sha256:"));
    assert_eq!(phases(&frames), ["context", "build", "inspect"]);
    let said = output(&frames);
    assert!(said.contains("alpha") && said.contains("3000000") && said.contains(&unique), "{said}");
    // The Dockerfile, the manifest, two distinct files.
    assert_eq!(farm.scheduler.downloads(), [1, 1, 2]);

    farm.kill_agent().await;
    farm.start_agent();
    let (again, _) = run(&mut farm, &spec).await;
    assert_eq!(again.failure, None);
    assert_eq!(farm.scheduler.downloads().len(), 3, "nothing is asked for again");
}

#[tokio::test]
async fn what_is_pushed_is_told_by_digest() {
    let mut farm = real();
    let registry = coordinates().registry;
    let repository = format!("{registry}/agent/{}", attempt().file_name().to_ascii_lowercase());
    let spec = JobSpec {
        output: Output::Push,
        repositories: vec![repository.clone()],
        ..job(&farm.scheduler, "FROM BASE\nCOPY a /a\n", &[("a", repository.as_bytes())])
    };
    let (result, frames) = run(&mut farm, &spec).await;
    let image = result.image.unwrap_or_else(|| panic!("{:?}", result.failure));
    assert!(image.manifest_digest.starts_with("sha256:") && image.manifest_bytes > 0);
    assert_eq!(image.media_type, "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(phases(&frames), ["context", "build", "inspect", "push"]);
}

#[tokio::test]
async fn a_base_is_pinned_to_what_was_locked() {
    let mut farm = real();
    let mut spec = job(&farm.scheduler, "FROM BASE\n", &[]);
    let image: Reference = coordinates().base.reference.parse().unwrap();
    let token = coordinates().base.reference;
    let missing = archyard_model::Sha256::from_bytes([9; 32]);
    spec.bases = vec![archyard_model::Base {
        kind: archyard_model::BaseKind::From,
        line: 1,
        span: 5..5 + token.len() as u64,
        token,
        uses: vec![archyard_model::BaseUse { job: 0, image: image.clone(), platform: None }],
    }];
    let locked = archyard_model::LockedImage { digest: Some(missing), platforms: Vec::new(), warning: None };
    spec.lock.images.insert(image.to_string(), locked);
    let (result, _) = run(&mut farm, &spec).await;
    let failure = result.failure.expect("no registry has that digest");
    assert!(
        failure.message.contains(&missing.hex()) || failure.detail.contains(&missing.hex()),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_failing_step_is_its_authors() {
    let mut farm = real();
    let spec = job(&farm.scheduler, "FROM BASE\nRUN echo to be seen && exit 7\n", &[]);
    let (result, frames) = run(&mut farm, &spec).await;
    let failure = result.failure.unwrap();
    assert_eq!(failure.failure_class(), proto::FailureClass::User);
    assert_eq!(failure.exit_code, 7, "{failure:?}");
    assert!(output(&frames).contains("to be seen"));
}

#[tokio::test]
async fn a_context_that_is_gone_is_told() {
    let mut farm = real();
    let mut spec = job(&farm.scheduler, "FROM BASE\n", &[]);
    spec.context.manifest_digest = Blake3::of(b"never uploaded");
    let (result, _) = run(&mut farm, &spec).await;
    assert_eq!(result.failure.unwrap().code, "context_missing");
}

/// The process of a step that sleeps for this many seconds.
fn sleeper(seconds: u32) -> Option<u32> {
    let wanted = format!("sleep\0{seconds}\0");
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == wanted.as_bytes()))
}

/// Starts a step that sleeps for so many seconds, which no other test may use.
async fn start_sleeping(farm: &mut Farm, seconds: u32) -> (crate::scheduler::Control, AttemptId, u32) {
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    let id = attempt();
    let dockerfile = format!("FROM BASE\nRUN echo {} && sleep {seconds}\n", id.file_name());
    control.lease(lease(id, &job(&farm.scheduler, &dockerfile, &[]))).await;
    until("the step runs", || sleeper(seconds).is_some()).await;
    (control, id, sleeper(seconds).unwrap())
}

#[tokio::test]
async fn canceling_ends_the_step_itself() {
    let mut farm = real();
    let (mut control, id, _) = start_sleeping(&mut farm, 3601).await;
    let attempt = Some(convert::attempt_to_proto(id));
    let started = Instant::now();
    control.say(Down::Cancel(proto::CancelAttempt { attempt, reason: String::new() })).await;
    let failure = control.result().await.failure.unwrap();
    assert_eq!(failure.failure_class(), proto::FailureClass::Canceled);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(sleeper(3601), None, "the result comes after the step's end");
}

#[tokio::test]
async fn a_step_outlives_agent_and_scheduler() {
    let mut farm = real();
    let (control, id, pid) = start_sleeping(&mut farm, 3).await;
    drop(control);
    farm.kill_agent().await;
    farm.scheduler.stop().await;
    farm.scheduler.listen();
    farm.start_agent();
    let (hello, mut control) = farm.scheduler.welcome(adopt_all).await;
    assert_eq!(hello.running.len(), 1);
    assert_eq!(sleeper(3), Some(pid));
    let result = control.result().await;
    assert_eq!(result.failure, None);
    let reference = convert::attempt_to_proto(id);
    let log = farm.scheduler.spool().await.read_all(&reference, 0).await;
    assert!(String::from_utf8_lossy(&log).contains(&id.file_name()));
}

#[tokio::test]
async fn a_tethered_runner_ends_with_its_agent() {
    let mut farm = Farm::with(|config| {
        Farm::real_runner(config);
        config.on_exit = OnExit::Stop;
    });
    let (_control, id, _) = start_sleeping(&mut farm, 3602).await;
    farm.kill_agent().await;
    let dir = farm.attempt_dir(id);
    until("its runner has ended", || dir.try_lock().unwrap().is_some()).await;
    assert_eq!(sleeper(3602), None);
    assert_eq!(dir.result().unwrap().unwrap().failure.unwrap().code, "canceled");
}

/// How long a fully cached build takes from lease to result, as a figure for people.
#[tokio::test]
async fn a_cached_build_takes_little_time() {
    let mut farm = real();
    let spec = job(&farm.scheduler, "FROM BASE\nCOPY a /a\nRUN true\n", &[("a", b"a")]);
    let (_, mut control) = farm.scheduler.welcome(adopt_all).await;
    let mut times = Vec::new();
    for _ in 0..8 {
        let id = attempt();
        let started = Instant::now();
        control.lease(lease(id, &spec)).await;
        assert_eq!(control.result().await.failure, None);
        times.push(started.elapsed());
        control.acknowledge_result(&convert::attempt_to_proto(id)).await;
    }
    times.sort_unstable();
    println!("lease to result, fully cached: median {:?}, best {:?}", times[4], times[0]);
    assert!(times[0] < Duration::from_secs(1), "{times:?}");
}
