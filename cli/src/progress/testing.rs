//! Updates made by hand, for the tests of renderers.

use std::collections::BTreeSet;

use archyard_model::build::PushedManifest;
use archyard_model::{
    BuildEvent, BuildState, EventKind, Failure, FailureClass, FencingToken, ForeignFile, ImageResult,
    Inspection, JobState, Lock, LockedImage, Origin, OriginKind, Platform, Principal, Sha256, SmokeOutcome,
    TagRecord,
};
use archyard_proto::v1::LogFrame;
use archyard_proto::v1::log_frame::{Frame, Output, PhaseStarted, Status, Vertex, Warning};
use jiff::Timestamp;

use super::update::KnownJob;
use super::{Board, Change, Known, Renderer, Update};

/// Milliseconds after the beginning.
pub(crate) type Ms = i64;

/// A board of two platforms.
pub(crate) fn board() -> Board {
    let platforms: Vec<Platform> =
        ["linux/amd64", "linux/386"].iter().map(|text| text.parse().unwrap()).collect();
    Board::new(&platforms, &BTreeSet::new())
}

/// Shows a story from its beginning to its end.
pub(crate) fn tell(board: &mut Board, renderer: &mut dyn Renderer, story: Vec<Update>) {
    for update in story {
        board.apply(update, |board, change: Change| renderer.change(board, &change).unwrap());
    }
    board.flush(|board, change| renderer.change(board, &change).unwrap());
    renderer.settle(board).unwrap();
    renderer.finish(board).unwrap();
}

/// Takes note of a story without showing it.
pub(crate) fn note(board: &mut Board, story: Vec<Update>) {
    for update in story {
        board.apply(update, |_, _| {});
    }
}

pub(crate) fn at(ms: Ms) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
}

pub(crate) fn digest(byte: u8) -> Sha256 {
    Sha256::from_bytes([byte; 32])
}

