//! Faults around a build: engines, workers, registries and disks that go away.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use archyard_tests::farm::{PATIENCE, finish};
use archyard_tests::process::{self, wait_for};
use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};
use xtask::env::{Options, Scratch};
use xtask::registry::OwnRegistry;

/// A small file system of its own, gone when dropped.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub(crate) fn new(size: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("disk").tempdir().unwrap();
        finish(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
                .arg(dir.path()),
        )
        .expect(0);
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        finish(Command::new("umount").arg("-l").arg(self.0.path()));
    }
}

/// The ids of the runner processes of a farm's worker.
pub(crate) fn runners(farm: &Farm, worker: usize) -> Vec<u32> {
    process::with_marker(&farm.worker_dir(worker).display().to_string())
        .into_iter()
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split(|b| *b == 0).any(|word| word == b"runner"))
        })
        .collect()
}

#[test]
fn a_runner_that_dies_is_tried_again() {
    let farm = Farm::start(1);
    let marker = unique("runner-dies");
    let project = Project::new(&format!("FROM BASE\nRUN sleep 4; echo {marker}\n"));
    let out = tempfile::tempdir().unwrap();
    let mut client =
        farm.start_build(project.path(), &["--platform", &farm.env.native[0].to_string()], out.path());
    wait_for("the RUN starts", PATIENCE, || process::with_marker(&marker).first().copied());
    for pid in runners(&farm, 0) {
        process::kill(pid);
    }
    assert_eq!(client.wait().unwrap().code(), Some(0), "{}", farm.logs());
    let record = farm.show(&farm.newest_build().unwrap());
    let attempts = record["jobs"][0]["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{record:#}");
    assert_eq!(attempts[0]["failure"]["class"], "infrastructure", "{record:#}");
}

#[test]
fn a_worker_that_dies_is_replaced_by_another() {
    let mut farm = Farm::with(2, &["--lease", "4s"], &["--slots", "1"]);
    let marker = unique("worker-dies");
    let project = Project::new(&format!("FROM BASE\nRUN sleep 6; echo {marker}\n"));
    let out = tempfile::tempdir().unwrap();
    let mut client =
        farm.start_build(project.path(), &["--platform", &farm.env.native[0].to_string()], out.path());
    wait_for("the RUN starts", PATIENCE, || process::with_marker(&marker).first().copied());
    let build = farm.newest_build().unwrap();
    let worker = farm.show(&build)["jobs"][0]["attempts"][0]["worker"].as_str().unwrap().to_owned();
    let index = if worker == "worker-1" { 0 } else { 1 };
    farm.kill_agent(index);
    for pid in runners(&farm, index) {
        process::kill(pid);
    }
    assert_eq!(client.wait().unwrap().code(), Some(0), "{}", farm.logs());
    let record = farm.show(&build);
    let attempts = record["jobs"][0]["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{record:#}");
    assert_ne!(attempts[1]["worker"], worker, "{record:#}");
}

#[test]
fn an_engine_that_is_down_or_dies_is_named() {
    let mut env = Scratch::new(&Options { engines: 1, ..Options::default() }).unwrap();
    let address = env.state.engines[0].address();
    let farm = Farm::on(vec![address], &[], &["--slots", "1"]);
    let platform = farm.env.native[0].to_string();
    let marker = unique("engine-dies");
    let project = Project::new(&format!("FROM BASE\nRUN sleep 5; echo {marker}\n"));
    let out = tempfile::tempdir().unwrap();
    let mut client = farm.start_build(project.path(), &["--platform", &platform], out.path());
    wait_for("the RUN starts", PATIENCE, || process::with_marker(&marker).first().copied());
    env.kill_engine(0).unwrap();
    // The attempt ends, the worker says what is wrong, and the job waits for it.
    let build = farm.newest_build().unwrap();
    wait_for("the attempt ends", PATIENCE, || {
        let record = farm.show(&build);
        (record["jobs"][0]["attempts"][0]["failure"]["class"] == "infrastructure").then_some(())
    });
    wait_for("the worker names its Engine", PATIENCE, || {
        farm.workers()[0]["problem"].as_str().is_some_and(|problem| !problem.is_empty()).then_some(())
    });
    env.restart_engine(0).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(0), "{}", farm.logs());
}

