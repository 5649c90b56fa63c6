//! One worker on the live floor.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use archyard_model::{AttemptId, WorkerName, WorkerOffer};

use super::classes::{ClassKey, Free};
use super::input::ConnectionId;

/// A worker that is connected, was lately, or that the ledger says has attempts.
#[derive(Debug, Clone, Default)]
pub struct Worker {
    /// What it said of itself; none as long as only the ledger speaks of it.
    pub offer: Option<Arc<WorkerOffer>>,
    /// Its stream, while that is up.
    pub connection: Option<ConnectionId>,
    /// When the stream came up, in milliseconds since the epoch.
    pub connected_ms: u64,
    /// When it was last heard, since the start.
    pub heard: Duration,
    /// Silent for a whole lease.
    pub lost: bool,
    /// Its Engine's trouble.
    pub problem: Option<String>,
    /// Its own wish for no new lease.
    pub wish: bool,
    /// Leases it declined in a row.
    pub declined: u32,
    /// Heartbeats for which it gets no offer.
    pub skip: u32,
    /// What takes its slots, with how many heartbeats in a row did not name it.
    pub occupied: BTreeMap<AttemptId, u8>,
    /// The class it is a member of.
    pub class: Option<ClassKey>,
    /// Its place among the free workers of its class.
    pub free: Option<Free>,
}

impl Worker {
    /// Its place among free workers, if it may get a lease. `drained`: an operator's mark.
    pub fn placement(&self, name: &WorkerName, drained: bool) -> Option<Free> {
        let offer = self.offer.as_ref()?;
        let willing = self.connection.is_some()
            && !self.lost
            && !drained
            && !self.wish
            && self.problem.is_none()
            && self.skip == 0;
        let running = u32::try_from(self.occupied.len()).unwrap_or(u32::MAX);
        let free = offer.slots.saturating_sub(running);
        if !willing || free == 0 {
            return None;
        }
        let share = u64::from(free) * 1_000_000 / u64::from(offer.slots);
        Some(Free { share: Reverse(u32::try_from(share).unwrap_or(u32::MAX)), running, worker: name.clone() })
    }
}
