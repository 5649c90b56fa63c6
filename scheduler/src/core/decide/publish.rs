//! What the publisher says. A tag never goes back: an older build leaves alone what a newer one moved.

use archyard_model::{BuildId, BuildState, Failure, Reference, Sha256, TagRecord, limits};

use crate::core::build::Build;
use crate::core::fact::Fact;
use crate::core::refusal::Refusal;
use crate::core::state::State;

/// Every manifest is verified. From here on the build cannot be canceled.
pub(super) fn index_prepared(
    state: &State,
    id: BuildId,
    index: Sha256,
    size: u64,
) -> Result<Vec<Fact>, Refusal> {
    let build = publishing(state, id)?;
    if let Some(known) = build.index {
        if known == (index, size) {
            return Ok(Vec::new());
        }
        return refuse(build, "an earlier try prepared another index");
    }
    let mut facts = vec![Fact::IndexPrepared { build: id, index, size }];
    for (tag, newer) in left_alone(state, build) {
        let detail = format!("left alone for build {newer}, which was submitted later");
        let tag = TagRecord { tag, moved: false, detail };
        facts.push(Fact::TagSettled { build: id, tag });
    }
    Ok(facts)
}

/// One tag now names the index.
pub(super) fn tag_moved(state: &State, id: BuildId, tag: Reference) -> Result<Vec<Fact>, Refusal> {
    let build = publishing(state, id)?;
    if build.index.is_none() {
        return refuse(build, "its index was not prepared");
    }
    if !build.moves.contains(&tag) {
        return refuse(build, "the tag is not one of its own");
    }
    if let Some(settled) = build.tags.iter().find(|settled| settled.tag == tag) {
        return if settled.moved { Ok(Vec::new()) } else { refuse(build, "the tag was to be left alone") };
    }
    let tag = TagRecord { tag, moved: true, detail: String::new() };
    Ok(vec![Fact::TagSettled { build: id, tag }])
}

/// The index is there and every tag is settled. Trials that still run are awaited.
pub(super) fn done(state: &State, id: BuildId) -> Result<Vec<Fact>, Refusal> {
    let build = publishing(state, id)?;
    if build.index.is_none() || build.open_tags().next().is_some() {
        return refuse(build, "a tag of it was not reported as moved");
    }
    if build.jobs.iter().all(|job| job.state.is_terminal()) {
        return Ok(vec![Fact::BuildEnded { build: id, state: build.good_end(), failure: None }]);
    }
    Ok(vec![Fact::BuildPublished { build: id }])
}

/// The publisher could not go on: again after a pause, or the end.
pub(super) fn failed(
    state: &State,
    id: BuildId,
    failure: Failure,
    retryable: bool,
) -> Result<Vec<Fact>, Refusal> {
    let build = publishing(state, id)?;
    Ok(publish_failed(build, failure, retryable))
}

/// What a failed try means for the build.
pub(in crate::core) fn publish_failed(build: &Build, failure: Failure, retryable: bool) -> Vec<Fact> {
    if retryable && build.publish_failures + 1 < limits::PUBLISH_TRIES {
        return vec![Fact::PublishTried { build: build.id, failure }];
    }
    vec![Fact::BuildEnding { build: build.id, state: BuildState::Failed, failure: Some(failure) }]
}

/// Tags that a build submitted later has moved, and that build.
fn left_alone<'a>(state: &'a State, build: &'a Build) -> impl Iterator<Item = (Reference, BuildId)> {
    build.open_tags().filter_map(|tag| Some((tag.clone(), state.ledger.newer(tag, build.place())?)))
}

fn publishing(state: &State, id: BuildId) -> Result<&Build, Refusal> {
    let build = state.ledger.build(id).ok_or(Refusal::UnknownBuild(id))?;
    if build.state.is_terminal() || build.ending.is_some() || !build.publishing {
        return refuse(build, "it is not its turn");
    }
    Ok(build)
}

fn refuse<T>(build: &Build, problem: &'static str) -> Result<T, Refusal> {
    Err(Refusal::NotPublishing { build: build.id, state: build.state, problem })
}
