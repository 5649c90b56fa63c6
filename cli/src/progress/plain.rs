//! Progress as lines, for logs of CI systems and for `archyard logs`: every line begins with its platform, steps are
//! numbered as buildx numbers them, and nothing is ever overwritten.

use std::io::{self, Write};
use std::time::Duration;

use archyard_model::{BuildEvent, EventKind, JobState};

use super::standing::{smoke, standing, warnings};
use super::update::{Change, Step, StepEnd};
use super::{Board, Lane, Renderer, failure, paint, summary, unmoved};
use crate::text;

/// Which parts of the story are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Story {
    /// A build from this client's point of view, with a summary at its end.
    Build,
    /// The logs, and what happens to their platforms.
    Logs,
}

/// Writes lines.
#[derive(Debug)]
pub(crate) struct Plain<W> {
    out: W,
    story: Story,
    colours: bool,
    /// The platforms' names, all as wide as the widest.
    names: Vec<String>,
    build: String,
    /// Tenths of what was built that were said to have arrived.
    tenths: u64,
}

impl<W: Write> Plain<W> {
    /// For the platforms of this board; with colours only where steps may have them.
    pub(crate) fn new(out: W, story: Story, colours: bool, board: &Board) -> Self {
        let names: Vec<String> = board.lanes.iter().map(|lane| lane.platform.to_string()).collect();
        let width = names.iter().map(String::len).max().unwrap_or_default().max("build".len());
        let wide = |name: &str| format!("{name:<width$} | ");
        Self {
            out,
            story,
            colours,
            names: names.iter().map(|name| wide(name)).collect(),
            build: wide("build"),
            tenths: 0,
        }
    }

    fn build(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{}{}", self.build, paint(line, self.colours))
    }

    /// A line for every tenth: enough for whoever waits, and few enough for a log.
    fn fetching(&mut self, received: u64, total: u64) -> io::Result<()> {
        if received == total {
            return self.build(&format!("fetched {}", text::bytes(total)));
        }
        let tenths = received.saturating_mul(10) / total.max(1);
        if tenths > self.tenths {
            self.tenths = tenths;
            self.build(&format!("fetching {} of {}", text::bytes(received), text::bytes(total)))?;
        }
        Ok(())
    }

    fn lane(&mut self, lane: usize, line: &str) -> io::Result<()> {
        match self.names.get(lane) {
            Some(name) => writeln!(self.out, "{name}{}", paint(line, self.colours)),
            None => Ok(()),
        }
    }

    /// A line that a step wrote: there may be millions, so it is put together nowhere but in the buffer.
    fn line(
        &mut self,
        lane: usize,
        number: Option<usize>,
        at: Option<Duration>,
        text: &str,
    ) -> io::Result<()> {
        let Some(name) = self.names.get(lane) else { return Ok(()) };
        self.out.write_all(name.as_bytes())?;
        if let Some(number) = number {
            write!(self.out, "#{number} ")?;
        }
        if let Some(at) = at {
            write!(self.out, "{}.{:03} ", at.as_secs(), at.subsec_millis())?;
        }
        self.out.write_all(paint(text, self.colours).as_bytes())?;
        self.out.write_all(b"\n")
    }

