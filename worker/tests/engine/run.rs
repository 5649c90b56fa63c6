//! Programs of images, run within their bounds, on every kind of Engine.

mod volumes;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use archyard_model::{AttemptId, BuildId, FailureClass, FencingToken, JobId, Sha256, limits};
use archyard_proto::v1::log_frame::Frame;
use archyard_worker::engine::{DockerEngine, End, Engine as _, Home, Ran, RunError, RunRequest};
use bollard::query_parameters::{ListContainersOptionsBuilder, ListVolumesOptions};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Ended, Kind, Tree, api, at, build, dockerfile, engine, request};
use crate::stop::between;

on_every_engine! {
    a_program_is_run_as_docker_would_and_its_streams_are_told_apart,
    what_the_image_lacks_never_starts,
    the_root_is_read_only_and_there_is_a_small_tmp,
    a_server_that_starts_as_root_can_step_down,
    a_program_that_never_ends_is_ended,
    a_flood_neither_blocks_nor_fills,
    memory_and_processes_are_bounded,
    a_bomb_of_forks_ends_with_its_time,
    a_writable_root_does_not_fill_the_disk,
    the_network_is_there_only_where_it_was_asked_for,
    a_canceled_program_is_gone_when_that_is_said,
    what_a_dead_runner_leaves_is_removed_and_nothing_else,
    an_engine_that_goes_away_is_not_the_images_fault,
    what_was_written_is_gone_from_the_disk,
    a_cancel_at_any_moment_leaves_nothing,
}

/// The Engine of this kind.
struct On(Kind);

impl On {
    fn api(&self) -> bollard::Docker {
        api(self.0)
    }

    fn engine(&self) -> DockerEngine {
        engine(self.0)
    }

    /// An image with a shell, and these instructions more.
    async fn image(&self, rest: &str) -> Sha256 {
        let tree = Tree::builder().busybox().done();
        build(&self.engine(), request(&dockerfile(rest)), tree).await.succeeded().image
    }

    /// Containers that belong to this data folder, and volumes other than those of other data folders.
    async fn left(&self, home: &Path) -> (usize, BTreeSet<String>) {
        let home = home.canonicalize().unwrap().display().to_string();
        let label = format!("archyard.data-dir={home}");
        let filters = std::collections::HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let containers = self.api().list_containers(Some(options)).await.unwrap();
        let volumes = self.api().list_volumes(None::<ListVolumesOptions>).await.unwrap();
        let volumes = volumes.volumes.unwrap_or_default().into_iter();
        let near =
            volumes.filter(|volume| volume.labels.get("archyard.data-dir").is_none_or(|of| *of == home));
        (containers.len(), near.map(|volume| volume.name).collect())
    }

    /// Runs it to its end; nothing of it stays.
    async fn run(&self, image: Sha256, words: &[&str], change: impl FnOnce(&mut RunRequest)) -> Told {
        let home = tempfile::tempdir().unwrap();
        let mut request = run_request(image, words, home.path());
        change(&mut request);
        let before = self.left(home.path()).await;
        let told = run_until(&self.engine(), request, CancellationToken::new()).await;
        assert_eq!(self.left(home.path()).await, before, "nothing stays");
        told
    }
}

fn run_request(image: Sha256, words: &[&str], home: &Path) -> RunRequest {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let count = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let random = u128::from(std::process::id()) << 32 | u128::from(count);
    let build = BuildId::from_parts(now.as_millis().try_into().unwrap(), random);
    RunRequest {
        image,
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        attempt: AttemptId { job: JobId { build, index: 0 }, token: FencingToken(1) },
        number: 1,
        home: Home::new("worker-1", home),
        step: format!("smoke test: {}", words.join(" ")),
        network: false,
        writable: false,
        timeout: Duration::from_secs(60),
        memory_bytes: 64 << 20,
    }
}

/// A run that has ended, and all it told.
struct Told {
    result: Result<Ran, RunError>,
    frames: Ended,
}

