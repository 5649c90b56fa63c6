//! `--json`: one object a line on standard output, for machines. Documented in docs/cli.md; only ever added to.

use std::io::{self, Write};

use archyard_model::{
    BuildEvent, EventKind, Failure, ImageResult, Lock, Origin, Platform, TagRecord, convert,
};
use serde_json::{Value, json};

use super::update::{Change, Step, StepEnd};
use super::{Board, Renderer, paint};
use crate::view;

/// Writes objects.
#[derive(Debug)]
pub(crate) struct Json<W>(pub(crate) W);

impl<W: Write + Send> Renderer for Json<W> {
    fn change(&mut self, board: &Board, change: &Change) -> io::Result<()> {
        let object = match change {
            Change::Note(message) => json!({ "type": "note", "message": message }),
            Change::Uploading { sent_bytes, total_bytes } => {
                json!({ "type": "upload", "sent_bytes": sent_bytes, "total_bytes": total_bytes })
            }
            Change::Fetching { received_bytes, total_bytes } => {
                json!({ "type": "fetch", "received_bytes": received_bytes, "total_bytes": total_bytes })
            }
            Change::Submitted { build } => json!({ "type": "submitted", "build": build }),
            Change::Event(event) => event_object(board, event),
            Change::Queued { lane, place } => {
                let platform = board.lanes.get(*lane).map(|lane| lane.platform.to_string());
                json!({ "type": "platform_queued", "platform": platform, "place": place })
            }
            Change::Log { lane, token, step } => {
                let Some(lane) = board.lanes.get(*lane) else { return Ok(()) };
                log_object(&lane.platform, *token, step)
            }
        };
        writeln!(self.0, "{object}")
    }

    fn settle(&mut self, _board: &Board) -> io::Result<()> {
        self.0.flush()
    }

    fn finish(&mut self, _board: &Board) -> io::Result<()> {
        self.0.flush()
    }
}

fn event_object(board: &Board, event: &BuildEvent) -> Value {
    let platform = |job: &u16| board.lanes.get(usize::from(*job)).map(|lane| lane.platform.to_string());
    let mut object = match &event.kind {
        EventKind::Accepted { principal } => json!({ "type": "accepted", "principal": principal }),
        EventKind::Waiting { reason } => json!({ "type": "waiting", "reason": reason }),
        EventKind::ContextMissed { reason } => json!({ "type": "context_missed", "reason": reason }),
        EventKind::Locked { lock } => json!({ "type": "locked", "lock": lock_object(lock) }),
        EventKind::JobWaiting { job, reason } => {
            json!({ "type": "platform_waiting", "platform": platform(job), "reason": reason })
        }
        EventKind::JobLeased { job, token, worker } => {
            json!({ "type": "platform_leased", "platform": platform(job), "token": token, "worker": worker })
        }
        EventKind::JobStarted { job, token, worker } => {
            json!({ "type": "platform_started", "platform": platform(job), "token": token, "worker": worker })
        }
        EventKind::AttemptEnded { job, token, worker, failure, will_retry } => json!({
            "type": "attempt_ended",
            "platform": platform(job),
            "token": token,
            "worker": worker,
            "failure": failure.as_ref().map(failure_object),
            "will_retry": will_retry,
        }),
        EventKind::JobEnded { job, state, result, failure } => json!({
            "type": "platform_ended",
            "platform": platform(job),
            "state": state.to_string(),
            "result": result.as_ref().map(image_object),
            "failure": failure.as_ref().map(failure_object),
        }),
        EventKind::CancelRequested { principal, reason } => {
            json!({ "type": "cancel_requested", "principal": principal, "reason": reason })
        }
        EventKind::Publishing { index, size } => {
            json!({ "type": "publishing", "index": { "digest": index, "bytes": size } })
        }
        EventKind::TagMoved(tag) => json!({ "type": "tag_moved", "tag": tag_object(tag) }),
        EventKind::Ended { state, failure, index } => json!({
            "type": "ended",
            "build": board.build,
            "origin": board.origin.map(origin_object),
            "state": state.to_string(),
            "failure": failure.as_ref().map(failure_object),
            "index": index.as_ref().map(|(digest, size)| json!({ "digest": digest, "bytes": size })),
        }),
    };
    let job = match &event.kind {
        EventKind::JobWaiting { job, .. }
        | EventKind::JobLeased { job, .. }
        | EventKind::JobStarted { job, .. }
        | EventKind::AttemptEnded { job, .. }
        | EventKind::JobEnded { job, .. } => board.lanes.get(usize::from(*job)),
        _ => None,
    };
    if let Some(lane) = job {
        object["trial"] = lane.trial.into();
        object["cross"] = json!(lane.cross);
        object["carried"] = lane.carried.into();
    }
    object["seq"] = event.seq.into();
    object["at"] = event.at.to_string().into();
    object
}

