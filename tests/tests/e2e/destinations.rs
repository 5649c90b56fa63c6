//! Where results are written: files are replaced whole, and what is no file is written to and stays what it is.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use archyard_tests::farm::{PATIENCE, finish};
use archyard_tests::process::wait_for;
use archyard_tests::{Farm, Project};
use serde_json::Value;

fn project() -> Project {
    Project::new("FROM scratch\nCOPY word /\n").file("word", "hello")
}

/// Runs a build whose standard output is a file, and returns what is in that.
fn into_file(farm: &Farm, project: &Project, flags: &[&str]) -> Vec<u8> {
    let path = project.join("../stdout-of-build").with_extension(std::process::id().to_string());
    let mut command = farm.command();
    command.args(["build", "--data-only"]).args(flags).arg(project.path());
    let output = command.stdout(File::create(&path).unwrap()).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    bytes
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap();
    entries.map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

fn is_link(path: impl AsRef<Path>) -> bool {
    path.as_ref().symlink_metadata().unwrap().is_symlink()
}

#[test]
fn standard_output_under_any_name_gets_the_bytes_and_nothing_else() {
    let farm = Farm::start(1);
    let project = project();
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    symlink("/proc/self/fd/1", &link).unwrap();
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", link.to_str().unwrap(), "-"] {
        let tar = into_file(&farm, &project, &["-o", &format!("type=tar,dest={name}")]);
        assert!(names(&tar).contains(&"word".to_owned()), "{name}: {:?}", names(&tar));
    }
    let both = into_file(&farm, &project, &["-q", "--metadata-file", "/dev/stdout"]);
    let mut values = serde_json::Deserializer::from_slice(&both).into_iter::<Value>();
    assert!(values.next().unwrap().unwrap()["archyard.build_id"].is_string());
    let id = into_file(&farm, &project, &["--iidfile", "/dev/stdout"]);
    assert!(id.starts_with(b"sha256:"), "{id:?}");
    assert!(is_link("/dev/stdout") && is_link(&link), "a link was replaced");
}

#[test]
fn pipes_devices_and_links_stay_what_they_are() {
    let farm = Farm::start(1);
    let project = project();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    finish(Command::new("mkfifo").arg(at("pipe"))).expect(0);
    std::fs::write(at("file"), "old").unwrap();
    symlink("file", at("link")).unwrap();
    let reader = std::thread::spawn({
        let pipe = at("pipe");
        move || std::fs::read(pipe).unwrap()
    });
    let tar = format!("type=tar,dest={}", at("pipe").display());
    let link = at("link");
    let flags =
        ["--data-only", "-o", &tar, "--metadata-file", link.to_str().unwrap(), "--iidfile", "/dev/null"];
    farm.build(project.path(), &flags).expect(0);
    assert!(names(&reader.join().unwrap()).contains(&"word".to_owned()));
    assert!(at("pipe").exists() && !at("pipe").metadata().unwrap().is_file());
    assert!(is_link(&link) && std::fs::read_to_string(at("file")).unwrap().contains("archyard.build_id"));
    assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    farm.build(project.path(), &["--data-only", "-o", "type=tar,dest=/dev/null"]).expect(0);

    // A build that fails leaves no old result, and takes nothing else away.
    let failing = Project::new("FROM scratch\nCOPY nothing /\n");
    let flags = ["--metadata-file", link.to_str().unwrap(), "--iidfile", "/dev/null"];
    farm.build(failing.path(), &flags).expect(1);
    assert!(is_link(&link) && !at("file").exists());
    assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
}

#[test]
fn a_pipe_that_nobody_reads_does_not_hold_the_client_for_ever() {
    let farm = Farm::start(1);
    let (project, folder) = (project(), tempfile::tempdir().unwrap());
    let pipe = folder.path().join("pipe");
    finish(Command::new("mkfifo").arg(&pipe)).expect(0);
    let out = folder.path().join("out");
    let flags = ["--data-only", "--metadata-file", pipe.to_str().unwrap()];
    let mut client = farm.start_build(project.path(), &flags, &out);
    wait_for("the build succeeds", PATIENCE, || {
        let stderr = std::fs::read_to_string(out.join("stderr")).unwrap_or_default();
        stderr.contains("succeeded in").then_some(())
    });
    assert!(client.try_wait().unwrap().is_none(), "it does not wait for a reader");
    // The first one may come before the pipe is waited for, and is the session's then.
    let code = wait_for("the client leaves", PATIENCE, || {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&client),
            rustix::process::Signal::INT,
        )
        .ok();
        std::thread::sleep(std::time::Duration::from_millis(200));
        client.try_wait().unwrap()
    });
    assert_eq!(code.code(), Some(130));
    assert!(!pipe.metadata().unwrap().is_file());
}

#[test]
fn what_cannot_take_bytes_is_refused_before_anything_is_built() {
    let farm = Farm::start(0);
    let project = project();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let socket = socket.to_str().unwrap();
    for (flags, want) in [
        (&["--metadata-file", socket][..], "this is a socket"),
        (&["-o", &format!("type=oci,dest={socket}")], "this is a socket"),
        (&["-o", "type=oci,dest=/dev/stderr"], "standard error shows progress"),
        (
            &["-o", "-", "--metadata-file", "/dev/stdout"],
            "--metadata-file: standard output is taken by --output",
        ),
        (&["--json", "--iidfile", "/dev/fd/1"], "--iidfile: standard output is taken by --json"),
    ] {
        farm.build(project.path(), flags).expect(2).says(&[want]);
    }
    assert_eq!(farm.newest_build(), None, "a build was accepted");
}