async fn run_until(engine: &DockerEngine, request: RunRequest, cancel: CancellationToken) -> Told {
    let (progress, mut told) = mpsc::channel(64);
    let collect = async {
        let mut frames = Vec::new();
        while let Some(frame) = told.recv().await {
            frames.push(frame);
        }
        frames
    };
    let (result, frames) = tokio::join!(engine.run(request, progress, cancel), collect);
    let frames = Ended { result: Err(archyard_worker::engine::BuildError::Canceled), frames };
    Told { result, frames }
}

/// The same, canceled after this long.
async fn run_canceled(engine: &DockerEngine, request: RunRequest, after: Duration) -> Told {
    let cancel = CancellationToken::new();
    let stop = async {
        tokio::time::sleep(after).await;
        cancel.cancel();
    };
    tokio::join!(run_until(engine, request, cancel.clone()), stop).0
}

impl Told {
    fn ran(&self) -> &Ran {
        self.result.as_ref().unwrap_or_else(|error| panic!("{error}\n{}", self.frames.output(0)))
    }

    fn end(&self) -> &End {
        &self.ran().end
    }

    fn log_bytes(&self) -> u64 {
        self.frames.frames.iter().map(|frame| prost::Message::encoded_len(frame) as u64).sum()
    }

    fn is_clipped(&self) -> bool {
        self.frames.frames.iter().any(|frame| matches!(frame.frame, Some(Frame::Clipped(_))))
    }
}

/// A shell's words.
fn shell(script: &str) -> [&str; 4] {
    ["/bin/busybox", "sh", "-c", script]
}

async fn a_program_is_run_as_docker_would_and_its_streams_are_told_apart(on: Kind) {
    let engine = On(on);
    let image =
        engine.image("ENTRYPOINT [\"/bin/busybox\", \"sh\", \"-c\"]\nCMD [\"echo own; exit 3\"]").await;
    let told = engine.run(image, &["echo out; echo err >&2; id -u"], |_| {}).await;
    assert_eq!(*told.end(), End::Exited(0), "{:?}", told.ran());
    assert_eq!((told.frames.output(1).as_str(), told.frames.output(2).as_str()), ("out\n0\n", "err\n"));
    let steps: Vec<_> = told.frames.vertices().collect();
    assert_eq!(steps.len(), 2);
    assert!(steps[1].name.starts_with("smoke test: echo out") && steps[1].completed_at.is_some());
    assert_eq!(steps[1].error, "");

    let own = engine.run(image, &[], |_| {}).await;
    assert_eq!(*own.end(), End::Exited(3));
    assert_eq!(own.ran().tail, "own\n");
    assert_eq!(own.frames.vertices().last().unwrap().error, "exit code: 3");
}

async fn what_the_image_lacks_never_starts(on: Kind) {
    let engine = On(on);
    let image = engine.image("").await;
    for (words, says) in [
        (&["nosuch"][..], "executable file not found"),
        (&["/nosuch"], "no such file or directory"),
        (&["/bin"], "permission denied"),
        (&[], "ommand"),
    ] {
        let told = engine.run(image, words, |_| {}).await;
        let End::NotStarted(reason) = told.end() else { panic!("{words:?}: {:?}", told.ran()) };
        assert!(reason.contains(says), "{words:?}: {reason}");
    }
    for (instruction, says) in
        [("USER nobodyx", "unable to find user"), ("WORKDIR /bin/busybox", "directory")]
    {
        let tree = Tree::builder().busybox().done();
        let built = build(&engine.engine(), request(&dockerfile(instruction)), tree).await;
        // Some Engines refuse such a folder when they build.
        let Ok(built) = &built.result else { continue };
        let told = engine.run(built.image, &shell("true"), |_| {}).await;
        let End::NotStarted(reason) = told.end() else { panic!("{instruction}: {:?}", told.ran()) };
        assert!(reason.contains(says), "{instruction}: {reason}");
    }
    let gone = engine.run(Sha256::from_bytes([7; 32]), &["x"], |_| {}).await;
    assert_eq!(gone.result.unwrap_err().into_failure().code, "image_gone");
}

