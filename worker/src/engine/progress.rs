//! BuildKit's status stream, told in the farm's own log frames.
//!
//! BuildKit repeats itself: a vertex comes again with every change of anything. Only what changed is told on.

use std::collections::HashMap;
use std::time::SystemTime;

use archyard_model::limits::LOG_FRAME_BYTES;
use archyard_proto::v1::log_frame::{self, Frame};
use archyard_proto::v1::{LogFrame, log_frame::Output};
use bollard_buildkit_proto::moby::buildkit::v1::{
    StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning,
};
use bytes::Bytes;
use prost_types::Timestamp;

/// Content of one output frame: the rest of the frame fits beside it.
const OUTPUT_BYTES: usize = LOG_FRAME_BYTES - 1024;
/// A name, an error or a warning within a frame.
const TEXT_BYTES: usize = 4 * 1024;
/// What is kept of a step's last output.
const TAIL_BYTES: usize = 1024;

/// BuildKit's own words where it cut a step's output.
const CLIP_START: &[u8] = b"\n[output clipped, log limit ";
const CLIP_END: &[u8] = b" reached]\n";

/// Turns status messages into frames, and remembers what the end of a build needs to know.
#[derive(Debug, Default)]
pub(super) struct Progress {
    vertices: HashMap<String, Step>,
    statuses: HashMap<String, (i64, i64, bool)>,
}

/// What is known of one vertex.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) cached: bool,
    pub(super) error: String,
    /// The end of what it wrote, for judging why it failed.
    pub(super) tail: Vec<u8>,
    started: Option<Timestamp>,
    completed: Option<Timestamp>,
}

impl Progress {
    /// The frames for what is new in this message, in its order: vertices, transfers, output, warnings.
    pub(super) fn tell(&mut self, response: StatusResponse) -> Vec<LogFrame> {
        let mut frames = Vec::new();
        let mut add =
            |frame| frames.push(LogFrame { at: Some(SystemTime::now().into()), frame: Some(frame) });
        for vertex in response.vertexes {
            self.vertex(vertex).map(Frame::Vertex).map(&mut add);
        }
        for status in response.statuses {
            self.status(status).map(Frame::Status).map(&mut add);
        }
        let mut logs = response.logs.into_iter().peekable();
        while let Some(mut log) = logs.next() {
            let size = |log: &VertexLog| log.msg.len();
            while let Some(next) =
                logs.next_if(|next| are_one(&log, next) && size(&log) + size(next) <= OUTPUT_BYTES)
            {
                log.msg.extend_from_slice(&next.msg);
            }
            self.log(log, &mut add);
        }
        for warning in response.warnings {
            add(Frame::Warning(tell_warning(warning)));
        }
        frames
    }

    /// A step that ran when the progress broke off and whose command this error quotes: the last word on it is missing.
    pub(super) fn quoted(&self, message: &str) -> Option<&Step> {
        let quotes = |step: &&Step| command(&step.name).is_some_and(|command| message.contains(command));
        let running =
            self.vertices.values().filter(|step| step.started.is_some() && step.completed.is_none());
        running.filter(quotes).max_by_key(|step| command(&step.name).map(str::len))
    }

    /// The step that failed the build: the first that is more than a consequence of being stopped.
    pub(super) fn failed(&self) -> Option<&Step> {
        let failed = self.vertices.values().filter(|step| !step.error.is_empty());
        failed.min_by_key(|step| {
            (is_consequence(&step.error), step.completed.as_ref().map(|time| (time.seconds, time.nanos)))
        })
    }

    /// Steps of the Dockerfile that ended, and how many of them came from the cache.
    pub(super) fn counts(&self) -> (u32, u32) {
        let ended = |step: &&Step| step.completed.is_some() && is_of_dockerfile(&step.name);
        self.vertices
            .values()
            .filter(ended)
            .fold((0, 0), |(steps, cached), step| (steps + 1, cached + u32::from(step.cached)))
    }

