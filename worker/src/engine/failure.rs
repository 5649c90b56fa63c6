//! Whose fault a failed Solve is, and how to say it.
//!
//! BuildKit's errors are texts; newer Engines add where in the Dockerfile, and with what exit code. Blame
//! decides whether the attempt is tried again: what is not known to be the machine's or the network's fault
//! is the Dockerfile's.

use archyard_model::{Failure, FailureClass};
use bollard_buildkit_proto::google::rpc;
use prost::Message as _;
use serde::Deserialize;
use tonic::Status;

use super::excerpt::{Lines, excerpt, locate};
use super::progress::Progress;
use super::solve::dockerfile_name;
use super::{BuildError, BuildRequest};

const NO_SPACE: &str = "no space left on device";

/// An instruction quoted in a message.
const INSTRUCTION_CHARACTERS: usize = 200;

/// What BuildKit puts before the error itself.
const PREFIXES: &[&str] = &[
    "rpc error: code = Unknown desc = ",
    "failed to solve with frontend dockerfile.v0: ",
    "failed to solve with frontend gateway.v0: ",
    "failed to solve: ",
    "failed to build LLB: ",
    "failed to create LLB definition: ",
];

/// The network or the registry, on the way to a base image.
const NETWORK: &[&str] = &[
    "i/o timeout",
    "connection refused",
    "connection reset",
    "no such host",
    "server misbehaving",
    "temporary failure in name resolution",
    "network is unreachable",
    "no route to host",
    "handshake timeout",
    "context deadline exceeded",
    "unexpected eof",
    "toomanyrequests",
    "429 too many requests",
    "unexpected status code 5",
    "unexpected status: 5",
    "500 internal server error",
    "502 bad gateway",
    "503 service unavailable",
    "504 gateway timeout",
];

/// The Engine or its machine.
const MACHINE: &[&str] = &[
    "no active session",
    "input/output error",
    "cannot allocate memory",
    "too many open files",
    "resource temporarily unavailable",
    "failed to mount",
    "failed to create shim",
    "inconsistent graph state",
    "database not open",
];

/// The registry does not let this caller in.
const DENIED: &[&str] = &[
    "pull access denied",
    "insufficient_scope",
    "authorization failed",
    "401 unauthorized",
    "403 forbidden",
];

/// Judges the error of a Solve that BuildKit itself ended.
pub(super) fn judge(status: &Status, progress: &Progress, request: &BuildRequest) -> BuildError {
    let details = Details::of(status);
    let message = strip(status.message());
    let step = progress.failed();
    let own = step.filter(|step| !step.name.starts_with("[internal]"));
    let instruction = own.and_then(|step| step.name.split_once("] ")).map_or("", |(_, body)| body);
    let dockerfile = String::from_utf8_lossy(&request.dockerfile);
    let lines = details.lines.or_else(|| line_in(message)).or_else(|| locate(&dockerfile, &step?.name));
    let tail = step.map_or(&[][..], |step| &step.tail);
    let verdict = judge_text(message, details.exit_code, instruction, tail);

    let name = dockerfile_name(request);
    let place = lines.as_ref().map_or_else(String::new, |lines| format!("{name}:{}: ", lines.start()));
    let mut failure =
        Failure::new(verdict.class, verdict.code, one_line(&format!("{place}{}", verdict.message)));
    if let Some(lines) = lines {
        failure = failure.with_detail(excerpt(name, &dockerfile, &lines));
    }
    if let Some(code) = verdict.exit_code {
        failure = failure.with_exit_code(code);
    }
    match verdict.class {
        FailureClass::User => BuildError::User(failure),
        FailureClass::Infrastructure | FailureClass::Canceled => BuildError::Infrastructure(failure),
    }
}

struct Verdict {
    class: FailureClass,
    code: &'static str,
    message: String,
    exit_code: Option<i32>,
}

