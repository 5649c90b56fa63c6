//! Builds that begin to be: accepted, or restored from a snapshot.

use std::sync::Arc;

use archyard_model::{AttemptId, BuildId, BuildState, EventKind, JobState, Lock, Plan, Pool};

use crate::core::build::{Build, Job};
use crate::core::heritage::Heritage;
use crate::core::input::Moment;
use crate::core::ledger::{Header, RequestKey};
use crate::core::state::State;
use crate::core::timers::Timer;

pub(super) fn accepted(
    state: &mut State,
    moment: Moment,
    id: BuildId,
    request: RequestKey,
    plan: &Arc<Plan>,
    pool: Pool,
    heritage: Option<&Heritage>,
) {
    let sequence = state.ledger.header.next_sequence;
    state.ledger.header.next_sequence += 1;
    let mut build = Build {
        id,
        request_id: request.1,
        principal: request.0,
        plan: Arc::clone(plan),
        pool,
        accepted_ms: moment.wall_ms,
        sequence,
        tag_sequence: sequence,
        moves: plan.published_tags(id).into(),
        state: BuildState::Waiting,
        waiting: Some("lock".to_owned()),
        lacks_context: false,
        lock: None,
        jobs: plan.platforms.iter().cloned().map(Job::new).collect(),
        ending: None,
        publishing: false,
        published: false,
        publish_failures: 0,
        index: None,
        tags: Vec::new(),
        failure: None,
        ended_ms: None,
        events: Vec::new(),
        origin: None,
        promotion: None,
    };
    let principal = build.principal.clone();
    build.say(moment.wall_ms, EventKind::Accepted { principal });
    if let Some(heritage) = heritage {
        inherit(&mut build, moment, heritage);
    }
    insert(state, moment, build);
}

fn inherit(build: &mut Build, moment: Moment, heritage: &Heritage) {
    build.origin = Some(heritage.origin);
    build.tag_sequence = heritage.tag_sequence.unwrap_or(build.sequence);
    build.promotion.clone_from(&heritage.promotion);
    if let Some(published) = &heritage.published {
        build.published = true;
        build.index = Some(published.index);
        build.tags.clone_from(&published.tags);
    }
    if let Some(lock) = &heritage.lock {
        build.lock = Some(Arc::clone(lock));
        build.state = BuildState::Running;
        build.waiting = None;
        build.say(moment.wall_ms, EventKind::Locked { lock: Lock::clone(lock) });
    }
    for (index, carried) in &heritage.jobs {
        let Some(job) = build.jobs.get_mut(usize::from(*index)) else { continue };
        job.state = JobState::Succeeded;
        job.carried = true;
        job.cross.clone_from(&carried.cross);
        job.result = Some(carried.image.clone());
        let result = job.result.clone();
        let kind = EventKind::JobEnded { job: *index, state: JobState::Succeeded, result, failure: None };
        build.say(moment.wall_ms, kind);
    }
}

pub(super) fn restored(state: &mut State, moment: Moment, build: &Build) {
    insert(state, moment, build.clone());
    for (job, held) in build.jobs() {
        let Some(current) = held.current() else { continue };
        let attempt = AttemptId { job, token: current.token };
        super::attempts::occupy(state, moment, attempt, &current.worker);
        if held.stopping {
            state.set_timer(Timer::Stop(attempt), moment.since_start + state.live.times.lease);
        }
        if held.state == JobState::Running {
            state.live.timers.clear(&Timer::Answer(attempt));
        }
    }
}

pub(super) fn header_restored(state: &mut State, header: &Header) {
    let ledger = &mut state.ledger;
    ledger.header = header.clone();
    // Builds that claim some of them follow.
    ledger.unclaimed = header.moved.iter().map(|(tag, (place, _))| (*place, tag.clone())).collect();
    for (request, build) in &header.archived {
        ledger.requests.insert(request.clone(), *build);
    }
}

fn insert(state: &mut State, moment: Moment, build: Build) {
    let id = build.id;
    let ledger = &mut state.ledger;
    ledger.requests.insert((build.principal.clone(), build.request_id.clone()), id);
    if !build.state.is_terminal() {
        ledger.active += 1;
    }
    if build.claims_tags() {
        ledger.claim(&build);
        if build.publishing {
            state.live.turns.begin(&build.moves, build.place(), id);
        }
    }
    ledger.builds.insert(id, build);
    state.refresh(id, moment.since_start);
}
