//! The block of lines that shows a build at this moment.
//!
//! ```text
//! [+] Building 12.3s  1/2 platforms  01ARZ3NDEKTSV4RRFFQ69G5FAV
//!  ✓ linux/386    worker-2   9.1s  7/7 steps, 5 cached
//!  • linux/amd64  worker-1  12.1s  5/9 steps, 3 cached
//!     => CACHED [2/5] COPY go.mod go.sum ./                       0.0s
//!     => [3/5] RUN make                                           8.2s
//!     => => cc -c main.c
//! ```
//!
//! Every platform keeps its first line; the room that is left is shared by those that run, and goes to running steps
//! first, then to what they write, then to steps that have ended, newest first.

use std::time::Duration;

use archyard_model::{BuildEvent, EventKind, JobState};
use console::{Style, pad_str, truncate_str};

use crate::progress::standing::{standing, warnings};
use crate::progress::steps::StepState;
use crate::progress::update::StepEnd;
use crate::progress::{Board, Lane};
use crate::text;

/// Lines of what a step writes, as in buildx.
const OUTPUT_LINES: usize = 6;

/// The block: at most `height` lines of at most `width` columns.
pub(super) fn lines(board: &Board, width: usize, height: usize) -> Vec<String> {
    let mut lines = vec![header(board)];
    let shown = height.saturating_sub(1).max(1);
    let (lanes, hidden) = pick(&board.lanes, shown);
    let running = lanes.iter().filter(|lane| lane.state == JobState::Running).count();
    let mut spare = shown.saturating_sub(lanes.len() + usize::from(hidden > 0));
    let mut sharing = running;
    let columns = Columns::of(&lanes);
    for lane in lanes {
        lines.push(columns.lane(lane));
        if lane.state == JobState::Running && sharing > 0 {
            let body = body(lane, spare / sharing, width);
            sharing -= 1;
            spare -= body.len();
            lines.extend(body);
        }
    }
    if hidden > 0 {
        lines.push(dim().apply_to(format!("   and {}", text::count(hidden, "more platform"))).to_string());
    }
    lines.iter().map(|line| truncate_str(line, width, "…").into_owned()).collect()
}

/// What an event adds above the block, for it must not vanish.
pub(super) fn notes(board: &Board, event: &BuildEvent) -> Vec<String> {
    match &event.kind {
        EventKind::Locked { lock } => {
            let unlocked = lock.images.iter().filter(|(_, locked)| locked.digest.is_none());
            unlocked
                .map(|(image, locked)| {
                    let warning = locked.warning.as_deref().unwrap_or("it could not be resolved");
                    yellow().apply_to(format!("warning: unlocked: {image}: {warning}")).to_string()
                })
                .collect()
        }
        EventKind::AttemptEnded { job, token, worker, failure: Some(failure), will_retry: true } => {
            let Some(lane) = board.lanes.get(usize::from(*job)) else { return Vec::new() };
            let text =
                format!("{}: attempt {token} on {worker} ended: {failure}; trying again", lane.platform);
            vec![yellow().apply_to(text).to_string()]
        }
        EventKind::TagMoved(tag) if !tag.moved => {
            vec![yellow().apply_to(format!("{} not moved: {}", tag.tag, tag.detail)).to_string()]
        }
        EventKind::JobEnded { job, .. } => {
            let Some(lane) = board.lanes.get(usize::from(*job)) else { return Vec::new() };
            let warning = |text: String| format!("warning: {}: {text}", lane.platform);
            warnings(lane).into_iter().map(|text| yellow().apply_to(warning(text)).to_string()).collect()
        }
        _ => Vec::new(),
    }
}