fn judge_text(message: &str, exit_code: Option<i32>, instruction: &str, tail: &[u8]) -> Verdict {
    let lower = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let user = |code, message: String| Verdict { class: FailureClass::User, code, message, exit_code: None };
    let infrastructure =
        |code, message| Verdict { class: FailureClass::Infrastructure, code, message, exit_code: None };
    let ran = has(&["executor failed running", "did not complete successfully"]);
    let tail_is_full = String::from_utf8_lossy(tail).to_ascii_lowercase().contains(NO_SPACE);

    if has(&[NO_SPACE]) || (ran && tail_is_full) {
        return infrastructure("disk_full", format!("the worker's disk is full: {message}"));
    }
    if ran {
        let instruction = quote(instruction, "RUN");
        let Some(code) = exit_code.or_else(|| exit_code_in(message)) else {
            return infrastructure("engine_failed", format!("{instruction} could not be run: {message}"));
        };
        let message = format!("{instruction} failed with exit code {code}");
        return Verdict { exit_code: Some(code), ..user("run_failed", message) };
    }
    if has(MACHINE) {
        return infrastructure("engine_failed", format!("the worker's Engine failed: {message}"));
    }
    if has(NETWORK) {
        return infrastructure("registry_unreachable", message.to_owned());
    }
    if has(DENIED) {
        return user(
            "base_denied",
            format!("{message}; run docker login for that registry, or check the name"),
        );
    }
    if has(&["no match for platform", "does not match the specified platform"]) {
        return user("base_lacks_platform", message.to_owned());
    }
    if has(&["dockerfile parse error", "failed to parse", "unknown instruction", "circular dependency"]) {
        return user("dockerfile_invalid", message.to_owned());
    }
    if has(&["target stage"]) {
        return user("target_not_found", message.to_owned());
    }
    if has(&["failed to compute cache key", "failed to calculate checksum", "failed to walk", "lstat "]) {
        let reason = message.rsplit_once("::").map_or(message, |(_, reason)| reason);
        let reason = reason.trim_start_matches("failed to compute cache key: ").trim();
        let reason = reason.strip_suffix(": not found").unwrap_or(reason);
        return user("copy_failed", format!("{}: {reason}", quote(instruction, "COPY")));
    }
    if lower.ends_with("not found") && matches!(instruction.split(' ').next(), Some("" | "FROM")) {
        return user("base_not_found", format!("{message}; check the image's name and tag"));
    }
    user("build_failed", message.to_owned())
}

/// An instruction, shortened for a line of text.
fn quote(instruction: &str, otherwise: &str) -> String {
    let instruction = one_line(instruction);
    let mut characters = instruction.chars();
    let start: String = characters.by_ref().take(INSTRUCTION_CHARACTERS).collect();
    match (start.as_str(), characters.next()) {
        ("", _) => otherwise.to_owned(),
        (_, None) => start,
        (_, Some(_)) => format!("{start}…"),
    }
}

fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

fn strip(mut message: &str) -> &str {
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| message.strip_prefix(prefix)) {
        message = rest;
    }
    message
}

fn exit_code_in(message: &str) -> Option<i32> {
    let (_, rest) = message.rsplit_once("exit code: ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// `dockerfile parse error line 3: ...`, `Dockerfile:3`.
fn line_in(message: &str) -> Option<Lines> {
    let (_, rest) =
        message.split_once("parse error line ").or_else(|| message.split_once("parse error on line "))?;
    let line = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    Some(line..=line)
}

/// What newer Engines say beside the text.
#[derive(Debug, Default)]
struct Details {
    lines: Option<Lines>,
    exit_code: Option<i32>,
}

impl Details {
    fn of(status: &Status) -> Self {
        let mut details = Self::default();
        let decoded = rpc::Status::decode(status.details()).unwrap_or_default();
        for any in decoded.details {
            // JSON of a kind that is not known is no details.
            if any.type_url.ends_with("errdefs.Source+json") {
                if let Ok(source) = serde_json::from_slice::<Source>(&any.value) {
                    details.lines = source.lines();
                }
            } else if any.type_url.ends_with("ExitMessage+json")
                && let Ok(exit) = serde_json::from_slice::<Exit>(&any.value)
            {
                details.exit_code = Some(exit.code);
            }
        }
        details
    }
}

#[derive(Deserialize)]
struct Exit {
    #[serde(rename = "Code")]
    code: i32,
}

#[derive(Deserialize)]
struct Source {
    #[serde(default)]
    ranges: Vec<Range>,
}

#[derive(Deserialize)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Deserialize)]
struct Position {
    #[serde(default)]
    line: usize,
}

impl Source {
    fn lines(&self) -> Option<Lines> {
        let start = self.ranges.iter().map(|range| range.start.line).min()?;
        let end = self.ranges.iter().map(|range| range.end.line).max()?;
        Some(start..=end.max(start))
    }
}
