//! Answers from the committed state, and the watchers of builds.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use archyard_model::{AttemptId, BuildId, BuildRecord};
use tokio::sync::watch;

use super::handle::{AttemptStatus, Events, FarmCounts, Filter, Source, WorkerState, WorkerView};
use super::message::Query;
use crate::core::{Standing, Standings, State};

/// Whoever asked and has gone away is no loss.
pub(super) fn answer(state: &State, watchers: &mut BTreeMap<BuildId, watch::Sender<u64>>, query: Query) {
    match query {
        Query::Record { build, answer } => {
            drop(answer.send(state.ledger.build(build).map(crate::core::Build::record)));
        }
        Query::Standing { build, answer } => {
            let build = state.ledger.build(build);
            drop(answer.send(build.map(|build| (build.record(), Standings::new(state).of(build)))));
        }
        Query::Events { build, after, answer } => drop(answer.send(events(state, watchers, build, after))),
        Query::List { filter, answer } => drop(answer.send(list(state, &filter))),
        Query::Workers { answer } => drop(answer.send(workers(state))),
        Query::Counts { answer } => drop(answer.send(counts(state))),
        Query::Attempt { attempt, answer } => drop(answer.send(status(state, attempt))),
        Query::Sources { after, limit, answer } => drop(answer.send(sources(state, after, limit))),
    }
}

/// Wakes a build's watchers; forgets a build that nobody watches any more.
pub(super) fn notify(watchers: &mut BTreeMap<BuildId, watch::Sender<u64>>, build: BuildId, events: u64) {
    let Some(watcher) = watchers.get(&build) else { return };
    if watcher.receiver_count() == 0 {
        watchers.remove(&build);
    } else {
        watcher.send_replace(events);
    }
}

fn events(
    state: &State,
    watchers: &mut BTreeMap<BuildId, watch::Sender<u64>>,
    id: BuildId,
    after: u64,
) -> Option<Events> {
    let build = state.ledger.build(id)?;
    // Numbers have no gaps, so a number is a position.
    let from = usize::try_from(after).unwrap_or(usize::MAX).min(build.events.len());
    let last = build.last_seq();
    let changed = watchers.entry(id).or_insert_with(|| watch::Sender::new(last)).subscribe();
    Some(Events { batch: build.events[from..].to_vec(), ended: build.state.is_terminal(), changed })
}

fn list(state: &State, filter: &Filter) -> Vec<(BuildRecord, Standing)> {
    let mut standings = Standings::new(state);
    let before = filter.before.map_or(Bound::Unbounded, Bound::Excluded);
    let builds: Vec<_> = state
        .ledger
        .builds
        .range((Bound::Unbounded, before))
        .rev()
        .map(|(_, build)| build)
        .filter(|build| filter.project.as_ref().is_none_or(|project| *project == build.plan.project))
        .filter(|build| filter.states.is_empty() || filter.states.contains(&standings.state_of(build)))
        .take(filter.limit)
        .collect();
    builds.into_iter().map(|build| (build.record(), standings.of(build))).collect()
}

fn sources(state: &State, after: Option<BuildId>, limit: usize) -> Vec<Source> {
    let after = after.map_or(Bound::Unbounded, Bound::Excluded);
    let source = |(build, held): (&BuildId, &crate::core::Build)| Source {
        build: *build,
        project: held.plan.project.clone(),
        manifest: held.plan.context.manifest_digest,
        dockerfile: held.plan.dockerfile,
    };
    state.ledger.builds.range((after, Bound::Unbounded)).take(limit).map(source).collect()
}

fn workers(state: &State) -> Vec<WorkerView> {
    let view = |(name, worker): (&_, &crate::core::worker::Worker)| {
        let offer = Arc::clone(worker.offer.as_ref()?);
        let standing = if worker.lost {
            WorkerState::Lost
        } else if worker.wish || state.ledger.drained.contains_key(name) {
            WorkerState::Draining
        } else {
            WorkerState::Ready
        };
        Some(WorkerView {
            offer,
            state: standing,
            used_slots: u32::try_from(worker.occupied.len()).unwrap_or(u32::MAX),
            running: worker.occupied.keys().copied().collect(),
            problem: worker.problem.clone(),
            connected_ms: worker.connected_ms,
        })
    };
    state.live.workers.iter().filter_map(view).collect()
}

fn counts(state: &State) -> FarmCounts {
    FarmCounts {
        queued_jobs: u64::try_from(state.live.lines.count()).unwrap_or(u64::MAX),
        running_jobs: state.live.running,
        active_builds: u64::try_from(state.ledger.active).unwrap_or(u64::MAX),
    }
}

fn status(state: &State, id: AttemptId) -> Option<AttemptStatus> {
    let job = state.ledger.job(id.job)?;
    let attempt = job.attempts.iter().find(|attempt| attempt.token == id.token)?;
    let ended = attempt.ended_ms.is_some();
    Some(AttemptStatus {
        worker: attempt.worker.clone(),
        latest: job.attempts.last().is_some_and(|last| last.token == id.token),
        ended,
        log_bytes: (ended && attempt.log_bytes > 0).then_some(attempt.log_bytes),
    })
}