fn header(board: &Board) -> String {
    let done = board.lanes.iter().filter(|lane| lane.state.is_terminal()).count();
    let took = board.ended.as_ref().map_or_else(|| board.elapsed(), |ended| ended.took);
    let mut parts = vec![
        format!("[+] Building {}", text::duration(took)),
        format!("{done}/{}", text::count(board.lanes.len(), "platform")),
    ];
    parts.extend(board.build.clone());
    if let Some((received, total)) = board.fetching {
        parts.push(format!("fetching {} of {}", text::bytes(received), text::bytes(total)));
    } else if let Some(ended) = &board.ended {
        parts.push(ended.state.to_string());
    } else if !board.reachable {
        parts.push(yellow().apply_to("scheduler unreachable, retrying").to_string());
    } else if board.canceling {
        parts.push(yellow().apply_to("canceling").to_string());
    } else if let Some(index) = &board.publishing
        && done < board.lanes.len()
    {
        parts.push(format!("{index}, and trials"));
    } else if let Some(index) = &board.publishing {
        parts.push(format!("publishing {index}"));
    } else if let Some(reason) = &board.waiting {
        parts.push(format!("waiting: {reason}"));
    } else if let Some((sent, total)) = board.uploading {
        parts.push(format!("sending context {} of {}", text::bytes(sent), text::bytes(total)));
    }
    parts.join("  ")
}

/// The platforms that fit, and how many do not: those that still do something first.
fn pick(lanes: &[Lane], rows: usize) -> (Vec<&Lane>, usize) {
    if lanes.len() <= rows {
        return (lanes.iter().collect(), 0);
    }
    let rows = rows.saturating_sub(1);
    let rank = |lane: &Lane| match lane.state {
        JobState::Running => 0,
        JobState::Failed => 1,
        JobState::Leased | JobState::Queued => 2,
        JobState::Succeeded | JobState::Canceled => 3,
    };
    let mut order: Vec<usize> = (0..lanes.len()).collect();
    order.sort_by_key(|at| rank(&lanes[*at]));
    order.truncate(rows);
    order.sort_unstable();
    (order.iter().map(|at| &lanes[*at]).collect(), lanes.len() - rows)
}

/// Widths that the first lines share.
struct Columns {
    platform: usize,
    worker: usize,
}

impl Columns {
    fn of(lanes: &[&Lane]) -> Self {
        let widest = |width: &dyn Fn(&&Lane) -> usize| lanes.iter().map(width).max().unwrap_or_default();
        Self {
            platform: widest(&|lane| lane.platform.to_string().len()),
            worker: widest(&|lane| lane.worker.as_ref().map_or(0, String::len)),
        }
    }

    fn lane(&self, lane: &Lane) -> String {
        let platform = format!("{:<width$}", lane.platform.to_string(), width = self.platform);
        let (mark, style) = match lane.state {
            JobState::Queued | JobState::Leased => ("•", dim()),
            JobState::Running => ("•", cyan()),
            JobState::Succeeded => ("✓", green()),
            JobState::Failed if lane.trial => ("✗", yellow()),
            JobState::Failed => ("✗", red()),
            JobState::Canceled => ("-", yellow()),
        };
        let mut parts = vec![format!(" {} {}", style.apply_to(mark), bold().apply_to(platform))];
        if self.worker > 0 {
            parts.push(format!(
                "{:<width$}",
                lane.worker.as_deref().unwrap_or_default(),
                width = self.worker
            ));
        }
        if let Some(took) = lane.took.or_else(|| lane.heard.map(|heard| heard.elapsed())) {
            parts.push(format!("{:>6}", text::duration(took)));
        }
        let (steps, ended, cached) = lane.steps.counts();
        if steps > 0 {
            parts.push(format!("{ended}/{}, {cached} cached", text::count(steps, "step")));
        }
        parts.extend(standing(lane).iter().map(|word| dim().apply_to(word).to_string()));
        match (lane.state, &lane.waiting, &lane.phase) {
            (JobState::Queued, Some(reason), _) => {
                parts.push(yellow().apply_to(format!("waiting: {reason}")).to_string());
            }
            (JobState::Queued, None, _) => {
                parts.push(dim().apply_to(lane.queue.as_deref().unwrap_or("queued")).to_string());
            }
            (JobState::Leased, _, _) => parts.push(dim().apply_to("starting").to_string()),
            (JobState::Running, _, Some(phase)) if phase != "build" => parts.push(phase.clone()),
            (JobState::Failed, _, _) => {
                let failure = lane.failure.as_ref().map(ToString::to_string).unwrap_or_default();
                parts.push(if lane.trial { yellow() } else { red() }.apply_to(failure).to_string());
            }
            (JobState::Canceled, _, _) => parts.push("canceled".to_owned()),
            (JobState::Running | JobState::Succeeded, _, _) => {}
        }
        parts.join("  ")
    }
}

