//! What comes back to the client: archives, images in its Engine, files; and what happens to them when things go wrong.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use archyard_tests::farm::{Outcome, PATIENCE, finish};
use archyard_tests::process::{self, wait_for};
use archyard_tests::project::unique;
use archyard_tests::{Coordinates, Farm, Project, client};
use serde_json::Value;
use xtask::engine::Kind;
use xtask::oci;

use crate::check::block_on;
use crate::faults::{SmallDisk, bytes_under, runners};

/// What is kept for clients.
fn kept(farm: &Farm) -> PathBuf {
    farm.data_dir().join("artifacts")
}

fn native(farm: &Farm) -> String {
    farm.env.native.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn docker(engine: &str, args: &[&str]) -> Outcome {
    finish(Command::new("docker").env("DOCKER_HOST", engine).args(args))
}

/// An image that says which machine it was built for, in several layers.
fn speaking(word: &str) -> Project {
    Project::new(&format!(
        "FROM BASE\nARG TARGETARCH\nRUN echo {word} > /word\nRUN echo {word}-$TARGETARCH > /said\nCMD [\"cat\", \"/said\"]\n"
    ))
}

/// A project whose image has this many bytes that do not compress.
fn large(word: &str, bytes: usize) -> Project {
    let project = Project::new(&format!("FROM BASE\nRUN echo {word}\nCOPY big /big\n"));
    let mut content = vec![0_u8; bytes];
    let mut state = std::process::id() | 1;
    for word in content.chunks_exact_mut(4) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        word.copy_from_slice(&state.to_le_bytes());
    }
    project.write("big", &content);
    project
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// `type=TYPE,dest=PATH`.
fn to(kind: &str, path: &Path) -> String {
    format!("type={kind},dest={}", path.display())
}

#[test]
fn an_archive_names_the_index_of_a_push_and_everybody_reads_it() {
    let farm = Farm::start(2);
    let word = unique("archive");
    let project = speaking(&word);
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("image.tar");
    let name = format!("{}/{word}:v1", farm.env.registry);
    let metadata = dir.path().join("metadata.json");
    let build = |output: &str| {
        farm.build(
            project.path(),
            &[
                "--platform",
                &native(&farm),
                "-t",
                &name,
                "-o",
                output,
                "--annotation",
                "index:org.example.word=yes",
                "--annotation",
                "manifest:org.example.of=manifest",
                "--metadata-file",
                metadata.to_str().unwrap(),
            ],
        )
        .expect(0)
    };
    let outcome = build(&to("oci", &archive));
    assert!(outcome.stdout.contains(&format!("archive: {}", archive.display())), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("fetched"), "{}", outcome.stderr);
    assert_eq!(bytes_under(&kept(&farm)), 0, "what was fetched is gone");
    let told: Value = serde_json::from_slice(&std::fs::read(&metadata).unwrap()).unwrap();

    // The very bytes that a push publishes, whichever tool reads them.
    build("type=registry");
    let pushed = oci::get_manifest(&farm.env.registry, &word, "v1").unwrap();
    let source = format!("oci-archive:{}", archive.display());
    let raw = finish(Command::new("skopeo").args(["inspect", "--raw", &source])).expect(0);
    assert_eq!(raw.stdout.as_bytes(), &pushed.bytes[..]);
    assert_eq!(told["containerimage.digest"], oci::digest(&pushed.bytes).as_str());
    for platform in &farm.env.native {
        let arch = platform.json()["architecture"].as_str().unwrap().to_owned();
        let target = format!("oci:{}:x", dir.path().join(&arch).display());
        finish(Command::new("skopeo").args(["--override-arch", &arch, "copy", "-q", &source, &target]))
            .expect(0);
        let config = finish(Command::new("skopeo").args(["inspect", "--config", "--raw", &target])).expect(0);
        let config: Value = serde_json::from_str(&config.stdout).unwrap();
        assert_eq!(config["architecture"], arch.as_str());
    }

    // Again: the same bytes.
    let again = dir.path().join("again.tar");
    build(&to("oci", &again));
    assert_eq!(std::fs::read(&archive).unwrap(), std::fs::read(&again).unwrap());
    let stdout = dir.path().join("stdout.tar");
    finish(
        farm.command()
            .args(["build", "--platform", &native(&farm), "-t", &name, "-o", "type=oci,dest=-"])
            .args(["--annotation", "index:org.example.word=yes"])
            .args(["--annotation", "manifest:org.example.of=manifest"])
            .arg(project.path())
            .stdout(std::fs::File::create(&stdout).unwrap()),
    )
    .expect(0);
    assert_eq!(std::fs::read(&archive).unwrap(), std::fs::read(&stdout).unwrap());

    // And every kind of Engine takes it, under its name.
    let said = format!("{word}-{}", farm.env.native[0].json()["architecture"].as_str().unwrap());
    for kind in [Kind::Host, Kind::Debian13Overlay, Kind::Debian13Containerd] {
        let engine = &farm.env.engine(kind).unwrap().address;
        docker(engine, &["load", "-q", "-i", archive.to_str().unwrap()]).expect(0);
        let ran = docker(engine, &["run", "--rm", &name]).expect(0);
        assert_eq!(ran.stdout.trim(), said, "on {}", kind.name());
        docker(engine, &["rmi", "-f", &name]);
    }
}

#[test]
fn an_image_is_loaded_into_every_kind_of_engine() {
    let farm = Farm::start(2);
    let word = unique("load");
    let project = speaking(&word);
    let name = format!("r.example/{word}:v1");
    let arch = |at: usize| farm.env.native[at].json()["architecture"].as_str().unwrap().to_owned();
    for kind in [Kind::Host, Kind::Debian13Overlay, Kind::Debian13Containerd] {
        let engine = farm.env.engine(kind).unwrap().address.clone();
        let outcome = farm
            .build(
                project.path(),
                &["--platform", &native(&farm), "-t", &name, "--load", "--engine", &engine],
            )
            .expect(0);
        assert!(outcome.stdout.contains(&format!("loaded {}", farm.env.native[0])), "{}", outcome.stdout);
        assert!(outcome.stdout.contains(&name), "{}", outcome.stdout);
        let ran = docker(&engine, &["run", "--rm", &name]).expect(0);
        assert_eq!(ran.stdout.trim(), format!("{word}-{}", arch(0)), "on {}", kind.name());
        if kind == Kind::Debian13Containerd {
            let other = farm.env.native[1].to_string();
            assert!(outcome.stdout.contains(&other), "{}", outcome.stdout);
            let ran = docker(&engine, &["run", "--rm", "--platform", &other, &name]).expect(0);
            assert_eq!(ran.stdout.trim(), format!("{word}-{}", arch(1)));
        }
        docker(&engine, &["rmi", "-f", &name]);
    }
}

#[test]
fn loading_without_this_machines_platform_is_refused_before_anything_is_built() {
    let farm = Farm::start(1);
    let project = speaking(&unique("load"));
    let engine = farm.env.engines[0].address.clone();
    let other = farm.env.native[1].to_string();
    farm.build(project.path(), &["--platform", &other, "--load", "--engine", &engine]).expect(2).says(&[
        "--load",
        &other,
        &format!("--platform {}", farm.env.native[0]),
    ]);
    farm.build(project.path(), &["--load", "--engine", "unix:///nowhere/docker.sock"])
        .expect(3)
        .says(&["/nowhere/docker.sock"]);
    for (output, part) in [("type=oci,dest=/nowhere/x.tar", "/nowhere"), ("type=zip", "type=oci")] {
        farm.build(project.path(), &["-o", output]).expect(2).says(&["--output", part]);
    }
    assert_eq!(farm.newest_build(), None);
}

/// What a tar says of each path, and its time; less what the Engine itself puts into a container.
fn listed(tar: &Path) -> BTreeMap<String, (String, u64)> {
    let mut found = BTreeMap::new();
    let mut archive = tar::Archive::new(std::fs::File::open(tar).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8_lossy(&entry.path_bytes()).trim_matches(['.', '/']).to_owned();
        let of_engine = [".dockerenv", "dockerenv", "dev", "proc", "sys", "etc"];
        let ours = path.split('/').next().is_none_or(|first| !of_engine.contains(&first));
        if path.is_empty() || !ours {
            continue;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        let link =
            entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).trim_matches('/').to_owned());
        let text = format!(
            "{:?} {:o} {}:{} {link:?} {}",
            header.entry_type(),
            header.mode().unwrap() & 0o7777,
            header.uid().unwrap(),
            header.gid().unwrap(),
            oci::digest(&content),
        );
        found.insert(path, (text, header.mtime().unwrap()));
    }
    found
}