    fn event(&mut self, board: &Board, event: &BuildEvent) -> io::Result<()> {
        match &event.kind {
            EventKind::Waiting { reason } => self.build(&format!("waiting: {reason}")),
            EventKind::ContextMissed { reason } => {
                self.build(&format!("sending the whole context: {reason}"))
            }
            EventKind::Locked { lock } => {
                for (image, locked) in &lock.images {
                    if locked.digest.is_none() {
                        let warning = locked.warning.as_deref().unwrap_or("it could not be resolved");
                        self.build(&format!("warning: unlocked: {image}: {warning}"))?;
                    }
                }
                Ok(())
            }
            EventKind::JobWaiting { job, reason } => self.lane((*job).into(), &format!("waiting: {reason}")),
            EventKind::JobLeased { .. } | EventKind::Accepted { .. } => Ok(()),
            EventKind::JobStarted { job, token, worker } => {
                let again = if token.0 > 1 { format!(" (attempt {token})") } else { String::new() };
                let standing = board.lanes.get(usize::from(*job)).map(aside).unwrap_or_default();
                self.lane((*job).into(), &format!("started on {worker}{again}{standing}"))
            }
            EventKind::AttemptEnded { job, token, worker, failure, will_retry } => match failure {
                Some(failure) if *will_retry => self.lane(
                    (*job).into(),
                    &format!("attempt {token} on {worker} ended: {failure}; trying again"),
                ),
                _ => Ok(()),
            },
            EventKind::JobEnded { job, state, failure, .. } => {
                let lane = board.lanes.get(usize::from(*job));
                for warning in lane.map(warnings).unwrap_or_default() {
                    self.lane((*job).into(), &format!("WARN: {warning}"))?;
                }
                let standing = lane.map(aside).unwrap_or_default();
                let smoke = lane.and_then(smoke).map(|smoke| format!(", {smoke}")).unwrap_or_default();
                let took = lane.and_then(|lane| lane.took);
                let took = took.map(|took| format!(" after {}", text::duration(took))).unwrap_or_default();
                let why = match failure {
                    Some(failure) if *state == JobState::Failed => format!(": {failure}"),
                    _ => String::new(),
                };
                self.lane((*job).into(), &format!("{state}{took}{smoke}{standing}{why}"))
            }
            EventKind::CancelRequested { principal, reason } => {
                let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                self.build(&format!("cancel requested by {principal}{reason}"))
            }
            EventKind::Publishing { index, .. } => self.build(&format!("publishing {index}")),
            EventKind::TagMoved(tag) if tag.moved => self.build(&format!("{} is now this build", tag.tag)),
            EventKind::TagMoved(tag) => self.build(&format!("{} not moved: {}", tag.tag, tag.detail)),
            // The summary says so, with all that belongs to it.
            EventKind::Ended { .. } if self.story == Story::Build => Ok(()),
            EventKind::Ended { state, failure, .. } => match failure {
                Some(failure) => self.build(&format!("{state}: {failure}")),
                None => self.build(&state.to_string()),
            },
        }
    }

    fn log(&mut self, lane: usize, step: &Step) -> io::Result<()> {
        match step {
            Step::Phase { name, detail } if detail.is_empty() => self.lane(lane, name),
            Step::Phase { name, detail } => self.lane(lane, &format!("{name}: {detail}")),
            Step::Started { number, name } => self.lane(lane, &format!("#{number} {name}")),
            Step::Line { number, at, text, .. } => self.line(lane, *number, *at, text),
            Step::Transferred { number, name, bytes } => {
                let size = if *bytes > 0 { format!(" {}", text::bytes(*bytes)) } else { String::new() };
                self.lane(lane, &format!("{}{name}{size} done", numbered(*number)))
            }
            Step::Warning { number, message, line, url } => {
                let line = if *line > 0 { format!(" (line {line})") } else { String::new() };
                let url = if url.is_empty() { String::new() } else { format!(" {url}") };
                self.lane(lane, &format!("{}WARN: {message}{line}{url}", numbered(*number)))
            }
            Step::Clipped { number, message } => self.lane(lane, &format!("{}{message}", numbered(*number))),
            Step::Ended { number, end, .. } => {
                let said = match end {
                    StepEnd::Done { took } => format!("DONE {}", text::duration(*took)),
                    StepEnd::Cached => "CACHED".to_owned(),
                    StepEnd::Canceled => "CANCELED".to_owned(),
                    StepEnd::Failed { error } => format!("ERROR: {error}"),
                };
                self.lane(lane, &format!("#{number} {said}"))
            }
        }
    }
}

