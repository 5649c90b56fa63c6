//! The steps of one attempt, as its log tells them.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use archyard_proto::v1::log_frame as frame;
use jiff::Timestamp;

use super::sanitize::{Lines, clean};
use super::update::{Step, StepEnd};
use crate::text::between;
use crate::view::time;

/// Lines of a step that are kept for the block that explains its failure.
const TAIL_LINES: usize = 20;
/// What buildx, and so this client, says of a step that another's failure stopped.
const CANCELED: &str = "context canceled";

/// All steps of an attempt; those that have started are numbered.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    steps: Vec<StepState>,
    by_digest: HashMap<String, usize>,
    /// Positions of the steps that have started: number `n` is at `n - 1`.
    started: Vec<usize>,
    /// What belongs to no step: the runner's own transfers.
    pub(crate) own: StepState,
}

/// One step.
#[derive(Debug, Default)]
pub(crate) struct StepState {
    pub(crate) name: String,
    pub(crate) number: Option<usize>,
    pub(crate) end: Option<StepEnd>,
    /// When this client heard of its start: what is shown while it runs needs no other machine's clock.
    pub(crate) heard: Option<Instant>,
    /// Its last lines.
    pub(crate) tail: VecDeque<(Option<Duration>, String)>,
    /// Transfers under way: name, bytes so far, bytes in all.
    pub(crate) transfers: Vec<(String, u64, u64)>,
    started_at: Option<Timestamp>,
    lines: [Lines; 2],
}

impl StepState {
    /// Whether it has started and not ended.
    pub(crate) fn is_running(&self) -> bool {
        self.number.is_some() && self.end.is_none()
    }

    /// A line that has no end yet.
    pub(crate) fn pending(&self) -> Option<String> {
        self.lines.iter().rev().find_map(Lines::pending)
    }
}