fn log_object(platform: &Platform, token: u64, step: &Step) -> Value {
    let mut object = match step {
        Step::Phase { name, detail } => json!({ "type": "phase", "name": name, "detail": detail }),
        Step::Started { number, name } => json!({ "type": "step_started", "step": number, "name": name }),
        Step::Line { number, at, stream, text } => json!({
            "type": "output",
            "step": number,
            "stream": if *stream == 2 { "stderr" } else { "stdout" },
            "after_ms": at.map(|at| at.as_millis()),
            "text": paint(text, false),
        }),
        Step::Transferred { number, name, bytes } => {
            json!({ "type": "transferred", "step": number, "name": name, "bytes": bytes })
        }
        Step::Warning { number, message, line, url } => {
            json!({ "type": "warning", "step": number, "message": message, "line": line, "url": url })
        }
        Step::Clipped { number, message } => json!({ "type": "clipped", "step": number, "message": message }),
        Step::Ended { number, name, end } => {
            let (result, took, error) = match end {
                StepEnd::Done { took } => ("done", Some(took.as_millis()), None),
                StepEnd::Cached => ("cached", None, None),
                StepEnd::Canceled => ("canceled", None, None),
                StepEnd::Failed { error } => ("failed", None, Some(error)),
            };
            json!({ "type": "step_ended", "step": number, "name": name, "result": result, "took_ms": took, "error": error })
        }
    };
    object["platform"] = platform.to_string().into();
    object["token"] = token.into();
    object
}

// The same words as `show --json` has: through the messages that both come from.

fn failure_object(failure: &Failure) -> Value {
    value(view::Failure::from(convert::failure_to_proto(failure)))
}

fn image_object(image: &ImageResult) -> Value {
    value(view::Image::from(convert::image_to_proto(image)))
}

fn origin_object(origin: Origin) -> Value {
    value(view::Origin::from(convert::origin_to_proto(origin)))
}

fn lock_object(lock: &Lock) -> Value {
    value(view::Lock::from(convert::lock_to_proto(lock)))
}

fn tag_object(tag: &TagRecord) -> Value {
    value(view::Tag::from(convert::tag_to_proto(tag)))
}

fn value(object: impl serde::Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn json(updates: Vec<super::super::Update>) -> String {
        let mut board = testing::board();
        let mut out = Vec::new();
        testing::tell(&mut board, &mut Json(&mut out), updates);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_line_is_an_object_with_a_type() {
        let text = json(testing::failed_build()) + &json(testing::pushed_build());
        for line in text.lines() {
            let object: Value = serde_json::from_str(line).unwrap();
            assert!(object["type"].is_string(), "{line}");
        }
    }

    #[test]
    fn what_is_peculiar_is_told() {
        let mut board = testing::board_with_trial();
        let mut out = Vec::new();
        testing::tell(&mut board, &mut Json(&mut out), testing::peculiar_build());
        let text = String::from_utf8(out).unwrap();
        let objects = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let (ended, rest): (Vec<Value>, Vec<Value>) = objects.partition(|object| object["type"] == "ended");
        assert_eq!(ended[0]["origin"], json!({ "kind": "rerun", "build": "01ARZ3NDEKTSV4RRFFQ69G5FAA" }));
        let of = |platform: &str| {
            let ended =
                |object: &&Value| object["type"] == "platform_ended" && object["platform"] == platform;
            rest.iter().find(ended).cloned().unwrap()
        };
        assert_eq!(of("linux/amd64")["carried"], true);
        assert_eq!(of("linux/riscv64")["trial"], true);
        let cross = of("linux/arm64");
        assert_eq!((&cross["cross"], &cross["result"]["smoke"]), (&json!("linux/amd64"), &json!("not_run")));
        assert_eq!(cross["result"]["inspection"]["foreign_files"], 9);
        assert_eq!(cross["result"]["inspection"]["machine"], "aarch64");
    }

    #[test]
    fn a_build_that_fails() {
        insta::assert_snapshot!(json(testing::failed_build()));
    }
}
