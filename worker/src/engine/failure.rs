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

use super::excerpt::locate;
use super::progress::Progress;
use super::solve::dockerfile_name;
use super::{BuildError, BuildRequest};
use crate::excerpt::{Lines, excerpt};

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

/// What a kernel says of a program that is made for another machine.
const WRONG_MACHINE: &str = "exec format error";

/// The registry does not let this caller in.
const DENIED: &[&str] = &["pull access denied", "insufficient_scope", "authorization failed"];

/// Judges the error of a Solve that BuildKit itself ended.
pub(super) fn judge(status: &Status, progress: &Progress, request: &BuildRequest) -> BuildError {
    let details = Details::of(status);
    let message = strip(status.message());
    let step = progress.failed().or_else(|| progress.quoted(message));
    let own = step.filter(|step| !step.name.starts_with("[internal]"));
    let instruction = own.and_then(|step| step.name.split_once("] ")).map_or("", |(_, body)| body);
    let dockerfile = String::from_utf8_lossy(&request.dockerfile);
    let lines = details.lines.or_else(|| line_in(message)).or_else(|| locate(&dockerfile, &step?.name));
    let tail = step.map_or(&[][..], |step| &step.tail);
    let verdict = foreign(request, instruction, tail)
        .unwrap_or_else(|| judge_text(message, details.exit_code, instruction, tail));

    let name = dockerfile_name(request);
    let place = lines.as_ref().map_or_else(String::new, |lines| format!("{name}:{}: ", lines.start()));
    let mut failure =
        Failure::new(verdict.class, verdict.code, one_line(&format!("{place}{}", verdict.message)));
    if let Some(lines) = lines {
        // Pinning keeps lines where they are, unless a base was written over several.
        let written = String::from_utf8_lossy(&request.written);
        let same_lines = written.lines().count() == dockerfile.lines().count();
        failure = failure.with_detail(excerpt(name, if same_lines { &written } else { &dockerfile }, &lines));
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

/// A step that was to run on the target's platform, on a machine that does not run it: the trigger of a base, for the
/// Dockerfile's own are refused when it is planned.
fn foreign(request: &BuildRequest, instruction: &str, tail: &[u8]) -> Option<Verdict> {
    let ran = String::from_utf8_lossy(tail).contains(WRONG_MACHINE);
    (request.cross && ran).then(|| Verdict {
        class: FailureClass::User,
        code: "cross_run",
        message: format!(
            "{} runs on {platform}, and a cross build runs nothing there: no worker of this farm runs {platform}. Take \
             a base without ONBUILD triggers, or add such a worker",
            quote(instruction, "RUN"),
            platform = request.platform,
        ),
        exit_code: None,
    })
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
    let http = http_status_in(&lower);
    if has(NETWORK) || matches!(http, Some(408 | 429 | 500..)) {
        return infrastructure("registry_unreachable", message.to_owned());
    }
    if has(DENIED) || matches!(http, Some(401 | 403)) {
        return user(
            "base_denied",
            format!("{message}; run docker login for that registry, or check the name"),
        );
    }
    if has(&["no match for platform", "does not match the specified platform"]) {
        return user("base_lacks_platform", message.to_owned());
    }
    if has(&[
        "dockerfile parse error",
        "failed to parse",
        "unknown instruction",
        "circular dependency",
        "no build stage",
        "cannot be empty",
    ]) {
        return user("dockerfile_invalid", message.to_owned());
    }
    if has(&["target stage"]) {
        return user("target_not_found", message.to_owned());
    }
    if has(&["failed to compute cache key", "failed to calculate checksum", "failed to walk", "lstat "]) {
        return user("copy_failed", format!("{}: {}", quote(instruction, "COPY"), uncopied(message)));
    }
    if (http == Some(404) || lower.ends_with("not found"))
        && matches!(instruction.split(' ').next(), Some("" | "FROM"))
    {
        return user("base_not_found", format!("{message}; check the image's name and tag"));
    }
    user("build_failed", message.to_owned())
}

/// Why something could not be copied, without what BuildKit calls the copy of the context inside.
fn uncopied(message: &str) -> String {
    let reason = message.trim_start_matches("failed to compute cache key: ");
    let of_ref = reason.split_once("failed to calculate checksum of ref ");
    let reason = of_ref.and_then(|(_, rest)| rest.split_once(": ")).map_or(reason, |(_, reason)| reason);
    match reason.strip_suffix(": not found") {
        Some(missing) if missing.ends_with("not found") => missing.to_owned(),
        Some(missing) => format!("{missing} not found"),
        None => reason.to_owned(),
    }
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

/// What a registry answered: `... failed with status code [manifests 1]: 503 Service Unavailable`.
fn http_status_in(message: &str) -> Option<u16> {
    let (_, rest) = message.split_once("status")?;
    let numbers = rest.split(|c: char| !c.is_ascii_digit()).filter(|digits| digits.len() == 3);
    numbers.filter_map(|digits| digits.parse().ok()).rfind(|code| (400..600).contains(code))
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

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_buildkit_proto::google::protobuf::Any;
    use bytes::Bytes;

    #[test]
    fn texts_of_many_engines_find_their_code() {
        use FailureClass::{Infrastructure, User};
        for (message, class, code) in [
            ("executor failed running [/bin/sh -c exit 7]: exit code: 7", User, "run_failed"),
            ("process \"/bin/sh -c x\" did not complete successfully: exit code: 2", User, "run_failed"),
            ("executor failed running [x]: network bridge not found", Infrastructure, "engine_failed"),
            ("write /var/lib/x: no space left on device", Infrastructure, "disk_full"),
            ("failed with status code [manifests 1]: 503 X", Infrastructure, "registry_unreachable"),
            (
                "unexpected status from HEAD request to https://h/v2: 429 X",
                Infrastructure,
                "registry_unreachable",
            ),
            ("failed with status code [manifests 1]: 401 X", User, "base_denied"),
            ("pull access denied, repository does not exist", User, "base_denied"),
            ("docker.io/library/nope:1: not found", User, "base_not_found"),
            ("no match for platform in manifest sha256:0: not found", User, "base_lacks_platform"),
            ("dial tcp: lookup h: no such host", Infrastructure, "registry_unreachable"),
            ("no active session for x: context deadline exceeded", Infrastructure, "engine_failed"),
            ("dockerfile parse error on line 2: unknown instruction: FOO", User, "dockerfile_invalid"),
            ("target stage \"x\" could not be found", User, "target_not_found"),
            ("something nobody has seen", User, "build_failed"),
        ] {
            let verdict = judge_text(message, None, "", b"");
            assert_eq!((verdict.class, verdict.code), (class, code), "{message}");
        }
    }

    #[test]
    fn a_foreign_step_of_a_cross_build_is_named_as_one() {
        let request = |cross| BuildRequest { cross, ..super::super::request::tests::request() };
        let tail = b"exec /bin/sh: exec format error\n";
        let verdict = foreign(&request(true), "RUN make", tail).unwrap();
        assert_eq!((verdict.class, verdict.code), (FailureClass::User, "cross_run"));
        assert!(verdict.message.starts_with("RUN make runs on linux/arm/v7"), "{}", verdict.message);
        assert!(foreign(&request(false), "RUN make", tail).is_none());
        assert!(foreign(&request(true), "RUN make", b"make: *** [all] Error 2\n").is_none());
    }

    #[test]
    fn a_full_disk_is_believed_where_the_step_says_so() {
        let failed = "executor failed running [x]: exit code: 1";
        assert_eq!(judge_text(failed, None, "RUN x", b"x: No space left on device\n").code, "disk_full");
        assert_eq!(judge_text(failed, None, "RUN x", b"x: other\n").code, "run_failed");
    }

    #[test]
    fn copy_failures_are_freed_of_buildkits_prefixes() {
        for (message, want) in [
            ("failed to compute cache key: \"/nope\" not found: not found", "\"/nope\" not found"),
            ("failed to calculate checksum of ref abc::xyz: \"/nope\": not found", "\"/nope\" not found"),
            (
                "failed to compute cache key: failed to calculate checksum of ref abc::xyz: \"/a::b: c\": not found",
                "\"/a::b: c\" not found",
            ),
            ("failed to calculate checksum of ref a::b: too many symlinks: /x", "too many symlinks: /x"),
        ] {
            let verdict = judge_text(message, None, "COPY nope /", b"");
            assert_eq!((verdict.code, verdict.message), ("copy_failed", format!("COPY nope /: {want}")));
        }
    }

    #[test]
    fn details_of_newer_engines_are_read() {
        let any = |kind: &str, json: &str| Any {
            type_url: format!("github.com/moby/buildkit/{kind}+json"),
            value: json.as_bytes().to_vec(),
        };
        let ranges = r#"{"info":{"filename":"D"},"ranges":[{"start":{"line":3},"end":{"line":5}}]}"#;
        let details = vec![
            any("gateway/ExitMessage", r#"{"Code":7}"#),
            any("errdefs.Source", ranges),
            any("errdefs.Vertex", r#"{"digest":"sha256:0"}"#),
        ];
        let status = rpc::Status { code: 2, message: String::new(), details };
        let status = Status::with_details(tonic::Code::Unknown, "x", Bytes::from(status.encode_to_vec()));
        let details = Details::of(&status);
        assert_eq!((details.exit_code, details.lines), (Some(7), Some(3..=5)));
        assert_eq!(Details::of(&Status::unknown("x")).lines, None);
    }

    #[test]
    fn long_instructions_are_cut_and_many_lines_are_one() {
        assert_eq!(quote("RUN a \n  b", "RUN"), "RUN a b");
        let quoted = quote(&format!("RUN {}", "\u{e4}".repeat(500)), "RUN");
        assert_eq!(quoted.chars().count(), INSTRUCTION_CHARACTERS + 1);
        assert_eq!(quote("", "COPY"), "COPY");
    }
}