    /// The name of a `RUN` that was run, rather than taken from the cache.
    pub(super) fn ran(&self) -> Option<&str> {
        let ran = |step: &&Step| step.started.is_some() && step.completed.is_some() && !step.cached;
        let is_run = |step: &&Step| is_of_dockerfile(&step.name) && step.name.contains("] RUN ");
        self.vertices.values().filter(ran).find(is_run).map(|step| step.name.as_str())
    }

    fn vertex(&mut self, vertex: Vertex) -> Option<log_frame::Vertex> {
        let known = self.vertices.entry(vertex.digest.clone()).or_default();
        let (started, completed) = (time(vertex.started), time(vertex.completed));
        let error = cut(vertex.error);
        // The name is empty before it is first told: a vertex always has one.
        if known.name == vertex.name
            && known.cached == vertex.cached
            && known.started == started
            && known.completed == completed
            && known.error == error
        {
            return None;
        }
        known.name.clone_from(&vertex.name);
        known.error.clone_from(&error);
        (known.cached, known.started, known.completed) = (vertex.cached, started, completed);
        Some(log_frame::Vertex {
            digest: vertex.digest,
            name: cut(vertex.name),
            cached: vertex.cached,
            started_at: started,
            completed_at: completed,
            error,
        })
    }

    fn status(&mut self, status: VertexStatus) -> Option<log_frame::Status> {
        let completed = status.completed.is_some();
        let now = (status.current, status.total, completed);
        let key = format!("{}\0{}", status.vertex, status.id);
        if self.statuses.insert(key, now) == Some(now) {
            return None;
        }
        let name = if status.name.is_empty() { status.id } else { status.name };
        Some(log_frame::Status {
            vertex: status.vertex,
            name: cut(name),
            current_bytes: status.current,
            total_bytes: status.total,
            completed,
        })
    }

    fn log(&mut self, log: VertexLog, mut add: impl FnMut(Frame)) {
        let mut data = Bytes::from(log.msg);
        let clipped = clip_marker(&data).map(|at| data.split_off(at));
        if let Some(step) = self.vertices.get_mut(&log.vertex) {
            step.tail.extend_from_slice(&data[data.len().saturating_sub(TAIL_BYTES)..]);
            step.tail.drain(..step.tail.len().saturating_sub(TAIL_BYTES));
        }
        let at = time(log.timestamp);
        let stream = if log.stream == 2 { 2 } else { 1 };
        while !data.is_empty() {
            let part = data.split_to(data.len().min(OUTPUT_BYTES));
            add(Frame::Output(Output { vertex: log.vertex.clone(), stream, data: part, at }));
        }
        if let Some(marker) = clipped {
            let message = String::from_utf8_lossy(&marker).trim_matches(['\n', '[', ']']).to_owned();
            add(Frame::Clipped(log_frame::Clipped { vertex: log.vertex, message }));
        }
    }
}

/// Whether the second message goes on where the first ended, and at the same time as far as anybody sees: a step that
/// writes line by line would otherwise be as many frames.
fn are_one(one: &VertexLog, two: &VertexLog) -> bool {
    let millisecond = |log: &VertexLog| log.timestamp.map(|at| (at.seconds, at.nanos / 1_000_000));
    one.stream == two.stream
        && millisecond(one) == millisecond(two)
        && one.vertex == two.vertex
        && !one.msg.ends_with(CLIP_END)
        && !two.msg.ends_with(CLIP_END)
}

/// The command of a `RUN`, without the flags before it.
fn command(name: &str) -> Option<&str> {
    let (_, mut command) = name.split_once("] RUN ")?;
    while let Some((flag, rest)) = command.split_once(' ').filter(|(flag, _)| flag.starts_with("--")) {
        (_, command) = (flag, rest.trim_start());
    }
    (!command.is_empty()).then_some(command)
}

