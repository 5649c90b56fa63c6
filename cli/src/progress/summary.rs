//! The last lines of a build: who built what, how long it took, how much was cached.

use std::io::{self, Write};

use archyard_model::{JobState, OriginKind};

use super::standing::{smoke, standing};
use super::{Board, Lane};
use crate::text;

/// Writes a line per platform, and one for the build.
pub(super) fn write(out: &mut impl Write, board: &Board) -> io::Result<()> {
    let Some(ended) = &board.ended else { return Ok(()) };
    let platforms = board.lanes.iter().map(|lane| lane.platform.to_string());
    let width = platforms.clone().map(|name| name.len()).max().unwrap_or_default();
    let workers = || board.lanes.iter().map(|lane| lane.worker.as_deref().unwrap_or("-"));
    let worker_width = workers().map(str::len).max().unwrap_or_default();
    for ((lane, platform), worker) in board.lanes.iter().zip(platforms).zip(workers()) {
        let line = format!(
            "{platform:<width$}  {:<9}  {worker:<worker_width$}  {}",
            lane.state.to_string(),
            facts(lane)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    let build = board.build.as_deref().unwrap_or_default();
    let origin = board.origin.map(|origin| match origin.kind {
        OriginKind::Rerun => format!("; a rerun of {}", origin.build),
        OriginKind::Promotion => format!("; a promotion of {}", origin.build),
    });
    let failed = board.lanes.iter().filter(|lane| lane.trial && lane.state == JobState::Failed).count();
    let trials = (failed > 0).then(|| format!("; {} on trial failed", text::count(failed, "platform")));
    let left: Vec<String> = board.left_to_others().map(|tag| tag.tag.to_string()).collect();
    let left = (!left.is_empty()).then(|| format!("; left to newer builds: {}", left.join(", ")));
    let [origin, trials, left] = [origin, trials, left].map(Option::unwrap_or_default);
    writeln!(out, "build {build} {} in {}{left}{trials}{origin}", ended.state, text::duration(ended.took))
}

/// Writes what each platform left, for a screen that shows the rest already.
pub(super) fn write_results(out: &mut impl Write, board: &Board) -> io::Result<()> {
    let width = board.lanes.iter().map(|lane| lane.platform.to_string().len()).max().unwrap_or_default();
    for lane in &board.lanes {
        let facts: Vec<String> = smoke(lane).into_iter().chain(left(lane)).collect();
        if !facts.is_empty() {
            writeln!(out, "{:<width$}  {}", lane.platform.to_string(), facts.join("  "))?;
        }
    }
    Ok(())
}

/// `3.2s  5 of 7 steps cached  on trial  smoke tests passed  image sha256:...`
fn facts(lane: &Lane) -> String {
    let mut facts = Vec::new();
    if let Some(took) = lane.took {
        facts.push(text::duration(took));
    }
    let (steps, _, cached) = lane.steps.counts();
    if steps > 0 && lane.state == JobState::Succeeded {
        facts.push(format!("{cached} of {} cached", text::count(steps, "step")));
    }
    facts.extend(standing(lane));
    facts.extend(smoke(lane));
    facts.extend(left(lane));
    facts.join("  ")
}

/// `manifest sha256:...` where it was pushed, else `image sha256:...`.
fn left(lane: &Lane) -> Option<String> {
    let result = lane.result.as_ref()?;
    let manifest = result.manifest.as_ref().map(|manifest| format!("manifest {}", manifest.digest));
    manifest.or_else(|| result.config_digest.map(|digest| format!("image {digest}")))
}