impl<W: Write + Send> Renderer for Plain<W> {
    fn change(&mut self, board: &Board, change: &Change) -> io::Result<()> {
        match change {
            Change::Note(text) => self.build(text),
            Change::Uploading { sent_bytes, total_bytes } if sent_bytes == total_bytes => {
                self.build(&format!("sent {} of context", text::bytes(*total_bytes)))
            }
            Change::Uploading { .. } => Ok(()),
            Change::Fetching { received_bytes, total_bytes } => self.fetching(*received_bytes, *total_bytes),
            Change::Submitted { build } => {
                self.build(&format!("{build}; follow it with: archyard logs -f {build}"))
            }
            Change::Event(event) => self.event(board, event),
            Change::Queued { lane, place } => self.lane(*lane, place),
            Change::Log { lane, step, .. } => self.log(*lane, step),
        }
    }

    fn settle(&mut self, _board: &Board) -> io::Result<()> {
        self.out.flush()
    }

    fn finish(&mut self, board: &Board) -> io::Result<()> {
        if self.story == Story::Build {
            failure::write(&mut self.out, self.colours, board)?;
            unmoved::write(&mut self.out, board)?;
            summary::write(&mut self.out, board)?;
        }
        self.out.flush()
    }
}

/// ` (on trial, built on linux/amd64)`; nothing for what is as usual.
fn aside(lane: &Lane) -> String {
    let standing = standing(lane);
    if standing.is_empty() { String::new() } else { format!(" ({})", standing.join(", ")) }
}

/// `#5 `; nothing for what belongs to no step.
fn numbered(number: Option<usize>) -> String {
    number.map(|number| format!("#{number} ")).unwrap_or_default()
}

/// Seconds since a step's start, as buildx writes them.
pub(super) fn offset(at: Duration) -> String {
    format!("{}.{:03}", at.as_secs(), at.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn plain(story: Story, updates: Vec<super::super::Update>) -> String {
        let mut board = testing::board();
        let mut out = Vec::new();
        let mut plain = Plain::new(&mut out, story, false, &board);
        testing::tell(&mut board, &mut plain, updates);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_build_that_fails() {
        insta::assert_snapshot!(plain(Story::Build, testing::failed_build()));
    }

    #[test]
    fn a_build_that_is_pushed() {
        insta::assert_snapshot!(plain(Story::Build, testing::pushed_build()));
    }

    #[test]
    fn tags_that_newer_builds_have_are_named_at_the_end() {
        let all = plain(Story::Build, testing::overtaken_build(false));
        let reason = "left alone for build 01ARZ3NDEKTSV4RRFFQ69G5FAB, which was submitted later";
        assert!(all.contains(&format!("\nNOT MOVED: registry.example/app:1: {reason}\n")), "{all}");
        assert!(all.contains(&format!("\nNOT MOVED: registry.example/app:latest: {reason}\n")), "{all}");
        let last = all.lines().last().unwrap();
        assert!(last.contains(" superseded in ") && !last.contains("succeeded"), "{last}");
        assert!(
            last.ends_with("; left to newer builds: registry.example/app:1, registry.example/app:latest"),
            "{last}"
        );
        let one = plain(Story::Build, testing::overtaken_build(true));
        let last = one.lines().last().unwrap();
        assert!(last.contains(" succeeded in "), "{last}");
        assert!(last.ends_with("; left to newer builds: registry.example/app:latest"), "{last}");
    }

    #[test]
    fn what_is_peculiar_is_told() {
        let mut board = testing::board_with_trial();
        let mut out = Vec::new();
        let mut plain = Plain::new(&mut out, Story::Build, false, &board);
        testing::tell(&mut board, &mut plain, testing::peculiar_build());
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }

    #[test]
    fn logs_have_no_summary() {
        let logs = plain(Story::Logs, testing::pushed_build());
        assert!(logs.contains("linux/386   | #2 0.020 x86_64\n"), "{logs}");
        assert!(logs.ends_with("build       | succeeded\n"), "{logs}");
    }
}