impl Steps {
    /// How many are known, have ended, and were cached.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let ended = self.steps.iter().filter(|step| step.end.is_some()).count();
        let cached = self.steps.iter().filter(|step| step.end == Some(StepEnd::Cached)).count();
        (self.steps.len(), ended, cached)
    }

    /// Those that have started, in that order.
    pub(crate) fn started(&self) -> impl DoubleEndedIterator<Item = &StepState> {
        self.started.iter().map(|at| &self.steps[*at])
    }

    /// The step to show when the attempt failed.
    pub(crate) fn failed(&self) -> Option<&StepState> {
        self.steps.iter().find(|step| matches!(step.end, Some(StepEnd::Failed { .. })))
    }

    /// A step as it is now.
    pub(super) fn vertex(&mut self, vertex: &frame::Vertex, mut tell: impl FnMut(Step)) {
        let (started_at, completed_at) = (time(vertex.started_at), time(vertex.completed_at));
        let at = self.position(&vertex.digest);
        let step = &mut self.steps[at];
        if step.name.is_empty() {
            step.name = one_line(&vertex.name);
        }
        if step.number.is_none() && (started_at.is_some() || completed_at.is_some() || vertex.cached) {
            self.started.push(at);
            step.number = Some(self.started.len());
            step.started_at = started_at;
            step.heard = Some(Instant::now());
            tell(Step::Started { number: self.started.len(), name: step.name.clone() });
        }
        let Some(number) = step.number else { return };
        let end = if !vertex.error.is_empty() {
            if vertex.error.ends_with(CANCELED) {
                StepEnd::Canceled
            } else {
                StepEnd::Failed { error: one_line(&vertex.error) }
            }
        } else if vertex.cached {
            StepEnd::Cached
        } else if let Some(completed) = completed_at {
            StepEnd::Done { took: between(started_at.unwrap_or(completed), completed) }
        } else {
            return;
        };
        // BuildKit may run a step again for another of its uses; only a failure is news then.
        let news = match (&step.end, &end) {
            (None, _) => true,
            (Some(StepEnd::Failed { .. }), _) => false,
            (Some(_), StepEnd::Failed { .. }) => true,
            (Some(_), _) => false,
        };
        if news {
            for stream in 0..step.lines.len() {
                step.flush(stream, &mut tell);
            }
            step.transfers.clear();
            step.end = Some(end.clone());
            tell(Step::Ended { number, name: step.name.clone(), end });
        }
    }

    /// Bytes that a step wrote.
    pub(super) fn output(&mut self, output: &frame::Output, mut tell: impl FnMut(Step)) {
        let (number, step) = self.step(&output.vertex, &mut tell);
        let since = step.started_at.zip(time(output.at)).map(|(start, now)| between(start, now));
        let stream = usize::from(output.stream == 2);
        let mut texts = Vec::new();
        step.lines[stream].push(&output.data, |text| texts.push(text));
        // Of many lines at once only the last can still be in the tail afterwards.
        let first_kept = texts.len().saturating_sub(TAIL_LINES);
        for (at, text) in texts.into_iter().enumerate() {
            if at >= first_kept {
                step.keep(since, text.clone());
            }
            tell(Step::Line { number, at: since, stream: output.stream, text });
        }
    }

    /// Progress of a transfer within a step.
    pub(super) fn transfer(&mut self, status: frame::Status, mut tell: impl FnMut(Step)) {
        let (current, total) =
            (status.current_bytes.max(0).cast_unsigned(), status.total_bytes.max(0).cast_unsigned());
        let (number, step) = self.step(&status.vertex, &mut tell);
        // The last word on a transfer may come after its step's own.
        if step.end.is_some() {
            return;
        }
        let known = step.transfers.iter().position(|(name, _, _)| *name == status.name);
        if status.completed {
            if let Some(known) = known {
                step.transfers.remove(known);
            }
            tell(Step::Transferred { number, name: one_line(&status.name), bytes: current.max(total) });
        } else if let Some(known) = known {
            step.transfers[known] = (status.name, current, total);
        } else {
            step.transfers.push((status.name, current, total));
        }
    }

    /// BuildKit cut a step's output.
    pub(super) fn clipped(&mut self, clipped: &frame::Clipped, mut tell: impl FnMut(Step)) {
        let (number, step) = self.step(&clipped.vertex, &mut tell);
        let text = one_line(&clipped.message);
        step.keep(None, text.clone());
        tell(Step::Clipped { number, message: text });
    }

    /// The number of the step with this digest, once it has one.
    pub(super) fn number_of(&self, digest: &str) -> Option<usize> {
        self.steps[*self.by_digest.get(digest)?].number
    }

    /// Lines without an end that have waited: what a step says before it hangs must be seen.
    pub(super) fn flush(&mut self, mut tell: impl FnMut(Step)) {
        let running = self.steps.iter_mut().filter(|step| step.is_running());
        for step in running.chain([&mut self.own]) {
            for stream in 0..step.lines.len() {
                step.flush(stream, &mut tell);
            }
        }
    }

    fn position(&mut self, digest: &str) -> usize {
        if let Some(at) = self.by_digest.get(digest) {
            return *at;
        }
        self.steps.push(StepState::default());
        self.by_digest.insert(digest.to_owned(), self.steps.len() - 1);
        self.steps.len() - 1
    }

    /// What speaks, and its number: a step that writes has started, whether or not the log said so.
    fn step(&mut self, digest: &str, tell: &mut impl FnMut(Step)) -> (Option<usize>, &mut StepState) {
        if digest.is_empty() {
            return (None, &mut self.own);
        }
        let at = self.position(digest);
        let step = &mut self.steps[at];
        if step.number.is_none() {
            self.started.push(at);
            step.number = Some(self.started.len());
            step.heard = Some(Instant::now());
            tell(Step::Started { number: self.started.len(), name: step.name.clone() });
        }
        (step.number, step)
    }
}

impl StepState {
    fn keep(&mut self, at: Option<Duration>, text: String) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back((at, text));
    }

    fn flush(&mut self, stream: usize, tell: &mut impl FnMut(Step)) {
        if let Some(text) = self.lines[stream].take() {
            self.keep(None, text.clone());
            tell(Step::Line { number: self.number, at: None, stream: if stream == 1 { 2 } else { 1 }, text });
        }
    }
}

/// A name or a message, in one clean line.
pub(super) fn one_line(text: &str) -> String {
    let clean = |line| clean(str::as_bytes(line));
    text.lines()
        .map(clean)
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
