//! The smoke test: the image that was just built has to run, here, before anybody gets it.
//!
//! Which programs is the plan's to say, or else the image's own label's. How they ended is judged here: an image
//! that does not do what it is asked is its author's failure, in words that say what to change. Nothing is run
//! that this machine would not run natively, and what was not run never counts as passed.

use std::collections::BTreeMap;

use archyard_model::checks::SMOKE_TEST_LABEL;
use archyard_model::{Checks, Failure, FailureClass, Invalid, Sha256, SmokeOutcome, limits};
use tokio_util::sync::CancellationToken;

use super::log::Log;
use super::order::Order;
use crate::engine::{End, Engine, Home, Ran, RunError, RunRequest};

/// Of a program's output, with its failure: the log has more.
const DETAIL_LINES: usize = 20;

/// One program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Test {
    /// Who asked for it: the flag, or the label.
    field: &'static str,
    /// As it was written.
    text: String,
    /// The same as a shell would split it. None: the image's own command.
    words: Vec<String>,
}

/// Runs the smoke tests of an image with these labels, one after the other.
pub(super) async fn run(
    order: &Order,
    engine: &impl Engine,
    image: Sha256,
    labels: &BTreeMap<String, String>,
    log: &Log,
    cancel: &CancellationToken,
) -> Result<SmokeOutcome, Failure> {
    let tests = tests(&order.spec.checks, labels)?;
    if tests.is_empty() {
        return Ok(SmokeOutcome::NotAsked);
    }
    let count = if tests.len() == 1 { "1 test".to_owned() } else { format!("{} tests", tests.len()) };
    if order.spec.cross {
        let platform = &order.spec.platform;
        log.phase("smoke", format!("{count} not run: this machine does not run {platform}")).await;
        return Ok(SmokeOutcome::NotRun);
    }
    log.phase("smoke", count).await;
    for (number, test) in (1..).zip(tests) {
        let request = test.request(number, image, order);
        let ran = engine.run(request, log.sender(), cancel.clone()).await.map_err(RunError::into_failure)?;
        tracing::info!(test = test.text, end = %ran.end, "smoke-tested");
        if let Some(failure) = test.judge(&ran, &order.spec.checks) {
            return Err(failure);
        }
    }
    Ok(SmokeOutcome::Passed)
}

/// What is to be run.
fn tests(checks: &Checks, labels: &BTreeMap<String, String>) -> Result<Vec<Test>, Failure> {
    if !checks.smoke_tests.is_empty() {
        return checks.smoke_tests.iter().map(|text| Test::parse("smoke test", text)).collect();
    }
    // An image of files alone has nothing to run: such a label is its base's.
    let label = labels.get(SMOKE_TEST_LABEL).filter(|_| !checks.data_only);
    label.map(|text| Test::parse(SMOKE_TEST_LABEL, text)).into_iter().collect()
}

impl Test {
    /// Plans are checked before; labels are whatever somebody wrote.
    fn parse(field: &'static str, text: &str) -> Result<Self, Failure> {
        let malformed = |problem: String| {
            let message = Invalid::new(field, text, problem).to_string();
            Failure::new(FailureClass::User, "smoke_test_malformed", message)
        };
        if text.len() > limits::SMOKE_TEST_BYTES {
            let most = limits::SMOKE_TEST_BYTES;
            return Err(malformed(format!("it has {} bytes; at most {most} are taken", text.len())));
        }
        if text.contains('\0') {
            return Err(malformed("no program can be given a NUL byte".to_owned()));
        }
        let words = shell_words::split(text)
            .map_err(|_| malformed("a quote is not closed; write words as for a shell".to_owned()))?;
        Ok(Self { field, text: text.to_owned(), words })
    }

    /// For one line of text.
    fn title(&self) -> String {
        if self.words.is_empty() {
            return "the image's own command".to_owned();
        }
        let escaped =
            |c: char| -> String { if c.is_control() { c.escape_default().collect() } else { c.into() } };
        self.text.trim().chars().map(escaped).collect()
    }