async fn the_root_is_read_only_and_there_is_a_small_tmp(on: Kind) {
    let engine = On(on);
    let script = "echo x > /x; echo x > /etc/hosts; echo x > /data/x && echo volume; \
        cp /bin/busybox /tmp/ && /tmp/busybox echo ran; \
        dd if=/dev/zero of=/tmp/full bs=1M count=100; \
        ls /dev | wc -l; mknod /tmp/n b 8 0; true";
    let image = engine.image("RUN mkdir -p /data\nVOLUME [\"/data/\", \"/more\"]").await;
    let told = engine.run(image, &shell(script), |request| request.memory_bytes = 256 << 20).await;
    assert_eq!(*told.end(), End::Exited(0));
    let (out, err) = (told.frames.output(1), told.frames.output(2));
    assert_eq!(err.matches("Read-only file system").count(), 2, "{err}");
    assert!(out.contains("volume\nran\n"), "{out} {err}");
    assert!(err.contains("No space left on device"), "{err}");
    assert!(err.contains("Operation not permitted"), "{err}");

    let told = engine
        .run(image, &shell("echo x > /x && echo x > /data/x && cat /x"), |request| request.writable = true)
        .await;
    assert_eq!((told.end(), told.ran().tail.as_str()), (&End::Exited(0), "x\n"));
}

async fn a_server_that_starts_as_root_can_step_down(on: Kind) {
    let engine = On(on);
    let script = "touch /tmp/f && chown 7:7 /tmp/f && chmod 600 /tmp/f && cat /tmp/f && \
        chroot / true && (timeout 1 nc -l -p 80; test $? = 143) && su -s /bin/sh seven -c 'id -u'";
    let image = engine
        .image(
            "RUN /bin/busybox --install /bin && mkdir /etc/x && echo root:x:0:0::/:/bin/sh > /etc/passwd \
            && echo seven:x:7:7::/:/bin/sh >> /etc/passwd && echo seven:x:7: > /etc/group",
        )
        .await;
    let told = engine.run(image, &shell(script), |_| {}).await;
    assert_eq!(*told.end(), End::Exited(0), "{:?}", told.ran());
    assert_eq!(told.frames.output(1), "7\n");
}