fn files() -> Project {
    Project::new(&format!(
        "FROM BASE\nARG TARGETARCH\nRUN echo {} $TARGETARCH > /of && mkdir -p /a/b && echo x > /a/b/deep && chown 7:8 /a/b/deep && chmod 4755 /a/b/deep \
         && ln -s ../of /a/soft && ln /of /a/hard && mkfifo /a/fifo && chmod 1777 /a && tee /once < /proc/sys/kernel/random/uuid\n",
        unique("files")
    ))
}

/// What `docker export` gives of a build's image.
fn exported(farm: &Farm, project: &Project, platform: &str, dir: &Path) -> PathBuf {
    let engine = farm.env.engines[0].address.clone();
    let name = format!("r.example/{}:v1", unique("export"));
    let archive = dir.join("image.tar");
    farm.build(project.path(), &["--platform", platform, "-t", &name, "-o", &to("oci", &archive)]).expect(0);
    docker(&engine, &["load", "-q", "-i", archive.to_str().unwrap()]).expect(0);
    let container = docker(&engine, &["create", &name, "sh"]).expect(0).stdout.trim().to_owned();
    let export = dir.join("export.tar");
    docker(&engine, &["export", "-o", export.to_str().unwrap(), &container]).expect(0);
    docker(&engine, &["rm", &container]);
    docker(&engine, &["rmi", "-f", &name]);
    export
}

