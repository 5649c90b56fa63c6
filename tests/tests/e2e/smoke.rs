//! An image is run on the machine that built it before anybody gets it; whatever it does there, the machine is as
//! before.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use archyard_proto::v1::log_frame::Frame;
use archyard_tests::farm::PATIENCE;
use archyard_tests::process::{self, wait_for};
use archyard_tests::project::unique;
use archyard_tests::{Farm, Outcome, Project, client};
use serde_json::Value;
use xtask::engine::Kind;
use xtask::{http, oci};

use crate::check::{block_on, native};
use crate::faults::runners;

/// A farm of one worker on an Engine of this kind, and how to ask that Engine.
struct On {
    farm: Farm,
    socket: PathBuf,
    volumes: BTreeSet<String>,
}

impl On {
    fn new(kind: Kind) -> Self {
        let env = archyard_tests::Coordinates::from_env().unwrap();
        let engine = env.engine(kind).unwrap();
        let farm = Farm::on(vec![engine.address.clone()], &[], &["--slots", "1"]);
        let mut on = Self { farm, socket: engine.socket.clone(), volumes: BTreeSet::new() };
        on.volumes = on.volumes_now();
        on
    }

    fn ask(&self, path: &str) -> Value {
        let answer = wait_for("the Engine answers", PATIENCE, || http::get_unix(&self.socket, path).ok());
        serde_json::from_str(&answer).unwrap()
    }

    /// Containers of smoke tests of this farm.
    fn containers(&self) -> Vec<String> {
        let home = self.home();
        let all = self.ask("/containers/json?all=1");
        let ours = all.as_array().unwrap().iter().filter(|each| each["Labels"]["archyard.data-dir"] == *home);
        ours.map(|each| each["Names"][0].as_str().unwrap().to_owned()).collect()
    }

    /// What its containers and volumes say of whose they are.
    fn home(&self) -> String {
        self.farm.worker_dir(0).canonicalize().unwrap().display().to_string()
    }

    /// Volumes other than those of other farms.
    fn volumes_now(&self) -> BTreeSet<String> {
        let volumes = self.ask("/volumes")["Volumes"].clone();
        let home = self.home();
        let near = volumes.as_array().into_iter().flatten().filter(|each| {
            let of = &each["Labels"]["archyard.data-dir"];
            of.is_null() || *of == *home
        });
        near.map(|each| each["Name"].to_string()).collect()
    }

    /// Builds for the first native platform.
    fn build(&self, project: &Project, args: &[&str]) -> Outcome {
        let platform = self.farm.env.native[0].to_string();
        let args = [&["--platform", &platform], args].concat();
        let outcome = self.farm.build(project.path(), &args);
        assert_eq!(self.containers(), [""; 0], "no container stays");
        assert!(self.volumes_now().is_subset(&self.volumes), "no volume stays");
        outcome
    }

    /// How the newest build's first job failed.
    fn failure(&self) -> Value {
        let record = self.farm.show(&self.farm.newest_build().unwrap());
        let job = &record["jobs"][0];
        assert_eq!(job["attempts"].as_array().unwrap().len(), 1, "it is not tried again: {record:#}");
        assert_eq!(job["failure"]["class"], "user", "{record:#}");
        job["failure"].clone()
    }

    /// The log of the newest build's first job.
    fn log(&self) -> Vec<archyard_proto::v1::LogFrame> {
        let build = self.farm.newest_build().unwrap();
        client::frames(&block_on(client::log(&self.farm, &build, 0)))
    }
}

/// A small image that no other test has.
fn project() -> Project {
    Project::new(&format!("FROM BASE\nLABEL unique={}\n", unique("smoke")))
}

/// A shell's words, as `--smoke-test` takes them.
fn shell(script: &str) -> String {
    format!("sh -c '{script}'")
}

