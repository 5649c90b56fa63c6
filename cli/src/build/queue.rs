//! Asks where a build's jobs are in their queues, as long as any waits.
//!
//! No event says so: a place changes whenever another build does. So it is asked for, less and less often, and a build
//! whose jobs start at once is never asked about.

use std::convert::Infallible;
use std::time::Duration;

use archyard_proto::v1 as proto;

use crate::build::Updates;
use crate::farm::Farm;
use crate::progress::{Update, clean};
use crate::view::Queue;

/// The first question comes after this; each later one after twice as long, up to the last.
const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(15);

/// Tells every change; never returns.
pub(super) async fn tell(farm: &Farm, build: &str, updates: &Updates) -> Infallible {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST);
        let request = proto::GetBuildRequest { build_id: build.to_owned() };
        // A farm that is away is asked again later.
        let Ok(answer) = farm.builds().get_build(request).await else { continue };
        let Some(record) = answer.into_inner().build else { continue };
        let waits = |job: &proto::JobRecord| job.state() == proto::JobState::Queued;
        if !record.jobs.iter().any(waits) {
            return std::future::pending().await;
        }
        let places = record.jobs.into_iter().map(place).collect();
        updates.send(Update::Queued(places)).await.ok();
    }
}

/// What a job waits for, in words.
fn place(job: proto::JobRecord) -> Option<String> {
    if let Some(queue) = job.queue {
        return Some(clean(format!("queued: {}", Queue::from(queue).describe()).as_bytes()));
    }
    let waits = job.state() == proto::JobState::Queued && !job.waiting_reason.is_empty();
    waits.then(|| clean(format!("waiting: {}", job.waiting_reason).as_bytes()))
}