#[test]
fn a_worker_whose_engine_was_never_there_says_so_and_builds_when_it_comes() {
    let mut env = Scratch::new(&Options { engines: 1, ..Options::default() }).unwrap();
    let address = env.state.engines[0].address();
    env.kill_engine(0).unwrap();
    let farm = Farm::on(vec![address.clone()], &[], &["--slots", "1"]);
    let told = wait_for("the worker names its Engine", PATIENCE, || {
        farm.workers()[0]["problem"].as_str().map(str::to_owned)
    });
    let socket = address.trim_start_matches("unix://");
    assert!(told.contains(socket), "{told:?} does not name {socket}");
    let project = Project::new(&format!("FROM scratch\nCOPY Dockerfile /{}\n", unique("late")));
    let out = tempfile::tempdir().unwrap();
    let mut client = farm.start_build(
        project.path(),
        &["--data-only", "--platform", &farm.env.native[0].to_string()],
        out.path(),
    );
    wait_for("the build is accepted", PATIENCE, || farm.newest_build());
    env.restart_engine(0).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(0), "{}", farm.logs());
}

#[test]
fn a_full_disk_on_the_worker_fails_the_attempt_and_says_so() {
    let disk = SmallDisk::new("24m");
    let data_dir = disk.path().to_str().unwrap();
    let farm = Farm::with(1, &[], &["--slots", "1", "--min-free", "0B", "--data-dir", data_dir]);
    let platform = farm.env.native[0].to_string();
    let project = Project::new(&format!("FROM BASE\nCOPY big /\nRUN echo {}\n", unique("disk")));
    project.write("big", &vec![7; 64 << 20]);
    let outcome = farm.build(project.path(), &["--platform", &platform]).expect(1);
    assert!(outcome.stderr.contains("disk") || outcome.stderr.contains("space"), "{}", outcome.stderr);
    let record = farm.show(&farm.newest_build().unwrap());
    let attempts = record["jobs"][0]["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 3, "{record:#}");
    assert!(attempts.iter().all(|attempt| attempt["failure"]["code"] == "disk_full"), "{record:#}");
    // Nothing stays behind: a small build fits.
    project.write("big", b"small");
    farm.build(project.path(), &["--platform", &platform]).expect(0);
}

#[test]
fn a_worker_low_on_disk_takes_no_lease_and_says_so() {
    let disk = SmallDisk::new("24m");
    let data_dir = disk.path().to_str().unwrap();
    let farm = Farm::with(1, &[], &["--slots", "1", "--min-free", "1GiB", "--data-dir", data_dir]);
    let project = Project::new("FROM BASE\n");
    let out = tempfile::tempdir().unwrap();
    let platform = farm.env.native[0].to_string();
    let mut client = farm.start_build(project.path(), &["--platform", &platform], out.path());
    wait_for("the reason is told", PATIENCE, || {
        let stderr = std::fs::read_to_string(out.path().join("stderr")).unwrap_or_default();
        (stderr.contains("worker-1") && stderr.contains("bytes are free")).then_some(())
    });
    farm.run(&["cancel", &farm.newest_build().unwrap()]).expect(0);
    assert_eq!(client.wait().unwrap().code(), Some(130));
}

#[test]
fn a_full_disk_on_the_scheduler_refuses_the_upload_and_says_so() {
    let disk = SmallDisk::new("24m");
    let farm = Farm::with(1, &["--data-dir", disk.path().to_str().unwrap()], &["--slots", "1"]);
    let project = Project::new(&format!("FROM BASE\nCOPY big /\nRUN echo {}\n", unique("disk")));
    project.write("big", &vec![7; 64 << 20]);
    let platform = farm.env.native[0].to_string();
    let outcome = farm.build(project.path(), &["--platform", &platform]);
    assert_ne!(outcome.code, Some(0));
    assert!(outcome.stderr.contains("disk") || outcome.stderr.contains("space"), "{}", outcome.stderr);
    // Nothing stays behind: a small build fits.
    std::fs::remove_file(project.join("big")).unwrap();
    project.write("big", b"small");
    farm.build(project.path(), &["--platform", &platform]).expect(0);
}

#[test]
fn a_context_never_takes_the_room_that_the_journal_needs() {
    let disk = SmallDisk::new("24m");
    let farm = Farm::with(1, &["--data-dir", disk.path().to_str().unwrap()], &["--slots", "1"]);
    let project = Project::new(&format!("FROM BASE\nCOPY big /\nRUN echo {}\n", unique("spare")));
    let platform = farm.env.native[0].to_string();
    // It would fit, and then no build could be journaled any more.
    project.write("big", &vec![7; 20 << 20]);
    farm.build(project.path(), &["--platform", &platform]).expect(1).says(&["the scheduler's disk is full"]);
    project.write("big", b"small");
    farm.build(project.path(), &["--platform", &platform]).expect(0);
}

#[test]
fn a_client_killed_during_its_upload_leaves_nothing() {
    let farm = Farm::start(1);
    let project = Project::new("FROM BASE\nCOPY big /\n");
    project.write("big", &vec![9; 512 << 20]);
    let out = tempfile::tempdir().unwrap();
    let mut client =
        farm.start_build(project.path(), &["--platform", &farm.env.native[0].to_string()], out.path());
    let blobs = farm.data_dir().join("blobs");
    wait_for("the upload starts", PATIENCE, || (bytes_under(&blobs) > 1 << 20).then_some(()));
    client.kill().unwrap();
    client.wait().unwrap();
    wait_for("what was sent is gone", Duration::from_secs(10), || {
        (bytes_under(&blobs) < 1 << 20).then_some(())
    });
    assert_eq!(farm.newest_build(), None);
}

/// Bytes of all files below a folder.
pub(crate) fn bytes_under(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_under(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_named() {
    let farm = Farm::start(0);
    let project = Project::new("FROM BASE\nCOPY moving /\n");
    project.write("moving", &vec![1; 64 << 20]);
    let path = project.join("moving");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write as _;
            let mut file = std::fs::File::options().append(true).open(&path).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                file.write_all(b"x").unwrap();
            }
        });
        let outcome = farm.build(project.path(), &["--platform", &farm.env.native[0].to_string()]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("moving") && outcome.stderr.contains("chang"), "{}", outcome.stderr);
    });
    assert_eq!(farm.newest_build(), None);
}