/// A running platform's steps, in at most `rows` lines.
fn body(lane: &Lane, rows: usize, width: usize) -> Vec<String> {
    let running: Vec<&StepState> = lane.steps.started().filter(|step| step.is_running()).take(rows).collect();
    let mut spare = rows - running.len();
    let mut below: Vec<Vec<String>> = Vec::new();
    for step in running.iter().rev() {
        let share = spare.min(OUTPUT_LINES);
        let output = output(step, share);
        spare -= output.len();
        below.push(output);
    }
    let own = output(&lane.steps.own, spare.min(OUTPUT_LINES));
    spare -= own.len();
    let ended: Vec<&StepState> =
        lane.steps.started().rev().filter(|step| !step.is_running()).take(spare).collect();
    let mut lines: Vec<String> = ended.iter().rev().map(|step| step_line(step, width)).collect();
    for (step, output) in running.iter().zip(below.into_iter().rev()) {
        lines.push(step_line(step, width));
        lines.extend(output);
    }
    lines.extend(own);
    lines
}

fn step_line(step: &StepState, width: usize) -> String {
    let (label, took, style) = match &step.end {
        None => {
            (step.name.clone(), step.heard.map(|heard| heard.elapsed()).unwrap_or_default(), Style::new())
        }
        Some(StepEnd::Done { took }) => (step.name.clone(), *took, blue()),
        Some(StepEnd::Cached) => (format!("CACHED {}", step.name), Duration::ZERO, blue()),
        Some(StepEnd::Canceled) => (format!("CANCELED {}", step.name), Duration::ZERO, yellow()),
        Some(StepEnd::Failed { .. }) => (format!("ERROR {}", step.name), Duration::ZERO, red()),
    };
    let took = text::duration(took);
    let room = width.saturating_sub(took.len() + 1);
    let left = format!("    => {label}");
    let left = pad_str(&left, room, console::Alignment::Left, Some("…"));
    style.for_stderr().apply_to(format!("{left} {took}")).to_string()
}

/// The last lines of a running step, and how far its transfers are.
fn output(step: &StepState, rows: usize) -> Vec<String> {
    let mut lines: Vec<String> = step.tail.iter().map(|(_, text)| text.clone()).collect();
    lines.extend(step.pending());
    for (name, current, total) in &step.transfers {
        let far = match (current, total) {
            (0, 0) => String::new(),
            (current, 0) => format!(" {}", text::bytes(*current)),
            (current, total) => format!(" {} / {}", text::bytes(*current), text::bytes(*total)),
        };
        lines.push(format!("{name}{far}"));
    }
    let skip = lines.len().saturating_sub(rows);
    lines.drain(..skip);
    lines.iter().map(|line| format!("    {} {line}", dim().apply_to("=> =>"))).collect()
}

fn bold() -> Style {
    Style::new().for_stderr().bold()
}

fn dim() -> Style {
    Style::new().for_stderr().dim()
}

fn red() -> Style {
    Style::new().for_stderr().red()
}

fn green() -> Style {
    Style::new().for_stderr().green()
}

fn yellow() -> Style {
    Style::new().for_stderr().yellow()
}

fn blue() -> Style {
    Style::new().for_stderr().blue()
}

