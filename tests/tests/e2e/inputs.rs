//! A context is what the build reads: the rest is not looked at, sent or kept, unless a base image asks for it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use archyard_tests::farm::finish;
use archyard_tests::project::unique;
use archyard_tests::{Coordinates, Farm, Project};

/// Whether any file beneath a folder holds these bytes.
fn holds(folder: &Path, bytes: &str) -> bool {
    finish(Command::new("grep").args(["-rqaF", bytes]).arg(folder)).code == Some(0)
}

fn native(farm: &Farm) -> String {
    farm.env.native[0].to_string()
}

#[test]
fn what_no_instruction_copies_is_neither_read_nor_kept() {
    let farm = Farm::start(1);
    let (secret, word) = (unique("secret"), unique("inputs"));
    let project = Project::new("FROM BASE\nCOPY word /word\nRUN cat /word\n")
        .file("word", &word)
        .file(".env", &secret)
        .file("closed/key", &secret);
    let _socket = UnixListener::bind(project.join("socket")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, project.join("pipe"), 0o600.into()).unwrap();
    fs::set_permissions(project.join("closed"), Permissions::from_mode(0o000)).unwrap();
    let done = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            // A log that grows all the while.
            while !done.load(Ordering::Relaxed) {
                project.write("log", unique("line").repeat(1000).as_bytes());
            }
        });
        let outcome = farm.build(project.path(), &["--platform", &native(&farm)]);
        done.store(true, Ordering::Relaxed);
        outcome
    });
    fs::set_permissions(project.join("closed"), Permissions::from_mode(0o755)).unwrap();
    outcome.expect(0).says(&[&word]);
    for folder in [farm.data_dir(), farm.worker_dir(0)] {
        assert!(holds(&folder, &word), "the copied file is not in {}", folder.display());
        assert!(!holds(&folder, &secret), "what nothing copies is kept in {}", folder.display());
    }
}

#[test]
fn a_base_that_copies_gets_the_whole_context_from_the_client() {
    // On an Engine that is handed small contexts as a whole, and on one that asks for paths.
    let env = Coordinates::from_env().unwrap();
    let engines = env.engines.first().into_iter().chain(env.more_engines.last());
    for engine in engines.map(|engine| engine.address.clone()) {
        let farm = Farm::on(vec![engine.clone()], &[], &[]);
        let base = format!("{}/{}:1", farm.env.registry, unique("inputs/onbuild"));
        let project = Project::new("FROM BASE\nONBUILD COPY src /src\n");
        farm.build(project.path(), &["--platform", &native(&farm), "--push", "-t", &base]).expect(0);
        let word = unique("onbuild");
        let dockerfile = format!("FROM {base}\nCOPY own /own\nRUN cat /own /src/*\n");
        let project = Project::new(&dockerfile).file("own", &unique("own")).file("src/one", &word);
        let outcome = farm.build(project.path(), &["--platform", &native(&farm)]).expect(0);
        outcome.says(&[&word, "has the trigger \"ONBUILD COPY src /src\""]);
        let shown = farm.show(&farm.newest_build().unwrap());
        assert_eq!(shown["jobs"][0]["attempts"].as_array().map(Vec::len), Some(1), "{engine}: {shown}");
    }
}

#[test]
fn a_client_that_cannot_read_the_rest_ends_its_build() {
    let farm = Farm::start(1);
    let base = format!("{}/{}:1", farm.env.registry, unique("inputs/onbuild"));
    let project = Project::new("FROM BASE\nONBUILD COPY . /src\n");
    farm.build(project.path(), &["--platform", &native(&farm), "--push", "-t", &base]).expect(0);
    let project = Project::new(&format!("FROM {base}\nCOPY own /own\n")).file("own", "x");
    // Larger than any context, and no block on the disk.
    fs::File::create(project.join("huge")).and_then(|file| file.set_len(65 << 30)).unwrap();
    let outcome = farm.build(project.path(), &["--platform", &native(&farm)]);
    outcome.expect(2).says(&["a context holds at most"]);
    assert_eq!(farm.show(&farm.newest_build().unwrap())["state"], "canceled");
}

#[test]
fn times_and_links_of_derived_inputs_are_those_of_the_whole_context() {
    let farm = Farm::start(1);
    let copies = "COPY a/*.txt l/y /one/\nCOPY d /two\nADD b/../c.go /three/\n";
    let project = |dockerfile: &str| {
        let project = Project::new(dockerfile)
            .file("a/1.txt", "1")
            .file("a/2.md", "2")
            .file("b/y", "y")
            .file("c.go", "c")
            .file("d/e/f", "f")
            .file("unrelated", "u");
        std::os::unix::fs::symlink("b", project.join("l")).unwrap();
        std::os::unix::fs::symlink("../c.go", project.join("d/link")).unwrap();
        project
    };
    let part = project(&format!("FROM scratch\n{copies}"));
    // A stage that reads everything makes the whole context an input.
    let whole = project(&format!(
        "FROM scratch AS all\nCOPY . /\nFROM scratch\nCOPY --from=all /d/e/f /all\n{copies}"
    ));
    finish(Command::new("cp").arg("-a").arg(format!("{}/.", part.path().display())).arg(whole.join("src")))
        .expect(0);
    let list = |project: &Project, context: &Path| {
        let out = project.join("out");
        let output = format!("type=local,dest={}", out.display());
        let file = project.join("Dockerfile");
        let flags = ["--platform", &native(&farm), "-f", file.to_str().unwrap(), "-o", &output];
        farm.build(context, &flags).expect(0);
        let find = ["one", "two", "three", "-printf", "%p %y %m %s %T@ %l\n"];
        let found = finish(Command::new("find").args(find).current_dir(&out)).expect(0).stdout;
        let mut lines: Vec<String> = found.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let context = part.path().to_owned();
    let (ours, all) = (list(&part, &context), list(&whole, &whole.join("src")));
    let files =
        |lines: &[String]| lines.iter().filter(|line| !line.contains(" d ")).cloned().collect::<Vec<_>>();
    assert_eq!(files(&ours), files(&all));
    assert!(ours.iter().any(|line| line.starts_with("two/link l")), "{ours:?}");
}