/// Where BuildKit's marker starts in a message that ends with it.
fn clip_marker(data: &[u8]) -> Option<usize> {
    if !data.ends_with(CLIP_END) {
        return None;
    }
    // The limit between the two is a short number with its unit.
    let window = data.len().saturating_sub(CLIP_START.len() + CLIP_END.len() + 32);
    let start = data[window..].windows(CLIP_START.len()).rposition(|part| part == CLIP_START)?;
    Some(window + start)
}

fn tell_warning(warning: VertexWarning) -> log_frame::Warning {
    let line = warning.ranges.first().and_then(|range| range.start.as_ref()).map_or(0, |start| start.line);
    log_frame::Warning {
        vertex: warning.vertex,
        message: cut(String::from_utf8_lossy(&warning.short).into_owned()),
        line: u32::try_from(line).unwrap_or(0),
        url: cut(warning.url),
    }
}

/// Whether a vertex is a numbered step, `[stage 2/3] RUN make`, rather than BuildKit's own doing.
fn is_of_dockerfile(name: &str) -> bool {
    let label = name.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map_or("", |(label, _)| label);
    let number = label.split(' ').next_back().and_then(|word| word.split_once('/'));
    number.is_some_and(|(n, of)| n.parse::<u32>().is_ok() && of.parse::<u32>().is_ok())
}

/// Whether an error only says that something else failed or the build was stopped.
fn is_consequence(error: &str) -> bool {
    error.contains("context canceled")
}