/// The tar of a build on an Engine is what the Engine exports of its image.
fn tar_is_the_image(kind: Kind) {
    let env = Coordinates::from_env().unwrap();
    let farm = Farm::on(vec![env.engine(kind).unwrap().address.clone()], &[], &["--slots", "1"]);
    let (project, dir) = (files(), tempfile::tempdir().unwrap());
    let platform = farm.env.native[0].to_string();
    let tar = dir.path().join("files.tar");
    farm.build(project.path(), &["--platform", &platform, "-o", &to("tar", &tar)]).expect(0);
    let (ours, theirs) = (listed(&tar), listed(&exported(&farm, &project, &platform, dir.path())));
    assert!(ours.contains_key("a/b/deep") && ours.contains_key("bin/busybox"), "{ours:#?}");
    for (path, (what, time)) in &theirs {
        let (our_what, our_time) = &ours[path];
        assert_eq!(our_what, what, "{path}");
        // BuildKit rounds to whole seconds where the Engine cuts.
        assert!(our_time.abs_diff(*time) <= 1, "{path}: {our_time} and {time}");
    }
    assert_eq!(ours.len(), theirs.len());

    // Without the cache too it is what was built, and was inspected, and nothing of before or after.
    farm.build(project.path(), &["--platform", &platform, "--no-cache", "-o", &to("tar", &tar)]).expect(0);
    let log = block_on(client::log(&farm, &farm.newest_build().unwrap(), 0));
    let said = client::output(&client::frames(&log));
    assert_eq!(said.lines().count(), 1, "it ran more than once: {said}");
    assert!(listed(&tar)["once"].0.ends_with(&oci::digest(said.as_bytes())), "{said}");
}

#[test]
fn a_tar_is_what_the_engine_exports_on_20_10() {
    tar_is_the_image(Kind::Host);
}