async fn a_program_that_never_ends_is_ended(on: Kind) {
    let engine = On(on);
    let image = engine.image("").await;
    let started = Instant::now();
    let words = shell("trap '' TERM INT; echo begun; while :; do sleep 1; done");
    let told = engine.run(image, &words, |request| request.timeout = Duration::from_secs(1)).await;
    assert_eq!(*told.end(), End::TimedOut);
    assert_eq!(told.ran().tail, "begun\n");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

async fn a_flood_neither_blocks_nor_fills(on: Kind) {
    let engine = On(on);
    let image = engine.image("").await;
    let words = shell("dd if=/dev/zero bs=1M count=600 2>/dev/null; echo the end");
    let told = engine.run(image, &words, |_| {}).await;
    assert_eq!(*told.end(), End::Exited(0));
    assert!(told.is_clipped() && told.ran().tail.ends_with("the end\n"), "{}", told.ran().tail.len());
    assert!(told.log_bytes() < limits::SMOKE_OUTPUT_BYTES + 4096, "{}", told.log_bytes());
}

async fn memory_and_processes_are_bounded(on: Kind) {
    let engine = On(on);
    let image = engine.image("RUN /bin/busybox --install /bin").await;
    let told = engine.run(image, &["/bin/tail", "/dev/zero"], |_| {}).await;
    assert_eq!(*told.end(), End::OutOfMemory);
    let told = engine.run(image, &shell("tail /dev/zero; exit 5"), |_| {}).await;
    assert_eq!(*told.end(), End::OutOfMemory, "a child's end is told as well");
    let words = shell("n=0; while [ $n -lt 400 ]; do sleep 60 & n=$((n+1)); done; echo all");
    let told = engine.run(image, &words, |request| request.memory_bytes = 512 << 20).await;
    assert!(told.ran().tail.contains("can't fork"), "{:?}", told.ran());
    assert_ne!(*told.end(), End::Exited(0));
}

async fn a_bomb_of_forks_ends_with_its_time(on: Kind) {
    let engine = On(on);
    let image = engine.image("").await;
    let words = shell("b() { b | b & }; b; sleep 100");
    let started = Instant::now();
    let told = engine.run(image, &words, |request| request.timeout = Duration::from_secs(2)).await;
    assert!(!matches!(told.end(), End::Exited(0)));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

async fn a_writable_root_does_not_fill_the_disk(on: Kind) {
    let engine = On(on);
    let image = engine.image("RUN /bin/busybox --install /bin").await;
    let writable = |request: &mut RunRequest| request.writable = true;
    let words = shell("n=0; while dd if=/dev/zero of=/x$n bs=1M count=100; do n=$((n+1)); done");
    let told = engine.run(image, &words, writable).await;
    assert_eq!(*told.end(), End::DiskFull, "{:?}", told.ran());
    let told = engine.run(image, &shell("dd if=/dev/zero of=/etc/hosts bs=1M count=2000"), writable).await;
    assert!(matches!(told.end(), End::Exited(1..)), "{:?}", told.ran());
}

async fn the_network_is_there_only_where_it_was_asked_for(on: Kind) {
    let engine = On(on);
    let network = engine.api().inspect_network("bridge", None).await.unwrap();
    let gateway = network.ipam.unwrap().config.unwrap()[0].gateway.clone().unwrap();
    let listener = tokio::net::TcpListener::bind((gateway.as_str(), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let image = engine.image("").await;
    let script = format!("/bin/busybox nc -w 5 {gateway} {port}");
    let words = shell(&script);
    let told = engine.run(image, &words, |_| {}).await;
    assert!(told.ran().tail.contains("unreachable"), "{:?}", told.ran());
    let greet = async {
        use tokio::io::AsyncWriteExt as _;
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"hello\n").await.unwrap();
    };
    let (told, ()) = tokio::join!(engine.run(image, &words, |request| request.network = true), greet);
    assert_eq!((told.end(), told.ran().tail.as_str()), (&End::Exited(0), "hello\n"));
}

async fn a_canceled_program_is_gone_when_that_is_said(on: Kind) {
    let engine = On(on);
    let image = engine.image("").await;
    let home = tempfile::tempdir().unwrap();
    let request = run_request(image, &shell("trap '' TERM; sleep 600; sleep 600"), home.path());
    let cancel = CancellationToken::new();
    let stop = async {
        let mut tries = 0;
        while engine.left(home.path()).await.0 == 0 && tries < 1_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            tries += 1;
        }
        cancel.cancel();
        Instant::now()
    };
    let client = engine.engine();
    let told = run_until(&client, request, cancel.clone());
    let (told, asked) = tokio::join!(told, stop);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert!(matches!(told.result, Err(RunError::Canceled)));
    assert_eq!(engine.left(home.path()).await.0, 0);
}

async fn what_a_dead_runner_leaves_is_removed_and_nothing_else(on: Kind) {
    let engine = On(on);
    let image = engine.image("").await;
    let home = tempfile::tempdir().unwrap();
    let requests = [1, 2].map(|_| run_request(image, &shell("sleep 600"), home.path()));
    let [lives, dead] = requests.clone().map(|request| request.attempt);
    for request in requests {
        let client = engine.engine();
        let before = engine.left(home.path()).await.0;
        let (progress, _frames) = mpsc::channel(64);
        let mut runs = tokio::task::JoinSet::new();
        runs.spawn(async move { client.run(request, progress, CancellationToken::new()).await });
        while engine.left(home.path()).await.0 == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Dropped: as if its process were killed.
        runs.shutdown().await;
    }
    let mine = Home::new("renamed", home.path());
    let client = engine.engine();
    let strangers = Home::new("worker-1", Path::new("/nonexistent"));
    assert_eq!(client.remove_leftovers(&strangers, |_| false).await.unwrap(), 0);
    assert_eq!(client.remove_leftovers(&mine, |attempt| attempt == lives).await.unwrap(), 1);
    assert_eq!(client.remove_leftovers(&mine, |attempt| attempt != dead).await.unwrap(), 0);
    assert_eq!(client.remove_leftovers(&mine, |_| false).await.unwrap(), 1);
    assert_eq!(engine.left(home.path()).await.0, 0);
}

async fn an_engine_that_goes_away_is_not_the_images_fault(on: Kind) {
    let engine = On(on);
    let image = engine.image("").await;
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("docker.sock");
    let door = between(socket.clone(), at(on).socket);
    let client = DockerEngine::connect(&format!("unix://{}", socket.display())).unwrap();
    let request = run_request(image, &shell("echo begun; sleep 600"), home.path());
    let shut = async {
        while engine.left(home.path()).await.0 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        drop(door);
    };
    let started = Instant::now();
    let (told, ()) = tokio::join!(run_until(&client, request, CancellationToken::new()), shut);
    let failure = told.result.unwrap_err().into_failure();
    assert_eq!(failure.class, FailureClass::Infrastructure);
    // On a busy machine the Engine may go before it said that the program runs.
    assert!(["engine_lost", "engine_unreachable"].contains(&failure.code.as_str()), "{failure:?}");
    assert!(failure.message.contains("docker.sock"), "{failure}");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let mine = Home::new("worker-1", home.path());
    assert_eq!(engine.engine().remove_leftovers(&mine, |_| false).await.unwrap(), 1);
    assert_eq!(engine.left(home.path()).await.0, 0);
}

/// Where a running container's writes go on the machine's disk.
fn upper_folder(pid: i64) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/"))?;
    root.split([',', ' ']).find_map(|option| option.strip_prefix("upperdir=")).map(PathBuf::from)
}

async fn what_was_written_is_gone_from_the_disk(on: Kind) {
    let engine = On(on);
    let image = engine.image("").await;
    let home = tempfile::tempdir().unwrap();
    let script = "dd if=/dev/zero of=/written bs=1M count=20; sleep 600";
    let mut request = run_request(image, &shell(script), home.path());
    request.writable = true;
    let name = format!("archyard-{}-1", request.attempt.file_name());
    let cancel = CancellationToken::new();
    let look = async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let Ok(seen) = engine.api().inspect_container(&name, None).await else { continue };
            let upper = seen.state.and_then(|state| state.pid).and_then(upper_folder);
            if let Some(upper) = upper.filter(|upper| upper.join("written").exists()) {
                cancel.cancel();
                return upper;
            }
        }
    };
    let client = engine.engine();
    let (told, upper) = tokio::join!(run_until(&client, request, cancel.clone()), look);
    assert!(matches!(told.result, Err(RunError::Canceled)));
    let gone = Instant::now();
    // containerd collects its garbage a little later.
    while upper.exists() {
        assert!(gone.elapsed() < Duration::from_secs(20), "{} stays", upper.display());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn a_cancel_at_any_moment_leaves_nothing(on: Kind) {
    let engine = On(on);
    let image = engine.image("").await;
    let (home, client) = (tempfile::tempdir().unwrap(), engine.engine());
    for delay_ms in (0..300).step_by(20) {
        let request = run_request(image, &shell("sleep 600"), home.path());
        let told = run_canceled(&client, request, Duration::from_millis(delay_ms)).await;
        assert!(matches!(told.result, Err(RunError::Canceled)), "{delay_ms}");
        assert_eq!(engine.left(home.path()).await.0, 0, "canceled after {delay_ms} ms");
    }
}