    fn request(&self, number: usize, image: Sha256, order: &Order) -> RunRequest {
        let checks = &order.spec.checks;
        RunRequest {
            image,
            words: self.words.clone(),
            attempt: order.attempt,
            number,
            home: Home::new(&order.worker, order.layout.root()),
            step: format!("smoke test: {}", self.title()),
            network: checks.smoke_network,
            writable: checks.smoke_writable,
            timeout: checks.smoke_timeout,
            memory_bytes: checks.smoke_memory,
        }
    }

    /// None when it passed.
    fn judge(&self, ran: &Ran, checks: &Checks) -> Option<Failure> {
        let (code, problem) = match &ran.end {
            End::Exited(0) => return None,
            End::Exited(code) => {
                let remedy = remedy(&ran.tail, checks.smoke_network, checks.smoke_writable);
                ("smoke_failed", format!("{}; {remedy}", exit(*code)))
            }
            End::NotStarted(reason) => (
                "smoke_failed",
                format!("it did not start: {reason}; mend the image, or name a program it has"),
            ),
            End::VolumeFull(most) => {
                let most = bytes(*most);
                (
                    "smoke_volume",
                    format!(
                        "what the image holds below a VOLUME does not fit into {most} of memory; give it more with --smoke-test-memory, or let the image hold less there"
                    ),
                )
            }
            End::OutOfMemory => {
                let memory = bytes(checks.smoke_memory);
                (
                    "smoke_out_of_memory",
                    format!(
                        "it needs more than its {memory} of memory; give it more with --smoke-test-memory"
                    ),
                )
            }
            End::TimedOut => {
                let time = checks.smoke_timeout;
                (
                    "smoke_timeout",
                    format!(
                        "it did not end within {time:?}; name a program that ends, or give it longer with --smoke-test-timeout"
                    ),
                )
            }
            End::DiskFull => {
                let most = bytes(limits::SMOKE_DISK_BYTES);
                (
                    "smoke_disk",
                    format!(
                        "it wrote more than {most}, or more files than can be counted; let it write less"
                    ),
                )
            }
        };
        let message = Invalid::new(self.field, self.title(), problem).to_string();
        let failure = Failure::new(FailureClass::User, code, message).with_detail(last_lines(&ran.tail));
        Some(match ran.end {
            End::Exited(code) => failure.with_exit_code(i32::try_from(code).unwrap_or(i32::MAX)),
            _ => failure,
        })
    }
}

/// What an exit code says.
fn exit(code: i64) -> String {
    let signal = match code - 128 {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        signal @ 1..=64 => return format!("exit code {code} (signal {signal})"),
        _ => return format!("exit code {code}"),
    };
    format!("exit code {code} (killed by {signal})")
}

/// What may help, by what the program complained of.
fn remedy(tail: &str, network: bool, writable: bool) -> &'static str {
    const NETWORK: [&str; 4] =
        ["etwork is unreachable", "emporary failure in name resolution", "bad address", "resolve host"];
    if !writable && tail.contains("ead-only file system") {
        "it may write to /tmp alone: allow more with --smoke-test-writable"
    } else if !network && NETWORK.iter().any(|mark| tail.contains(mark)) {
        "it has no network: give it one with --smoke-test-network"
    } else {
        "see what it wrote, and mend the image or the test"
    }
}

/// The end of a text, by whole lines.
fn last_lines(tail: &str) -> String {
    let lines: Vec<&str> = tail.lines().collect();
    lines[lines.len().saturating_sub(DETAIL_LINES)..].join("\n")
}