#[test]
fn a_tar_is_what_the_engine_exports_on_26_1() {
    tar_is_the_image(Kind::Debian13Overlay);
}

#[test]
fn a_tar_is_what_the_engine_exports_on_26_1_with_containerds_store() {
    tar_is_the_image(Kind::Debian13Containerd);
}

#[test]
fn files_of_two_platforms_lie_in_a_folder_each_and_what_was_there_stays() {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
    let farm = Farm::start(2);
    let (project, dir) = (files(), tempfile::tempdir().unwrap());
    let out = dir.path().join("out");
    std::fs::create_dir_all(out.join("linux_amd64")).unwrap();
    std::fs::write(out.join("linux_amd64/mine"), "kept").unwrap();
    std::fs::write(out.join("other"), "kept").unwrap();
    let folders: Vec<String> = farm.env.native.iter().map(|p| p.to_string().replace('/', "_")).collect();
    for _ in 0..2 {
        let outcome = farm
            .build(project.path(), &["--platform", &native(&farm), "-o", out.to_str().unwrap()])
            .expect(0);
        assert!(outcome.stdout.contains(&format!("files: {}", out.display())), "{}", outcome.stdout);
    }
    for (folder, platform) in folders.iter().zip(&farm.env.native) {
        let root = out.join(folder);
        let of = std::fs::read_to_string(root.join("of")).unwrap();
        assert!(of.trim().ends_with(platform.json()["architecture"].as_str().unwrap()), "{of}");
        let deep = root.join("a/b/deep").metadata().unwrap();
        assert_eq!((deep.permissions().mode() & 0o7777, deep.uid(), deep.gid()), (0o4755, 7, 8));
        assert_eq!(root.join("a").metadata().unwrap().permissions().mode() & 0o7777, 0o1777);
        assert_eq!(root.join("a/hard").metadata().unwrap().ino(), root.join("of").metadata().unwrap().ino());
        assert_eq!(std::fs::read_link(root.join("a/soft")).unwrap(), Path::new("../of"));
        assert!(root.join("a/fifo").symlink_metadata().unwrap().file_type().is_fifo());
    }
    assert_eq!(std::fs::read(out.join("linux_amd64/mine")).unwrap(), b"kept");
    assert_eq!(std::fs::read(out.join("other")).unwrap(), b"kept");
    assert!(!names(&out).iter().any(|name| name.starts_with('.')), "{:?}", names(&out));

    let tar = dir.path().join("both.tar");
    farm.build(project.path(), &["--platform", &native(&farm), "-o", &to("tar", &tar)]).expect(0);
    let listed = listed(&tar);
    for folder in &folders {
        assert!(listed.contains_key(&format!("{folder}/a/b/deep")), "{listed:#?}");
        // One of the two names is the file, the other a link to it; which, BuildKit says.
        let (hard, of) = (format!("{folder}/a/hard"), format!("{folder}/of"));
        assert!(listed[&hard].0.contains(&of) || listed[&of].0.contains(&hard), "{listed:#?}");
    }
}

/// The largest resident memory that processes had while this was asked, in bytes.
#[derive(Default)]
struct Peak(u64);

impl Peak {
    fn look(&mut self, pids: &[u32]) {
        for pid in pids {
            let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
            let line = status.lines().find(|line| line.starts_with("VmHWM:"));
            let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            self.0 = self.0.max(kib.unwrap_or_default() * 1024);
        }
    }
}

