//! What is particular about a platform of a build, in words: how it stands to the build, and what was found in its image.

use archyard_model::{Inspection, SmokeOutcome};

use super::Lane;
use super::sanitize::clean;
use crate::text;

/// Files that one line names.
const NAMED: usize = 5;

/// `on trial`, `built on linux/amd64`, `taken over`.
pub(super) fn standing(lane: &Lane) -> Vec<String> {
    let mut words = Vec::new();
    if lane.trial {
        words.push("on trial".to_owned());
    }
    if let Some(builder) = &lane.cross {
        words.push(format!("built on {builder}"));
    }
    if lane.carried {
        words.push("taken over".to_owned());
    }
    words
}

/// What became of its smoke tests; nothing where there were none.
pub(super) fn smoke(lane: &Lane) -> Option<String> {
    match lane.result.as_ref()?.smoke {
        SmokeOutcome::NotAsked => None,
        SmokeOutcome::Passed => Some("smoke tests passed".to_owned()),
        SmokeOutcome::NotRun => Some(match &lane.cross {
            Some(_) => "smoke tests not run: cross".to_owned(),
            None => "smoke tests not run".to_owned(),
        }),
    }
}

/// What is odd about its image, one line each. The names come from the image: they may not steer a terminal.
pub(super) fn warnings(lane: &Lane) -> Vec<String> {
    let Some(inspection) = lane.result.as_ref().and_then(|result| result.inspection.as_ref()) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    if let Some(level) = &inspection.requires {
        let level = clean(level.as_bytes());
        lines.push(format!("the image demands {level}, which {} does not promise", lane.platform));
    }
    lines.extend(foreign(inspection));
    lines
}

fn foreign(inspection: &Inspection) -> Option<String> {
    if inspection.foreign_files == 0 {
        return None;
    }
    let files = inspection.foreign.iter().take(NAMED);
    let named: Vec<String> =
        files.map(|file| clean(format!("{} ({})", file.path, file.machine).as_bytes())).collect();
    let more = inspection.foreign_files.saturating_sub(named.len() as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let count = usize::try_from(inspection.foreign_files).unwrap_or(usize::MAX);
    Some(format!("{} of other machines: {}{more}", text::count(count, "executable"), named.join(", ")))
}
