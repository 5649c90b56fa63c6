//! WatchBuild: a build's events from any number on, whether it runs or ended long ago.

use std::sync::Arc;

use archyard_model::convert::event_to_proto;
use archyard_model::{BuildEvent, BuildId};
use archyard_proto::v1 as proto;
use tonic::Status;

use super::Shared;
use super::status::IntoStatus;
use super::stream::{Gone, Sink, Stream, fed_by};
use crate::driver::Events;

/// Events that wait for a slow watcher.
const DEPTH: usize = 64;

/// Where a build's next events come from.
enum Source {
    /// The driver has it.
    Running(Events),
    /// Its record is kept: these are all.
    Ended(Vec<proto::BuildEvent>),
}

/// Starts watching; NOT_FOUND at once for a build nobody knows.
pub(super) async fn watch(
    shared: &Shared,
    build: BuildId,
    after: u64,
) -> Result<Stream<proto::BuildEvent>, Status> {
    let first = next(shared, build, after).await?;
    let watcher = shared.clone();
    Ok(fed_by(shared, DEPTH, |sink| async move { follow(&watcher, build, after, first, &sink).await }))
}

async fn next(shared: &Shared, build: BuildId, after: u64) -> Result<Source, Status> {
    if let Some(events) = shared.driver.events(build, after).await.map_err(IntoStatus::into_status)? {
        return Ok(Source::Running(events));
    }
    let views = Arc::clone(&shared.views);
    match shared.blocking(move || views.events(build, after)).await? {
        Some(events) => Ok(Source::Ended(events)),
        None => Err(shared.no_build(build)),
    }
}

async fn follow(
    shared: &Shared,
    build: BuildId,
    mut after: u64,
    mut source: Source,
    sink: &Sink<proto::BuildEvent>,
) -> Result<(), Gone> {
    loop {
        match source {
            Source::Running(events) => {
                after = send(&events.batch, after, sink).await?;
                if events.ended {
                    return Ok(());
                }
                wait(events, after).await;
            }
            Source::Ended(events) => {
                for event in events {
                    sink.send(event).await?;
                }
                return Ok(());
            }
        }
        source = match next(shared, build, after).await {
            Ok(source) => source,
            Err(status) => return sink.fail(status).await,
        };
    }
}

async fn send(batch: &[BuildEvent], mut after: u64, sink: &Sink<proto::BuildEvent>) -> Result<u64, Gone> {
    for event in batch {
        sink.send(event_to_proto(event)).await?;
        after = event.seq;
    }
    Ok(after)
}

/// Until there is an event past `after`, or the build is archived.
async fn wait(mut events: Events, after: u64) {
    // Closed: it was archived, or the scheduler stops; either shows when the caller asks again.
    if events.changed.wait_for(|seq| *seq > after).await.is_err() {
        tokio::task::yield_now().await;
    }
}
