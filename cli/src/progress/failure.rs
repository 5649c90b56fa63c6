//! Why a build failed, at its very end, where people look: the failed step's last lines, the Dockerfile's excerpt, and
//! one line that says it all; for every platform that failed by itself, those on trial included.

use std::io::{self, Write};

use archyard_model::{Failure, FailureClass, JobState};

use super::plain::offset;
use super::sanitize::clean;
use super::{Board, Lane, paint};

const RULE: &str = "------";

/// Writes nothing for a build that did not fail.
pub(super) fn write(out: &mut impl Write, colours: bool, board: &Board) -> io::Result<()> {
    let mut told: Vec<&str> = Vec::new();
    // Last comes what the build failed for.
    let (trials, required): (Vec<&Lane>, Vec<&Lane>) = board.lanes.iter().partition(|lane| lane.trial);
    for lane in trials.into_iter().chain(required) {
        let Some(failure) = own_failure(lane) else { continue };
        step(out, colours, lane)?;
        detail(out, failure)?;
        let worker = lane.worker.as_ref().map(|worker| format!(" on {worker}")).unwrap_or_default();
        let kind = if lane.trial { "FAILED ON TRIAL" } else { "ERROR" };
        writeln!(out, "{kind}: {}{worker}: {}", lane.platform, clean(failure.message.as_bytes()))?;
        if !lane.trial {
            told.push(&failure.message);
        }
    }
    let build = board.ended.as_ref().and_then(|ended| ended.failure.as_ref());
    if let Some(failure) = build.filter(|failure| failure.class != FailureClass::Canceled)
        && !told.iter().any(|message| failure.message.contains(message))
    {
        detail(out, failure)?;
        writeln!(out, "ERROR: {}", clean(failure.message.as_bytes()))?;
    }
    Ok(())
}

/// Not that of a platform which was stopped because another one failed.
fn own_failure(lane: &Lane) -> Option<&Failure> {
    let failure = lane.failure.as_ref()?;
    (lane.state == JobState::Failed && failure.class != FailureClass::Canceled).then_some(failure)
}

fn step(out: &mut impl Write, colours: bool, lane: &Lane) -> io::Result<()> {
    let Some(step) = lane.steps.failed() else { return Ok(()) };
    writeln!(out, "{RULE}\n > {} {}:", lane.platform, step.name)?;
    for (at, text) in &step.tail {
        let text = paint(text, colours);
        match at {
            Some(at) => writeln!(out, "{} {text}", offset(*at))?,
            None => writeln!(out, "{text}")?,
        }
    }
    writeln!(out, "{RULE}")
}

fn detail(out: &mut impl Write, failure: &Failure) -> io::Result<()> {
    for line in failure.detail.lines() {
        writeln!(out, "{}", clean(line.as_bytes()))?;
    }
    Ok(())
}
