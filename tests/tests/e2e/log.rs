//! Logs: every line that a step writes arrives, at whatever pace it is written and read.

use archyard_tests::project::unique;
use archyard_tests::{Farm, Project};

/// Lines of 70 bytes: 28 MB.
const LINES: usize = 400_000;

fn project(end: &str) -> Project {
    let line = "0123456789 0123456789 0123456789 0123456789 0123456789 01234567";
    Project::new(&format!(
        "FROM BASE\nRUN i=0; while [ $i -lt {LINES} ]; do echo $i {line}; i=$((i+1)); done; echo THE END; {end} # {}\n",
        unique("lines")
    ))
}

/// Of the lines that a step wrote, each begins with its number; the last one says that it is the last.
fn assert_whole(progress: &str) {
    let said = progress.lines().filter_map(|line| line.split_once(" | #")?.1.splitn(3, ' ').nth(2));
    let is_of_step = |text: &&str| {
        let rest = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
        rest.starts_with(" 0123456789 0123456789 ") || *text == "THE END"
    };
    let lines: Vec<&str> = said.filter(is_of_step).collect();
    let numbered = lines.iter().zip(0..).take_while(|(line, n)| line.starts_with(&format!("{n} "))).count();
    assert_eq!((numbered, lines.len(), lines.last()), (LINES, LINES + 1, Some(&"THE END")));
}

#[test]
fn a_step_that_writes_many_lines_has_a_whole_log() {
    let farm = Farm::start(1);
    let platform = farm.env.native[0].to_string();
    let outcome = farm.build(project("true").path(), &["--platform", &platform]).expect(0);
    assert_whole(&outcome.stderr);
    let build = farm.newest_build().unwrap();
    assert_whole(&farm.run(&["logs", &build]).expect(0).stdout);
    let record = farm.show(&build);
    assert!(record["jobs"][0]["attempts"][0]["log_warning"].is_null(), "{record}");
}

#[test]
fn a_step_that_fails_after_many_lines_keeps_its_error_and_line() {
    let farm = Farm::start(1);
    let platform = farm.env.native[0].to_string();
    let outcome = farm.build(project("exit 7").path(), &["--platform", &platform]).expect(1);
    let (progress, _) = outcome.stderr.split_once("------").unwrap();
    assert_whole(progress);
    assert!(outcome.stderr.contains("Dockerfile:2: RUN i=0;"), "{}", &outcome.stderr[progress.len()..]);
    assert!(outcome.stderr.contains("failed with exit code 7"), "{}", &outcome.stderr[progress.len()..]);
}

#[test]
fn a_log_that_lacks_its_end_says_so() {
    let farm = Farm::start(1);
    let platform = farm.env.native[0].to_string();
    let project = Project::new(&format!("FROM BASE\nRUN seq 1 20000 # {}\n", unique("cut")));
    farm.build(project.path(), &["--platform", &platform]).expect(0);
    let build = farm.newest_build().unwrap();
    let spool = farm.data_dir().join("spools").join(&build).join("0-1");
    let length = std::fs::metadata(&spool).unwrap().len();
    std::fs::File::options().write(true).open(&spool).unwrap().set_len(length - 5_000).unwrap();
    let outcome = farm.run(&["logs", &build]);
    assert_ne!(outcome.code, Some(0));
    assert!(outcome.stdout.contains(" 10000"), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("only"), "{}", outcome.stderr);
}