#[test]
fn a_large_layer_streams_through_worker_scheduler_and_client() {
    const SIZE: usize = 256 << 20;
    const BOUND: u64 = 96 << 20;
    let farm = Farm::start(1);
    let project = large(&unique("large"), SIZE);
    let dir = tempfile::tempdir().unwrap();
    let platform = farm.env.native[0].to_string();
    for output in [to("oci", &dir.path().join("image.tar")), to("tar", &dir.path().join("files.tar"))] {
        let mut client =
            farm.start_build(project.path(), &["--platform", &platform, "-o", &output], dir.path());
        let (mut runner, mut sender, mut receiver) = (Peak::default(), Peak::default(), Peak::default());
        let status = loop {
            runner.look(&runners(&farm, 0));
            sender.look(&[farm.scheduler_pid()]);
            receiver.look(&[client.id()]);
            if let Some(status) = client.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(status.code(), Some(0), "{}", std::fs::read_to_string(dir.path().join("stderr")).unwrap());
        for (who, Peak(peak)) in [("runner", runner), ("scheduler", sender), ("client", receiver)] {
            assert!(peak < BOUND, "the {who} held {peak} bytes for {output}");
            assert!(peak > 0, "the {who} was not seen");
        }
    }
    let length = |name: &str| dir.path().join(name).metadata().unwrap().len();
    assert!(length("image.tar") > SIZE as u64 && length("files.tar") > SIZE as u64);
}

#[test]
fn a_full_disk_on_worker_or_scheduler_is_said_and_nothing_stays() {
    let platform = Coordinates::from_env().unwrap().native[0].to_string();
    let dir = tempfile::tempdir().unwrap();
    // Large by what the build itself makes: the context is small.
    let project = Project::new(&format!(
        "FROM BASE\nRUN echo {} && dd if=/dev/urandom of=/big bs=1M count=64\n",
        unique("full")
    ));
    let small = Project::new(&format!("FROM BASE\nRUN echo {}\n", unique("small")));
    for on_worker in [true, false] {
        let disk = SmallDisk::new("48m");
        let data_dir = ["--data-dir", disk.path().to_str().unwrap()];
        let farm = match on_worker {
            true => Farm::with(1, &[], &[&["--slots", "1", "--min-free", "0B"], &data_dir[..]].concat()),
            false => Farm::with(1, &data_dir, &["--slots", "1"]),
        };
        for kind in ["oci", "tar"] {
            let out = dir.path().join(format!("{kind}.tar"));
            let args = ["--platform", &platform, "-o", &to(kind, &out)];
            let outcome = farm.build(project.path(), &args).expect(1);
            assert!(outcome.stderr.contains("disk is full"), "{}", outcome.stderr);
            assert!(!out.exists(), "something was written");
            let record = farm.show(&farm.newest_build().unwrap());
            let attempts = record["jobs"][0]["attempts"].as_array().unwrap();
            assert!(attempts.iter().all(|attempt| attempt["failure"]["code"] == "disk_full"), "{record:#}");
            // Nothing stays behind: a small build fits.
            farm.build(small.path(), &args).expect(0);
            std::fs::remove_file(&out).unwrap();
        }
    }
}

#[test]
fn what_does_not_fit_into_the_schedulers_bound_is_refused_in_one_line() {
    let farm = Farm::with(1, &["--artifacts-size", "1MB"], &["--slots", "1"]);
    let project = large(&unique("bound"), 4 << 20);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("image.tar");
    let platform = farm.env.native[0].to_string();
    farm.build(project.path(), &["--platform", &platform, "-o", &to("oci", &out)])
        .expect(1)
        .says(&["--artifacts-size", "1000000"]);
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["failure"]["code"], "artifacts_full", "{record:#}");
    assert!(!out.exists());
}