/// A size as people read it.
fn bytes(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    if bytes.is_multiple_of(1024 * MIB) {
        format!("{} GiB", bytes / 1024 / MIB)
    } else if bytes.is_multiple_of(MIB) {
        format!("{} MiB", bytes / MIB)
    } else {
        format!("{bytes} bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(SMOKE_TEST_LABEL.to_owned(), text.to_owned())])
    }

    fn judged(end: End, tail: &str) -> Failure {
        let test = Test::parse("smoke test", "app --self-test").unwrap();
        test.judge(&Ran { end, tail: tail.to_owned() }, &Checks::default()).unwrap()
    }

    #[test]
    fn a_plans_tests_come_before_an_images() {
        let words = |checks: Checks, text: &str| {
            let tests = tests(&checks, &label(text)).unwrap();
            tests.into_iter().map(|test| test.words).collect::<Vec<_>>()
        };
        assert_eq!(words(Checks::default(), "app 'a b'"), [["app", "a b"]]);
        assert_eq!(words(Checks::default(), ""), [Vec::<String>::new()], "the image's own command");
        let asked = Checks { smoke_tests: vec!["x".to_owned(), "y".to_owned()], ..Checks::default() };
        assert_eq!(words(asked, "app"), [["x"], ["y"]]);
        assert!(words(Checks { data_only: true, ..Checks::default() }, "app").is_empty());
        assert!(tests(&Checks::default(), &BTreeMap::new()).unwrap().is_empty());
    }

    #[test]
    fn a_label_that_is_no_test_is_told_in_one_line() {
        let long = "x".repeat(limits::SMOKE_TEST_BYTES + 1);
        for (text, says) in [("app 'open", "quote"), ("a\0b", "NUL"), (long.as_str(), "at most 4096")] {
            let failure = tests(&Checks::default(), &label(text)).unwrap_err();
            assert_eq!((failure.class, failure.code.as_str()), (FailureClass::User, "smoke_test_malformed"));
            assert!(failure.message.contains(says) && !failure.message.contains('\n'), "{failure}");
            assert!(failure.message.starts_with("archyard.smoke-test \""), "{failure}");
        }
    }

    #[test]
    fn a_title_is_one_line() {
        let test = Test::parse("smoke test", " sh -c 'a\nb\u{1b}[2J' ").unwrap();
        assert_eq!(test.title(), "sh -c 'a\\nb\\u{1b}[2J'");
        assert_eq!(Test::parse("smoke test", "").unwrap().title(), "the image's own command");
    }

    #[test]
    fn each_end_has_its_code_and_its_remedy() {
        let failed = judged(End::Exited(3), "one\ntwo\n");
        assert_eq!(
            (failed.code.as_str(), failed.exit_code, failed.detail.as_str()),
            ("smoke_failed", Some(3), "one\ntwo")
        );
        for (end, tail, code, says) in [
            (End::Exited(3), "", "smoke_failed", "exit code 3; see what it wrote"),
            (End::Exited(139), "", "smoke_failed", "exit code 139 (killed by SIGSEGV)"),
            (End::Exited(1), "x: Read-only file system\n", "smoke_failed", "--smoke-test-writable"),
            (End::Exited(1), "bad address 'h'\n", "smoke_failed", "--smoke-test-network"),
            (End::NotStarted("exec: \"app\"".to_owned()), "", "smoke_failed", "did not start: exec: \"app\""),
            (
                End::VolumeFull(256 << 20),
                "",
                "smoke_volume",
                "into 256 MiB of memory; give it more with --sm",
            ),
            (End::OutOfMemory, "", "smoke_out_of_memory", "its 512 MiB of memory"),
            (End::TimedOut, "", "smoke_timeout", "within 60s"),
            (End::DiskFull, "", "smoke_disk", "more than 1 GiB"),
        ] {
            let failure = judged(end, tail);
            assert_eq!((failure.class, failure.code.as_str()), (FailureClass::User, code));
            assert!(failure.message.starts_with("smoke test \"app --self-test\": "), "{failure}");
            assert!(failure.message.contains(says) && !failure.message.contains('\n'), "{failure}");
        }
    }

    #[test]
    fn of_a_flood_the_end_is_kept() {
        let tail: String = (0..100).map(|n| format!("{n}\n")).collect();
        let detail = judged(End::Exited(1), &tail).detail;
        assert!(detail.starts_with("80\n") && detail.ends_with("\n99"), "{detail}");
    }
}