fn time(time: Option<bollard_buildkit_proto::google::protobuf::Timestamp>) -> Option<Timestamp> {
    time.map(|time| Timestamp { seconds: time.seconds, nanos: time.nanos })
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES {
        let boundary = (0..=TEXT_BYTES).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(boundary.unwrap_or(0));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vertex(name: &str, error: &str) -> Vertex {
        Vertex {
            digest: name.to_owned(),
            name: name.to_owned(),
            error: error.to_owned(),
            ..Vertex::default()
        }
    }

    fn logs(data: &[u8]) -> StatusResponse {
        let log = VertexLog { vertex: "v".to_owned(), stream: 2, msg: data.to_vec(), timestamp: None };
        StatusResponse { logs: vec![log], ..StatusResponse::default() }
    }

    fn output(frames: &[LogFrame]) -> Vec<u8> {
        let data = frames.iter().filter_map(|frame| match &frame.frame {
            Some(Frame::Output(output)) => Some(output.data.to_vec()),
            _ => None,
        });
        data.collect::<Vec<_>>().concat()
    }

    #[test]
    fn an_unchanged_vertex_is_told_once() {
        let mut progress = Progress::default();
        let message = |error| StatusResponse { vertexes: vec![vertex("v", error)], ..Default::default() };
        assert_eq!(progress.tell(message("")).len(), 1);
        assert_eq!(progress.tell(message("")).len(), 0);
        assert_eq!(progress.tell(message("broke")).len(), 1);
        assert_eq!(progress.failed().map(|step| step.error.as_str()), Some("broke"));
    }

    #[test]
    fn the_step_that_broke_is_told_from_those_that_were_stopped() {
        let mut progress = Progress::default();
        let vertexes = vec![vertex("a", "context canceled"), vertex("b", "exit code: 1"), vertex("c", "")];
        progress.tell(StatusResponse { vertexes, ..Default::default() });
        assert_eq!(progress.failed().map(|step| step.name.as_str()), Some("b"));
    }

    #[test]
    fn buildkits_clip_marker_becomes_a_frame_of_its_own() {
        let frames = Progress::default().tell(logs(b"abc\n[output clipped, log limit 2MiB reached]\n"));
        assert_eq!(output(&frames), b"abc");
        let Some(Frame::Clipped(clipped)) = &frames[1].frame else { panic!("{frames:?}") };
        assert_eq!(clipped.message, "output clipped, log limit 2MiB reached");
        for plain in [&b"[output clipped, log limit 2MiB reached]"[..], b" reached]\n", b""] {
            assert_eq!(output(&Progress::default().tell(logs(plain))), plain);
        }
    }

    #[test]
    fn lines_of_one_moment_are_one_frame() {
        let line = |text: &str, stream, nanos| VertexLog {
            vertex: "v".to_owned(),
            stream,
            msg: text.as_bytes().to_vec(),
            timestamp: Some(bollard_buildkit_proto::google::protobuf::Timestamp { seconds: 1, nanos }),
        };
        let logs = vec![
            line("a\n", 1, 100),
            line("b\n", 1, 900_000),
            line("c\n", 1, 1_000_000),
            line("d\n", 2, 1_000_000),
            line("x\n[output clipped, log limit 2MiB reached]\n", 2, 1_000_000),
            line("e\n", 2, 1_000_000),
        ];
        let frames = Progress::default().tell(StatusResponse { logs, ..StatusResponse::default() });
        let said: Vec<_> = frames
            .iter()
            .map(|frame| match &frame.frame {
                Some(Frame::Output(output)) => String::from_utf8_lossy(&output.data).into_owned(),
                Some(Frame::Clipped(_)) => "clipped".to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(said, ["a\nb\n", "c\n", "d\n", "x", "clipped", "e\n"]);
    }

    #[test]
    fn a_step_whose_end_is_missing_is_found_by_its_command() {
        let mut progress = Progress::default();
        let at = || Some(bollard_buildkit_proto::google::protobuf::Timestamp { seconds: 1, nanos: 0 });
        let started = |name: &str| Vertex { started: at(), ..vertex(name, "") };
        let vertexes = vec![
            started("[1/3] RUN exit"),
            started("[2/3] RUN --mount=type=cache,target=/x --network=none exit 7"),
            Vertex { completed: at(), ..started("[3/3] RUN exit 7 # done") },
        ];
        progress.tell(StatusResponse { vertexes, ..Default::default() });
        assert!(progress.failed().is_none());
        let quoted = |message| progress.quoted(message).map(|step| step.name.as_str());
        let told = quoted("executor failed running [/bin/sh -c exit 7]: exit code: 7");
        assert_eq!(told, Some("[2/3] RUN --mount=type=cache,target=/x --network=none exit 7"));
        assert_eq!(quoted("something else"), None);
    }

    #[test]
    fn only_numbered_steps_are_counted() {
        for (name, is_step) in [
            ("[1/3] COPY a b", true),
            ("[linux/amd64 stage-1  2/12] RUN x", true),
            ("[internal] load build context", false),
            ("[auth] library/x:pull token for h", false),
            ("exporting to image", false),
        ] {
            assert_eq!(is_of_dockerfile(name), is_step, "{name}");
        }
    }

    #[test]
    fn no_frame_is_larger_than_the_limit_and_no_byte_is_lost() {
        use prost::Message as _;
        let data: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let frames = Progress::default().tell(logs(&data));
        assert!(frames.len() > 1 && frames.iter().all(|frame| frame.encoded_len() <= LOG_FRAME_BYTES));
        assert_eq!(output(&frames), data);
    }

    #[test]
    fn a_run_that_was_not_cached_is_named() {
        let told = |name: &str, cached, started: bool| {
            let at = || Some(bollard_buildkit_proto::google::protobuf::Timestamp { seconds: 1, nanos: 0 });
            let mut progress = Progress::default();
            let vertex = Vertex {
                digest: "d".to_owned(),
                name: name.to_owned(),
                cached,
                started: if started { at() } else { None },
                completed: at(),
                ..Vertex::default()
            };
            progress.tell(StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() });
            progress.ran().map(str::to_owned)
        };
        assert_eq!(told("[build 2/3] RUN make", false, true).as_deref(), Some("[build 2/3] RUN make"));
        assert_eq!(told("[build 2/3] RUN make", true, true), None);
        assert_eq!(told("[build 2/3] RUN make", false, false), None);
        assert_eq!(told("[build 3/3] COPY . /", false, true), None);
        assert_eq!(told("[internal] load .dockerignore", false, true), None);
    }
}