fn cyan() -> Style {
    Style::new().for_stderr().cyan()
}

#[cfg(test)]
mod tests {
    use console::{measure_text_width, strip_ansi_codes};

    use super::*;
    use crate::progress::Change;
    use crate::progress::testing::{self, cached, done, running, started, transfer, wrote};

    fn draw(board: &Board, width: usize, height: usize) -> String {
        let lines = lines(board, width, height);
        assert!(lines.len() <= height, "{} lines for {height}", lines.len());
        assert!(lines.iter().all(|line| measure_text_width(line) <= width));
        // Times that pass are not for a snapshot.
        let lines = lines.iter().map(|line| strip_ansi_codes(line).trim_end().to_owned());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// One platform runs two steps, one waits.
    fn busy() -> Board {
        let mut board = testing::board();
        let mut story = vec![testing::submitted(), testing::accepted(), started(0, 0, 1)];
        story.push(testing::event(
            3,
            0,
            EventKind::JobWaiting { job: 1, reason: "no native worker for linux/386".to_owned() },
        ));
        story.push(cached(0, "[internal] load build definition from Dockerfile", 0));
        for step in 1..=9 {
            story.push(done(0, &format!("[a {step}/12] RUN step {step}"), 0, step * 1000, ""));
        }
        story.push(running(0, "[a 10/12] RUN make", 0));
        story.extend(
            (1..=9).map(|line| wrote(0, "[a 10/12] RUN make", 0, 1, &format!("cc -c file-{line}.c\n"))),
        );
        story.push(wrote(0, "[a 10/12] RUN make", 0, 1, "linking \u{1b}[1A"));
        story.push(running(0, "[b 2/2] FROM docker.io/library/golang:1.25@sha256:0000000000000000000000000000000000000000000000", 0));
        story.push(transfer(0, "[b 2/2] FROM docker.io/library/golang:1.25@sha256:0000000000000000000000000000000000000000000000", "sha256:aaaa", 12_000_000, 67_000_000, false));
        story.push(testing::known(0, "[a 11/12] RUN later"));
        testing::note(&mut board, story);
        board
    }

    #[test]
    fn running_steps_come_first_then_their_output_then_what_has_ended() {
        for height in [4, 6, 8, 12, 24] {
            insta::assert_snapshot!(format!("busy_{height}"), draw(&busy(), 72, height));
        }
    }

    #[test]
    fn nothing_is_wider_or_higher_than_the_screen() {
        for width in [20, 33, 80, 200] {
            for height in 2..30 {
                draw(&busy(), width, height);
            }
        }
    }

    #[test]
    fn a_build_that_failed() {
        let mut board = testing::board();
        testing::note(&mut board, testing::failed_build());
        insta::assert_snapshot!(draw(&board, 100, 24));
    }

    #[test]
    fn what_is_peculiar_is_told() {
        let mut board = testing::board_with_trial();
        let mut above = Vec::new();
        for update in testing::peculiar_build() {
            board.apply(update, |board, change| {
                if let Change::Event(event) = change {
                    above.extend(notes(board, &event));
                }
            });
        }
        let above = above.iter().map(|line| strip_ansi_codes(line).into_owned() + "\n").collect::<String>();
        insta::assert_snapshot!(above + &draw(&board, 110, 24));
    }

    #[test]
    fn more_platforms_than_lines() {
        let platforms = ["amd64", "386", "arm64", "arm/v7", "arm/v6", "riscv64", "s390x", "ppc64le"];
        let platforms: Vec<_> =
            platforms.iter().map(|name| format!("linux/{name}").parse().unwrap()).collect();
        let mut board = Board::new(&platforms, &[].into());
        testing::note(
            &mut board,
            vec![testing::pushed(0, 0), started(0, 6, 1), running(6, "[1/1] RUN x", 0)],
        );
        insta::assert_snapshot!(draw(&board, 60, 6));
    }
}