#[test]
fn a_client_that_goes_away_during_its_download_leaves_nothing_and_may_come_back() {
    let farm = Farm::start(1);
    let project = large(&unique("download"), 256 << 20);
    let platform = farm.env.native[0].to_string();
    for (kind, signal, code) in [
        ("oci", rustix::process::Signal::KILL, None),
        ("oci", rustix::process::Signal::INT, Some(130)),
        ("local", rustix::process::Signal::INT, Some(130)),
    ] {
        let (dir, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let out = dir.path().join("out");
        let args = ["--platform", &platform, "-o", &to(kind, &out)];
        let mut client = farm.start_build(project.path(), &args, logs.path());
        let stderr = || std::fs::read_to_string(logs.path().join("stderr")).unwrap_or_default();
        wait_for("the download is under way", PATIENCE, || stderr().contains("fetching").then_some(()));
        process::signal(client.id(), signal);
        assert_eq!(client.wait().unwrap().code(), code, "{}", stderr());
        assert!(names(dir.path()).is_empty(), "{:?} stayed of {kind}", names(dir.path()));

        let build = farm.newest_build().unwrap();
        assert_eq!(farm.show(&build)["state"], "succeeded");
        farm.run(&["fetch", &build, "-o", &to(kind, &out)]).expect(0);
        match kind {
            "oci" => assert!(out.metadata().unwrap().len() > 256 << 20),
            _ => assert_eq!(out.join("big").metadata().unwrap().len(), 256 << 20),
        }
        farm.run(&["fetch", &build, "-o", &to(kind, &out)]).expect(1).says(&["build again"]);
    }
}

#[test]
fn a_scheduler_that_dies_during_the_handover_costs_no_attempt() {
    let mut farm = Farm::start(1);
    let project = large(&unique("upload"), 256 << 20);
    let (dir, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let out = dir.path().join("image.tar");
    let platform = farm.env.native[0].to_string();
    let args = ["--platform", &platform, "-o", &to("oci", &out)];
    let mut client = farm.start_build(project.path(), &args, logs.path());
    for _ in 0..2 {
        let incoming = kept(&farm).join("blobs/incoming");
        wait_for("the upload is under way", PATIENCE, || (bytes_under(&incoming) > 4 << 20).then_some(()));
        farm.kill_scheduler();
        farm.start_scheduler();
    }
    assert_eq!(
        client.wait().unwrap().code(),
        Some(0),
        "{}",
        std::fs::read_to_string(logs.path().join("stderr")).unwrap()
    );
    let record = farm.show(&farm.newest_build().unwrap());
    assert_eq!(record["jobs"][0]["attempts"].as_array().unwrap().len(), 1, "{record:#}");
    let source = format!("oci-archive:{}", out.display());
    finish(Command::new("skopeo").args(["inspect", &source])).expect(0);
    wait_for("what was fetched is gone", PATIENCE, || (bytes_under(&kept(&farm)) == 0).then_some(()));
}

#[test]
fn what_nobody_fetches_goes_after_its_time() {
    let mut farm = Farm::with(1, &["--artifacts-kept", "3s"], &["--slots", "1"]);
    let marker = unique("kept");
    let project = Project::new(&format!("FROM BASE\nRUN sleep 3; echo {marker}\n"));
    let logs = tempfile::tempdir().unwrap();
    let platform = farm.env.native[0].to_string();
    let mut client = farm.start_build(
        project.path(),
        &["--platform", &platform, "-o", "type=oci,dest=/dev/null"],
        logs.path(),
    );
    wait_for("the RUN starts", PATIENCE, || process::with_marker(&marker).first().copied());
    client.kill().unwrap();
    client.wait().unwrap();
    let build = farm.newest_build().unwrap();
    wait_for("the build ends", PATIENCE, || (farm.show(&build)["state"] == "succeeded").then_some(()));
    assert!(bytes_under(&kept(&farm)) > 0, "it was not kept");
    // A restart changes nothing of it.
    farm.kill_scheduler();
    farm.start_scheduler();
    wait_for("it goes", Duration::from_secs(20), || (bytes_under(&kept(&farm)) == 0).then_some(()));
    farm.run(&["fetch", &build, "-o", "type=oci,dest=/dev/null"]).expect(1).says(&["build again"]);
}

#[test]
fn outputs_come_without_a_farm_too() {
    let farm = Farm::start(0);
    let dir = tempfile::tempdir().unwrap();
    let project = speaking(&unique("alone"));
    let out = dir.path().join("image.tar");
    let stdout = finish(
        farm.command()
            .env_remove("ARCHYARD_FARM")
            .args(["build", "-q", "--engine", &farm.env.engines[0].address, "-o", &to("oci", &out)])
            .args(["--platform", &native(&farm)])
            .arg(project.path()),
    )
    .expect(0)
    .stdout;
    let source = format!("oci-archive:{}", out.display());
    let raw = finish(Command::new("skopeo").args(["inspect", "--raw", &source])).expect(0);
    assert_eq!(stdout.trim(), oci::digest(raw.stdout.as_bytes()));
}

#[test]
fn outputs_come_over_tcp_with_tls() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let farm = Farm::with(0, &["--listen", &address.to_string(), "--tls", "--tls-name", "localhost"], &[]);
    let dir = tempfile::tempdir().unwrap();
    let endpoint = format!("https://localhost:{}", address.port());
    let issue = |role: &str, name: &str| {
        let folder = dir.path().join(name);
        let data_dir = farm.data_dir();
        farm.run(&[
            "cert",
            "issue",
            "--role",
            role,
            name,
            "--data-dir",
            data_dir.to_str().unwrap(),
            "--out",
            folder.to_str().unwrap(),
        ])
        .expect(0);
        folder
    };
    let (of_worker, of_client) = (issue("worker", "worker-1"), issue("client", "alice"));
    let mut worker = farm
        .command()
        .args(["worker", "--scheduler", &endpoint, "--name", "worker-1", "--slots", "1", "--tls-dir"])
        .arg(&of_worker)
        .args(["--engine", &farm.env.engines[0].address, "--data-dir"])
        .arg(farm.worker_dir(0))
        .spawn()
        .unwrap();
    let out = dir.path().join("files");
    let project = files();
    let outcome = finish(
        farm.command()
            .env("ARCHYARD_FARM", &endpoint)
            .env("ARCHYARD_TLS_DIR", &of_client)
            .args(["build", "--platform", &farm.env.native[0].to_string(), "-o"])
            .arg(&out)
            .arg(project.path()),
    );
    worker.kill().unwrap();
    worker.wait().unwrap();
    outcome.expect(0);
    assert!(out.join("a/b/deep").is_file());
}

/// How many bytes a build's worker sent to the scheduler.
fn handed_over(farm: &Farm, build: &str) -> i64 {
    use archyard_proto::v1::log_frame::Frame;
    let frames = client::frames(&block_on(client::log(farm, build, 0)));
    let sent = frames.into_iter().filter_map(|frame| match frame.frame {
        Some(Frame::Status(status)) if status.vertex == "handover" => Some(status.total_bytes),
        _ => None,
    });
    sent.max().unwrap_or_default()
}

#[test]
fn what_the_scheduler_has_is_not_sent_again() {
    let farm = Farm::start(1);
    let marker = unique("again");
    let project = large(&marker, 32 << 20);
    let dockerfile = std::fs::read_to_string(project.join("Dockerfile")).unwrap();
    project.write("Dockerfile", format!("{dockerfile}RUN sleep 2; echo {marker}\n").as_bytes());
    let logs = tempfile::tempdir().unwrap();
    let platform = farm.env.native[0].to_string();
    let args = ["--platform", &platform, "-o", "type=oci,dest=/dev/null"];
    // Its client goes away, so what it left stays with the scheduler.
    let mut client = farm.start_build(project.path(), &args, logs.path());
    wait_for("the RUN starts", PATIENCE, || process::with_marker(&marker).first().copied());
    client.kill().unwrap();
    client.wait().unwrap();
    let first = farm.newest_build().unwrap();
    wait_for("the build ends", PATIENCE, || (farm.show(&first)["state"] == "succeeded").then_some(()));
    assert!(handed_over(&farm, &first) > 32 << 20);

    project.write("Dockerfile", format!("{dockerfile}RUN echo {marker} > /more\n").as_bytes());
    farm.build(project.path(), &args).expect(0);
    let second = farm.newest_build().unwrap();
    let sent = handed_over(&farm, &second);
    assert!(sent > 0 && sent < 1 << 20, "{sent} bytes were sent again");
    // The first build's are still there, though the second's were fetched and went.
    farm.run(&["fetch", &first, "-o", "type=oci,dest=/dev/null"]).expect(0);
}