pub(crate) fn submitted() -> Update {
    Update::Submitted { build: "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned() }
}

pub(crate) fn event(seq: u64, ms: Ms, kind: EventKind) -> Update {
    Update::Event(Box::new(BuildEvent { seq, at: at(ms), kind }))
}

pub(crate) fn accepted() -> Update {
    event(1, 0, EventKind::Accepted { principal: Principal::local() })
}

pub(crate) fn unlocked(ms: Ms) -> Update {
    let locked = LockedImage { digest: Some(digest(1)), platforms: Vec::new(), warning: None };
    let warning = Some("127.0.0.1:9 does not answer".to_owned());
    let unlocked = LockedImage { digest: None, platforms: Vec::new(), warning };
    let images = [("docker.io/library/a:1".to_owned(), locked), ("127.0.0.1:9/b:1".to_owned(), unlocked)];
    event(2, ms, EventKind::Locked { lock: Lock { images: images.into() } })
}

pub(crate) fn started(ms: Ms, job: u16, token: u64) -> Update {
    let worker = format!("worker-{}", job + 1).parse().unwrap();
    event(3, ms, EventKind::JobStarted { job, token: FencingToken(token), worker })
}

pub(crate) fn failure(class: FailureClass, code: &str, message: &str) -> Failure {
    Failure::new(class, code, message)
}

pub(crate) fn pushed(ms: Ms, job: u16) -> Update {
    let manifest = PushedManifest {
        digest: digest(10),
        size: 7,
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
    };
    let result =
        ImageResult { manifest: Some(manifest), config_digest: Some(digest(11)), ..ImageResult::default() };
    event(8, ms, EventKind::JobEnded { job, state: JobState::Succeeded, result: Some(result), failure: None })
}

pub(crate) fn job_failed(ms: Ms, job: u16, failure: Failure) -> Update {
    event(8, ms, EventKind::JobEnded { job, state: JobState::Failed, result: None, failure: Some(failure) })
}

pub(crate) fn ended(ms: Ms, state: BuildState, failure: Option<Failure>) -> Update {
    let index = (state == BuildState::Succeeded).then(|| (digest(0xab), 512));
    event(9, ms, EventKind::Ended { state, failure, index })
}

fn frame(job: usize, frame: Frame) -> Update {
    Update::Frame { job, token: 1, frame: LogFrame { at: None, frame: Some(frame) } }
}

fn instant(ms: Ms) -> Option<prost_types::Timestamp> {
    Some(archyard_model::convert::time_to_proto(at(ms)))
}

pub(crate) fn phase(job: usize, name: &str, detail: &str) -> Update {
    frame(job, Frame::Phase(PhaseStarted { name: name.to_owned(), detail: detail.to_owned() }))
}

pub(crate) fn known(job: usize, name: &str) -> Update {
    frame(job, Frame::Vertex(Vertex { digest: name.to_owned(), name: name.to_owned(), ..Vertex::default() }))
}

pub(crate) fn running(job: usize, name: &str, from: Ms) -> Update {
    let vertex = Vertex {
        digest: name.to_owned(),
        name: name.to_owned(),
        started_at: instant(from),
        ..Vertex::default()
    };
    frame(job, Frame::Vertex(vertex))
}

pub(crate) fn cached(job: usize, name: &str, at: Ms) -> Update {
    let (started_at, completed_at) = (instant(at), instant(at));
    let vertex = Vertex {
        digest: name.to_owned(),
        name: name.to_owned(),
        cached: true,
        started_at,
        completed_at,
        error: String::new(),
    };
    frame(job, Frame::Vertex(vertex))
}

pub(crate) fn done(job: usize, name: &str, from: Ms, to: Ms, error: &str) -> Update {
    let (started_at, completed_at) = (instant(from), instant(to));
    let vertex = Vertex {
        digest: name.to_owned(),
        name: name.to_owned(),
        cached: false,
        started_at,
        completed_at,
        error: error.to_owned(),
    };
    frame(job, Frame::Vertex(vertex))
}

pub(crate) fn wrote(job: usize, name: &str, ms: Ms, stream: u32, data: &str) -> Update {
    let data = data.as_bytes().to_vec().into();
    frame(job, Frame::Output(Output { vertex: name.to_owned(), stream, data, at: instant(ms) }))
}

pub(crate) fn transfer(
    job: usize,
    step: &str,
    name: &str,
    current: i64,
    total: i64,
    completed: bool,
) -> Update {
    let (vertex, name) = (step.to_owned(), name.to_owned());
    frame(job, Frame::Status(Status { vertex, name, current_bytes: current, total_bytes: total, completed }))
}

pub(crate) fn warning(job: usize, message: &str, line: u32) -> Update {
    frame(
        job,
        Frame::Warning(Warning {
            vertex: String::new(),
            message: message.to_owned(),
            line,
            url: String::new(),
        }),
    )
}

/// Two platforms, of which one waits, one is cached in part and one fails after a retry was announced.
pub(crate) fn failed_build() -> Vec<Update> {
    let excerpt =
        "Dockerfile:3\n--------------------\n   2 |     COPY . .\n   3 | >>> RUN make\n--------------------";
    let ran = failure(FailureClass::User, "run_failed", "Dockerfile:3: RUN make failed with exit code: 2")
        .with_detail(excerpt);
    let lost = failure(FailureClass::Infrastructure, "worker_lost", "worker-1 was lost");
    let stopped = failure(FailureClass::Canceled, "canceled", "another platform failed");
    vec![
        Update::Note("warning: .dockerignore is empty".to_owned()),
        Update::Uploading { sent_bytes: 10, total_bytes: 4096 },
        Update::Uploading { sent_bytes: 4096, total_bytes: 4096 },
        submitted(),
        accepted(),
        event(2, 1, EventKind::Waiting { reason: "lock".to_owned() }),
        unlocked(20),
        event(3, 30, EventKind::JobWaiting { job: 1, reason: "no native worker for linux/386".to_owned() }),
        started(100, 0, 1),
        phase(0, "context", "12 files, 4.1kB"),
        phase(0, "build", ""),
        known(0, "[3/3] RUN make"),
        running(0, "[1/3] FROM docker.io/library/a:1", 200),
        transfer(0, "[1/3] FROM docker.io/library/a:1", "sha256:aaaa", 10, 30_000_000, false),
        transfer(0, "[1/3] FROM docker.io/library/a:1", "sha256:aaaa", 30_000_000, 30_000_000, true),
        done(0, "[1/3] FROM docker.io/library/a:1", 200, 900, ""),
        cached(0, "[2/3] COPY . .", 900),
        event(
            4,
            950,
            EventKind::AttemptEnded {
                job: 0,
                token: FencingToken(1),
                worker: "worker-1".parse().unwrap(),
                failure: Some(lost),
                will_retry: true,
            },
        ),
        started(1000, 0, 2),
        Update::Reachable(false),
        Update::Reachable(true),
        running(0, "[3/3] RUN make", 1100),
        wrote(0, "[3/3] RUN make", 1150, 1, "cc -c a.c\ncc -c"),
        wrote(0, "[3/3] RUN make", 1300, 1, " b.c\n"),
        wrote(0, "[3/3] RUN make", 1350, 2, "\u{1b}[2J\u{1b}[31mb.c: error\u{1b}[0m\nmake: ***"),
        warning(0, "FromAsCasing: 'as' and 'FROM' keywords' casing do not match", 1),
        done(
            0,
            "[3/3] RUN make",
            1100,
            1500,
            "process \"/bin/sh -c make\" did not complete successfully: exit code: 2",
        ),
        job_failed(1600, 0, ran.clone()),
        event(
            8,
            1610,
            EventKind::JobEnded { job: 1, state: JobState::Canceled, result: None, failure: Some(stopped) },
        ),
        ended(1700, BuildState::Failed, Some(ran)),
    ]
}

/// Two platforms that succeed.
pub(crate) fn pushed_build() -> Vec<Update> {
    let mut story = vec![submitted(), accepted(), started(10, 0, 1), started(20, 1, 1)];
    for job in 0..2 {
        story.extend([
            phase(job, "build", ""),
            cached(job, "[1/2] FROM docker.io/library/a:1", 30),
            running(job, "[2/2] RUN uname -m", 40),
            wrote(job, "[2/2] RUN uname -m", 60, 1, "x86_64\n"),
            done(job, "[2/2] RUN uname -m", 40, 80, ""),
            phase(job, "push", "registry.example/app"),
        ]);
    }
    story.extend([
        pushed(900, 0),
        pushed(1000, 1),
        event(8, 1100, EventKind::Publishing { index: digest(0xab), size: 512 }),
        event(
            9,
            1200,
            EventKind::TagMoved(TagRecord {
                tag: "registry.example/app:1".parse().unwrap(),
                moved: true,
                detail: String::new(),
            }),
        ),
        ended(1300, BuildState::Succeeded, None),
    ]);
    story
}

/// One that newer builds have overtaken: of its two tags it moved the first where `moved`, and the second never.
pub(crate) fn overtaken_build(moved: bool) -> Vec<Update> {
    let mut story = pushed_build();
    let end = story.len() - 2;
    story.truncate(end);
    let detail = || "left alone for build 01ARZ3NDEKTSV4RRFFQ69G5FAB, which was submitted later".to_owned();
    for (seq, name, moved) in
        [(9, "registry.example/app:1", moved), (10, "registry.example/app:latest", false)]
    {
        let detail = if moved { String::new() } else { detail() };
        let tag = TagRecord { tag: name.parse().unwrap(), moved, detail };
        story.push(event(seq, 1200, EventKind::TagMoved(tag)));
    }
    let state = if moved { BuildState::Succeeded } else { BuildState::Superseded };
    story.push(ended(1300, state, None));
    story
}

/// A board of three platforms, of which the last is on trial.
pub(crate) fn board_with_trial() -> Board {
    let platforms = ["linux/amd64", "linux/arm64", "linux/riscv64"].map(|text| text.parse().unwrap());
    Board::new(&platforms, &[2].into())
}

/// One platform's result is taken over, one is built across, and the one on trial fails.
pub(crate) fn peculiar_build() -> Vec<Update> {
    let origin = Origin { kind: OriginKind::Rerun, build: "01ARZ3NDEKTSV4RRFFQ69G5FAA".parse().unwrap() };
    let job =
        |cross: Option<&str>, carried| KnownJob { cross: cross.map(|text| text.parse().unwrap()), carried };
    let jobs = vec![job(None, true), job(Some("linux/amd64"), false), job(None, false)];
    let files =
        (1..=6).map(|n| ForeignFile { path: format!("/lib/{n}\u{1b}[2J"), machine: "x86-64".to_owned() });
    let found = Inspection {
        command: Some("/bin/x".to_owned()),
        machine: Some("aarch64".to_owned()),
        requires: Some("x86-64-v3".to_owned()),
        foreign: files.collect(),
        foreign_files: 9,
    };
    let left = |smoke, inspection| {
        let result =
            ImageResult { config_digest: Some(digest(12)), smoke, inspection, ..ImageResult::default() };
        Some(result)
    };
    let succeeded = |ms, job, result| {
        event(8, ms, EventKind::JobEnded { job, state: JobState::Succeeded, result, failure: None })
    };
    let ran = failure(FailureClass::User, "run_failed", "Dockerfile:2: RUN false failed with exit code: 1");
    vec![
        submitted(),
        Update::Record(Box::new(Known { origin: Some(origin), jobs, tags: Vec::new() })),
        accepted(),
        succeeded(10, 0, left(SmokeOutcome::Passed, None)),
        started(20, 1, 1),
        started(30, 2, 1),
        running(2, "[1/1] RUN false", 40),
        wrote(2, "[1/1] RUN false", 50, 1, "about to fail\n"),
        done(2, "[1/1] RUN false", 40, 60, "exit code: 1"),
        job_failed(70, 2, ran),
        succeeded(90, 1, left(SmokeOutcome::NotRun, Some(found))),
        ended(100, BuildState::Succeeded, None),
    ]
}