#[test]
fn an_image_that_runs_is_published_and_its_log_shows_the_run() {
    for kind in Kind::ALL {
        let on = On::new(kind);
        let repository = unique("smoke");
        let name = format!("{}/{repository}:v1", on.farm.env.registry);
        let words = shell("echo to standard output; echo to standard error >&2");
        let tests = ["--smoke-test", &words, "--smoke-test", "true"];
        let native = native(&on.farm);
        let args = [&["--platform", &native, "--push", "-t", &name], &tests[..]].concat();
        on.farm.build(project().path(), &args).expect(0).says(&["smoke tests passed"]);
        assert!(oci::get_manifest(&on.farm.env.registry, &repository, "v1").is_ok());
        assert_eq!(on.containers(), [""; 0]);
        let frames = on.log();
        let phases: Vec<_> = frames
            .iter()
            .filter_map(|frame| match &frame.frame {
                Some(Frame::Phase(phase)) => Some((phase.name.as_str(), phase.detail.as_str())),
                _ => None,
            })
            .collect();
        let smoke = phases.iter().position(|phase| *phase == ("smoke", "2 tests"));
        let push = phases.iter().position(|phase| phase.0 == "push");
        assert!(smoke.is_some() && smoke < push, "{phases:?}");
        let steps = client::steps(&frames);
        let step = steps.iter().find(|step| step.name == format!("smoke test: {words}"));
        assert!(step.is_some(), "{steps:?}");
        let said = |stream| {
            let parts = frames.iter().filter_map(|frame| match &frame.frame {
                Some(Frame::Output(output)) if output.stream == stream => Some(output.data.to_vec()),
                _ => None,
            });
            String::from_utf8(parts.collect::<Vec<_>>().concat()).unwrap()
        };
        assert!(said(1).contains("to standard output\n") && said(2).contains("to standard error\n"));
    }
}

#[test]
fn an_image_that_fails_gets_no_tag() {
    for kind in Kind::ALL {
        let on = On::new(kind);
        let repository = unique("smoke-fails");
        let name = format!("{}/{repository}:v1", on.farm.env.registry);
        let words = shell("echo what went wrong >&2; exit 3");
        let args = ["--push", "-t", &name, "--smoke-test", "true", "--smoke-test", &words];
        on.build(&project(), &args).expect(1).says(&["exit code 3", "what went wrong"]);
        let failure = on.failure();
        assert_eq!((&failure["code"], &failure["exit_code"]), (&"smoke_failed".into(), &3.into()));
        assert!(failure["detail"].as_str().unwrap().contains("what went wrong"), "{failure:#}");
        assert!(oci::tags(&on.farm.env.registry, &repository).map_or(true, |tags| tags.is_empty()));

        on.build(&project(), &["--smoke-test", "nosuch --version"])
            .expect(1)
            .says(&["smoke test \"nosuch --version\"", "executable file not found"]);
        assert_eq!(on.failure()["code"], "smoke_failed");
    }
}

#[test]
fn the_images_label_is_the_default() {
    let on = On::new(Kind::Host);
    let labelled = |test: &str| Project::new(&format!("FROM BASE\nLABEL archyard.smoke-test=\"{test}\"\n"));
    let word = unique("label");
    on.build(&labelled(&format!("echo {word}")), &[]).expect(0).says(&["smoke tests passed"]);
    assert!(client::output(&on.log()).contains(&word));
    on.build(&labelled("false"), &[]).expect(1).says(&[
        "smoke test",
        "archyard.smoke-test \"false\"",
        "exit code 1",
    ]);
    on.build(&labelled("false"), &["--smoke-test", "true"]).expect(0);
    on.build(&labelled("echo 'open"), &[]).expect(1).says(&["archyard.smoke-test", "quote"]);
    assert_eq!(on.failure()["code"], "smoke_test_malformed");
    let plain = on.build(&project(), &[]).expect(0);
    assert!(!plain.stderr.contains("smoke"), "{}", plain.stderr);
}