#[test]
fn a_registry_that_denies_is_named_with_the_remedy() {
    let registry = OwnRegistry::locked().unwrap();
    let farm = Farm::start(1);
    let name = format!("{}/{}:v1", registry.address, unique("denied"));
    let project = Project::new(&format!("FROM BASE\nRUN echo {}\n", unique("denied")));
    farm.build(project.path(), &["--platform", &farm.env.native[0].to_string(), "--push", "-t", &name])
        .expect(1)
        .says(&[&registry.address, "docker login"]);
}

#[test]
fn a_registry_gone_before_the_push_is_an_infrastructure_failure() {
    let mut registry = OwnRegistry::open().unwrap();
    let farm = Farm::start(1);
    let marker = unique("gone");
    let name = format!("{}/{marker}:v1", registry.address);
    let project = Project::new(&format!("FROM BASE\nRUN sleep 3; echo {marker}\n"));
    let out = tempfile::tempdir().unwrap();
    let platform = farm.env.native[0].to_string();
    let mut client =
        farm.start_build(project.path(), &["--platform", &platform, "--push", "-t", &name], out.path());
    wait_for("the RUN starts", PATIENCE, || process::with_marker(&marker).first().copied());
    registry.kill();
    assert_eq!(client.wait().unwrap().code(), Some(1));
    let stderr = std::fs::read_to_string(out.path().join("stderr")).unwrap();
    assert!(stderr.contains(&registry.address), "{stderr}");
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["state"], "failed");
    assert_eq!(record["jobs"][0]["attempts"][0]["failure"]["class"], "infrastructure", "{record:#}");
}
