//! Contexts: what is chosen, how it arrives, and that content decides, not times.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use archyard_tests::project::unique;
use archyard_tests::{Farm, Project, client};

use crate::check::block_on;

/// Builds for the first native platform and returns what the steps wrote.
fn built_output(farm: &Farm, project: &Project) -> String {
    farm.build(project.path(), &["--platform", &farm.env.native[0].to_string()]).expect(0);
    let build = farm.newest_build().unwrap();
    client::output(&client::frames(&block_on(client::log(farm, &build, 0))))
}

fn set_times(path: &Path, at: SystemTime) {
    std::fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
}

#[test]
fn equal_names_sizes_and_times_with_different_bytes_are_different_builds() {
    let farm = Farm::start(1);
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let word = unique("stale");
    let dockerfile = format!("FROM BASE\nCOPY word /word\nRUN echo {word} && cat /word\n");
    let one = Project::new(&dockerfile).file("word", "AAAA");
    set_times(&one.join("word"), at);
    assert!(built_output(&farm, &one).contains("AAAA"));
    // Another folder, and the very same folder: neither may show the old bytes.
    let two = Project::new(&dockerfile).file("word", "BBBB");
    set_times(&two.join("word"), at);
    assert!(built_output(&farm, &two).contains("BBBB"));
    one.write("word", b"CCCC");
    set_times(&one.join("word"), at);
    assert!(built_output(&farm, &one).contains("CCCC"));
}

#[test]
fn modes_links_and_empty_folders_arrive() {
    let farm = Farm::start(1);
    let project = Project::new(&format!(
        "FROM BASE\nCOPY . /src\nRUN echo {} && cd /src && stat -c '%n %a' run.sh deep/er/file && readlink link && cat hard && test -d empty\n",
        unique("modes")
    ))
    .file("run.sh", "#!/bin/sh\n")
    .file("deep/er/file", "x")
    .file("soft", "hard content\n");
    std::fs::set_permissions(project.join("run.sh"), Permissions::from_mode(0o4755)).unwrap();
    std::fs::set_permissions(project.join("deep/er/file"), Permissions::from_mode(0o600)).unwrap();
    symlink("nowhere/at/all", project.join("link")).unwrap();
    std::fs::hard_link(project.join("soft"), project.join("hard")).unwrap();
    std::fs::create_dir(project.join("empty")).unwrap();
    let output = built_output(&farm, &project);
    for line in ["run.sh 4755", "deep/er/file 600", "nowhere/at/all", "hard content"] {
        assert!(output.contains(line), "{line:?} is not in\n{output}");
    }
}

#[test]
fn dockerignore_decides_and_the_dockerfiles_own_comes_first() {
    let farm = Farm::start(1);
    let list =
        |word: &str| format!("FROM BASE\nCOPY . /src\nRUN echo {word} && cd /src && find . -type f | sort\n");
    let project = Project::new(&list(&unique("ignore")))
        .file(".dockerignore", "# a comment\nsecret*\n**/*.log\n!keep.log\nnode_modules\n")
        .file("secret.txt", "s")
        .file("keep.log", "k")
        .file("a/drop.log", "d")
        .file("node_modules/x/y", "n")
        .file("a/kept", "k");
    let output = built_output(&farm, &project);
    assert!(output.contains("./keep.log") && output.contains("./a/kept"), "{output}");
    for dropped in ["secret.txt", "drop.log", "node_modules"] {
        assert!(!output.contains(dropped), "{dropped} is in\n{output}");
    }
    let base = farm.env.base.reference.clone();
    let project = project
        .file("other.Dockerfile", &list(&unique("ignore")).replace("BASE", &base))
        .file("other.Dockerfile.dockerignore", "a\n");
    let platform = farm.env.native[0].to_string();
    let file = project.join("other.Dockerfile");
    farm.build(project.path(), &["--platform", &platform, "-f", file.to_str().unwrap()]).expect(0);
    let build = farm.newest_build().unwrap();
    let output = client::output(&client::frames(&block_on(client::log(&farm, &build, 0))));
    assert!(output.contains("./secret.txt") && !output.contains("a/kept"), "{output}");
}

#[test]
fn a_dockerfile_outside_the_context_is_fine() {
    let farm = Farm::start(1);
    let elsewhere =
        Project::new(&format!("FROM BASE\nCOPY only /only\nRUN echo {} && cat /only\n", unique("outside")));
    let context = tempfile::tempdir().unwrap();
    std::fs::write(context.path().join("only"), "from the context").unwrap();
    let file = elsewhere.join("Dockerfile");
    let outcome = farm
        .build(context.path(), &["--platform", &farm.env.native[0].to_string(), "-f", file.to_str().unwrap()])
        .expect(0);
    assert!(outcome.stderr.contains("from the context"), "{}", outcome.stderr);
}

#[test]
fn a_symlink_out_of_the_context_never_brings_the_hosts_file() {
    let farm = Farm::start(1);
    let host = tempfile::tempdir().unwrap();
    let secret = unique("host-secret");
    std::fs::write(host.path().join("file"), &secret).unwrap();
    let project = Project::new("FROM BASE\nCOPY leak /leak\nRUN cat /leak\n");
    symlink(host.path().join("file"), project.join("leak")).unwrap();
    let outcome = farm.build(project.path(), &["--platform", &farm.env.native[0].to_string()]);
    assert_ne!(outcome.code, Some(0));
    assert!(!outcome.stderr.contains(&secret) && !outcome.stdout.contains(&secret));
    let project = Project::new("FROM BASE\nCOPY ../../../../etc/hostname /leak\n");
    farm.build(project.path(), &["--platform", &farm.env.native[0].to_string()]).expect(1);
}

/// Peak resident memory of a process, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_large_file_streams_and_a_second_build_sends_nothing() {
    const SIZE: usize = 256 * 1024 * 1024;
    let farm = Farm::start(1);
    let project =
        Project::new(&format!("FROM BASE\nCOPY big /big\nRUN echo {} && wc -c < /big\n", unique("big")));
    let mut bytes = vec![0_u8; SIZE];
    let mut state = std::process::id() | 1;
    for word in bytes.chunks_exact_mut(4) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        word.copy_from_slice(&state.to_le_bytes());
    }
    project.write("big", &bytes);
    drop(bytes);
    assert!(built_output(&farm, &project).contains(&SIZE.to_string()));
    let peak = peak_memory(farm.scheduler_pid());
    assert!(peak < 128 * 1024 * 1024, "the scheduler held {peak} bytes");

    // With every blob but the manifest's own knowledge gone from the client, nothing is sent again: the
    // scheduler's folder does not change by a byte.
    let before = tree_size(&farm.data_dir().join("blobs"));
    farm.build(project.path(), &["--platform", &farm.env.native[0].to_string()]).expect(0);
    assert_eq!(tree_size(&farm.data_dir().join("blobs")), before);
}

fn tree_size(dir: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            let (f, b) = tree_size(&entry.path());
            files += f;
            bytes += b;
        } else {
            files += 1;
            bytes += metadata.len();
        }
    }
    (files, bytes)
}