#[test]
fn a_smoke_test_that_never_ends_is_ended() {
    let on = On::new(Kind::Host);
    let started = Instant::now();
    let words = shell("trap true TERM INT; echo still here; while true; do sleep 1; done");
    on.build(&project(), &["--smoke-test", &words, "--smoke-test-timeout", "2s"])
        .expect(1)
        .says(&["did not end within 2s", "--smoke-test-timeout"]);
    let failure = on.failure();
    assert_eq!((&failure["code"], &failure["detail"]), (&"smoke_timeout".into(), &"still here".into()));
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_flood_fills_neither_log_nor_memory() {
    let on = On::new(Kind::Host);
    let out = tempfile::tempdir().unwrap();
    let platform = on.farm.env.native[0].to_string();
    let words = shell("dd if=/dev/zero bs=1M count=1000 2>/dev/null; echo the end; exit 1");
    let args = ["--platform", &platform, "--smoke-test", &words];
    let project = project();
    let mut client = on.farm.start_build(project.path(), &args, out.path());
    let mut peak = 0;
    let code = loop {
        peak = runners(&on.farm, 0).into_iter().filter_map(peak_kib).fold(peak, u64::max);
        if let Some(status) = client.try_wait().unwrap() {
            break status.code();
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(code, Some(1), "{}", std::fs::read_to_string(out.path().join("stderr")).unwrap());
    assert!((1_000..100_000).contains(&peak), "the runner's memory peaks at {peak} KiB");
    assert!(on.failure()["detail"].as_str().unwrap().ends_with("the end"));
    let frames = on.log();
    let clipped = frames.iter().filter(|frame| matches!(frame.frame, Some(Frame::Clipped(_))));
    assert_eq!(clipped.count(), 1);
    let build = on.farm.newest_build().unwrap();
    let bytes = block_on(client::log(&on.farm, &build, 0)).len();
    assert!((1 << 20..3 << 20).contains(&bytes), "{bytes}");
    assert_eq!(on.containers(), [""; 0]);
}

/// The most memory a process has had.
fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn forks_without_limit_stay_in_their_container() {
    let on = On::new(Kind::Host);
    let marker = unique("bomb");
    let words = shell(&format!("b() {{ sleep 300 {marker} & b | b & }}; b; sleep 300"));
    let args = ["--smoke-test", &words, "--smoke-test-timeout", "4s"];
    on.build(&project(), &args).expect(1);
    assert!(on.failure()["code"].as_str().unwrap().starts_with("smoke_"));
    assert_eq!(process::with_marker(&marker), [0; 0]);
    on.build(&project(), &["--smoke-test", "true"]).expect(0);
}

#[test]
fn a_smoke_test_that_fills_the_disk_is_stopped() {
    let on = On::new(Kind::Host);
    let fill =
        shell("n=0; while dd if=/dev/zero of=/tmp/$n bs=1M count=64 2>&1; do n=$((n+1)); done; exit 9");
    on.build(&project(), &["--smoke-test", &fill]).expect(1).says(&["No space left on device"]);
    assert_eq!(on.failure()["exit_code"], 9);
    on.build(&project(), &["--smoke-test", &shell("echo x > /file")])
        .expect(1)
        .says(&["Read-only file system", "--smoke-test-writable"]);

    on.build(&project(), &["--smoke-test", &shell("echo x > /file"), "--smoke-test-writable"]).expect(0);
    on.build(&project(), &["--smoke-test", &fill, "--smoke-test-writable"])
        .expect(1)
        .says(&["more than 1 GiB"]);
    assert_eq!(on.failure()["code"], "smoke_disk");
}

#[test]
fn a_volume_of_the_image_is_no_way_to_the_disk() {
    let on = On::new(Kind::Host);
    let project = Project::new(&format!("FROM BASE\nLABEL unique={}\nVOLUME /data\n", unique("volume")));
    for more in [&[][..], &["--smoke-test-writable"]] {
        let fill = shell("dd if=/dev/zero of=/data/x bs=1M count=300; ls -s /data; rm /data/x && exit 7");
        let args = [&["--smoke-test", &fill], more].concat();
        on.build(&project, &args).expect(1).says(&["No space left on device"]);
        assert_eq!(on.failure()["exit_code"], 7);
    }
}

#[test]
fn a_program_finds_what_its_image_holds_below_a_volume() {
    for kind in Kind::ALL {
        let on = On::new(kind);
        let dockerfile = format!(
            "FROM BASE\nLABEL unique={} archyard.smoke-test=''\n\
            RUN mkdir -p /srv/app && echo port=1 > /srv/app/config && chown -R 65534:65534 /srv/app\n\
            VOLUME /srv/app\nUSER 65534\n\
            CMD [\"sh\", \"-c\", \"grep port=1 /srv/app/config && echo more >> /srv/app/config\"]\n",
            unique("filled")
        );
        let project = Project::new(&dockerfile);
        on.build(&project, &[]).expect(0).says(&["smoke tests passed"]);
        let words = shell("cat /srv/app/config; test $(wc -l < /srv/app/config) = 1");
        on.build(&project, &["--smoke-test", "", "--smoke-test", &words]).expect(0);

        let large = Project::new(&format!(
            "FROM BASE\nLABEL unique={}\nRUN mkdir /data && dd if=/dev/zero of=/data/f bs=1M count=20\nVOLUME /data\n",
            unique("large")
        ));
        let args = ["--smoke-test", "ls /data", "--smoke-test-memory", "32m"];
        on.build(&large, &args).expect(1).says(&["does not fit into 16 MiB", "--smoke-test-memory"]);
        assert_eq!(on.failure()["code"], "smoke_volume");
        on.build(&large, &["--smoke-test", "ls /data"]).expect(0);
    }
}

#[test]
fn no_words_run_the_images_own_command() {
    let on = On::new(Kind::Host);
    let own = |script: &str| {
        let (unique, command) = (unique("own"), format!("[\"sh\", \"-c\", \"{script}\"]"));
        Project::new(&format!("FROM BASE\nLABEL unique={unique}\nCMD {command}\n"))
    };
    let word = unique("own-command");
    on.build(&own(&format!("echo {word}")), &["--smoke-test", ""]).expect(0).says(&["smoke tests passed"]);
    assert!(client::output(&on.log()).contains(&word));
    let build = on.farm.newest_build().unwrap();
    let shown = on.farm.run(&["show", &build]).expect(0).stdout;
    assert!(shown.contains("smoke-test the image's own command"), "{shown}");
    on.build(&own("exit 4"), &["--smoke-test", " "])
        .expect(1)
        .says(&["smoke test \"the image's own command\": exit code 4"]);
}

#[test]
fn files_come_back_only_of_an_image_that_passed() {
    let on = On::new(Kind::Host);
    let project = Project::new(&format!("FROM scratch\nCOPY word /word\nLABEL unique={}\n", unique("files")));
    let project = project.file("word", "x");
    let out = tempfile::tempdir().unwrap();
    let dest = out.path().join("files");
    let output = format!("type=local,dest={}", dest.display());
    on.build(&project, &["-o", &output, "--smoke-test", "true"]).expect(1).says(&["did not start"]);
    on.build(&project, &["-o", &output, "--smoke-test", ""]).expect(1).says(&["did not start"]);
    assert!(!dest.exists());
    let tar = out.path().join("files.tar");
    let output = format!("type=tar,dest={}", tar.display());
    on.build(&crate::smoke::project(), &["-o", &output, "--smoke-test", "true"]).expect(0);
    assert!(tar.exists());
}

#[test]
fn too_little_memory_is_told_as_that() {
    let on = On::new(Kind::Host);
    let args = ["--smoke-test", "tail /dev/zero", "--smoke-test-memory", "32m"];
    on.build(&project(), &args).expect(1).says(&["more than its 32 MiB of memory", "--smoke-test-memory"]);
    assert_eq!(on.failure()["code"], "smoke_out_of_memory");
}

#[test]
fn the_network_is_given_when_asked_for() {
    let on = On::new(Kind::Host);
    let network = on.ask("/networks/bridge");
    let gateway = network["IPAM"]["Config"][0]["Gateway"].as_str().unwrap();
    let listener = std::net::TcpListener::bind((gateway, 0)).unwrap();
    let words = format!("nc -w 5 {gateway} {}", listener.local_addr().unwrap().port());
    on.build(&project(), &["--smoke-test", &words]).expect(1).says(&["unreachable", "--smoke-test-network"]);
    let greeting = std::thread::spawn(move || {
        use std::io::Write as _;
        listener.accept().unwrap().0.write_all(b"hello from outside\n").unwrap();
    });
    on.build(&project(), &["--smoke-test", &words, "--smoke-test-network"]).expect(0);
    greeting.join().unwrap();
    assert!(client::output(&on.log()).contains("hello from outside"));
}

/// Starts a build whose smoke test goes on; its client, the build, and its container's name.
fn start(on: &On, project: &Project, marker: &str) -> (std::process::Child, String, String) {
    let platform = on.farm.env.native[0].to_string();
    let words = shell(&format!("sleep 600; echo {marker}"));
    let args = ["--platform", &platform, "--smoke-test", &words, "--smoke-test-timeout", "10m"];
    let client = on.farm.start_build(project.path(), &args, &project.join("out"));
    wait_for("its program runs", PATIENCE, || in_container(marker));
    let container = on.containers().into_iter().find(|name| !name.ends_with("-volumes")).unwrap();
    (client, on.farm.newest_build().unwrap(), container)
}

/// A process that runs these words, other than those that only pass them on.
fn in_container(marker: &str) -> Option<u32> {
    process::with_marker(marker).into_iter().find(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sh\0-c\0"))
    })
}

#[test]
fn canceling_ends_a_smoke_test() {
    let on = On::new(Kind::Host);
    let (project, marker) = (project(), unique("cancel-smoke"));
    let (mut client, build, _) = start(&on, &project, &marker);
    let asked = Instant::now();
    on.farm.run(&["cancel", &build]).expect(0);
    assert_eq!(client.wait().unwrap().code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert_eq!((on.containers(), in_container(&marker)), (Vec::new(), None));
    assert_eq!(on.farm.show(&build)["state"], "canceled");
}

#[test]
fn a_killed_runner_leaves_no_container() {
    for kind in Kind::ALL {
        let on = On::new(kind);
        let (project, marker) = (project(), unique("killed-smoke"));
        let (mut client, build, container) = start(&on, &project, &marker);
        runners(&on.farm, 0).into_iter().for_each(process::kill);
        wait_for("its container is gone", Duration::from_secs(20), || {
            (!on.containers().contains(&container)).then_some(())
        });
        let again = wait_for("it is tried again", PATIENCE, || on.containers().pop());
        assert_ne!(again, container);
        on.farm.run(&["cancel", &build]).expect(0);
        client.wait().unwrap();
        assert_eq!(on.containers(), [""; 0]);
    }
}

#[test]
fn a_killed_runner_leaves_no_volume() {
    for kind in Kind::ALL {
        let on = On::new(kind);
        let project = Project::new(&format!("FROM BASE\nLABEL unique={}\nVOLUME /data\n", unique("killed")));
        let marker = unique("killed-volume");
        let (mut client, build, container) = start(&on, &project, &marker);
        assert!(!on.volumes_now().is_subset(&on.volumes), "it has a volume");
        runners(&on.farm, 0).into_iter().for_each(process::kill);
        let attempt = container.trim_start_matches('/').strip_suffix("-1").unwrap().to_owned();
        wait_for("all of it is gone", Duration::from_secs(20), || {
            let names = on.containers().into_iter().chain(on.volumes_now());
            (!names.into_iter().any(|name| name.contains(&attempt))).then_some(())
        });
        on.farm.run(&["cancel", &build]).expect(0);
        client.wait().unwrap();
        assert_eq!(on.containers(), [""; 0]);
        assert!(on.volumes_now().is_subset(&on.volumes));
    }
}

#[test]
fn a_new_agent_removes_what_died_with_the_old_one() {
    let mut on = On::new(Kind::Host);
    let (project, marker) = (project(), unique("agent-smoke"));
    let (mut client, build, container) = start(&on, &project, &marker);
    on.farm.kill_agent(0);
    on.farm.start_agent(0);
    on.farm.wait_for_workers();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(on.containers(), [container.as_str()], "its runner lives");
    on.farm.kill_agent(0);
    runners(&on.farm, 0).into_iter().for_each(process::kill);
    assert_eq!(on.containers(), [container.as_str()], "nobody is there to remove it");
    on.farm.start_agent(0);
    wait_for("its container is gone", Duration::from_secs(20), || {
        (!on.containers().contains(&container)).then_some(())
    });
    on.farm.run(&["cancel", &build]).expect(0);
    client.wait().unwrap();
}

#[test]
fn what_was_built_across_is_told_as_not_run() {
    let on = On::new(Kind::Host);
    let platform = on.farm.env.foreign[0].to_string();
    let project = Project::new("FROM BASE\nLABEL archyard.smoke-test=true\nCOPY word /word\n")
        .file("word", &unique("across"));
    let outcome = on.farm.build(project.path(), &["--platform", &platform, "--cross", &platform]).expect(0);
    let outcome = outcome.says(&["smoke tests not run"]);
    assert!(!outcome.stderr.contains("passed"), "{}", outcome.stderr);
    let phases = on.log().into_iter().filter_map(|frame| match frame.frame {
        Some(Frame::Phase(phase)) if phase.name == "smoke" => Some(phase.detail),
        _ => None,
    });
    let told = format!("1 test not run: this machine does not run {platform}");
    assert_eq!(phases.collect::<Vec<_>>(), [told]);
}
