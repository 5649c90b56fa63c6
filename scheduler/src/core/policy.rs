//! The core's own numbers; what operators and users must know is in `archyard_model::limits`.

use std::time::Duration;

use archyard_model::limits;

/// Leases of one job that came to nothing (declined, unanswered, undelivered) before the job fails.
pub const IDLE_LEASES: u32 = 20;
/// Heartbeats a worker that declines again and again is left alone for, at most.
pub const DECLINED_SKIP_MAX: u32 = 16;
/// Heartbeats in a row that do not name an attempt before its slot counts as free.
pub const MISSED_HEARTBEATS: u8 = 3;
/// Silence of whoever resolves the bases, after which it is asked again.
pub const LOCK_SILENCE: Duration = Duration::from_secs(2 * limits::LOCK_TIMEOUT.as_secs());
/// How often it is asked.
pub const LOCK_TRIES: u32 = 3;
/// Silence of the publisher, after which the try counts as failed.
const PUBLISH_SILENCE: Duration = Duration::from_secs(5 * 60);
/// What it is given less, so that it has ended before it is given up.
const PUBLISH_MARGIN: Duration = Duration::from_secs(60);
/// The first pause before publishing is tried again; each later one is twice as long, up to the last.
pub const PUBLISH_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
pub const PUBLISH_PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long listings show a lost worker.
pub const LOST_KEPT: Duration = Duration::from_secs(60 * 60);
/// Requests of archived builds that are remembered.
pub const ARCHIVED_REQUESTS: usize = 65_536;
/// Project and platform pairs whose last worker is remembered.
pub const WARM_HINTS: usize = 65_536;
/// Jobs of one platform that are spoken of in one consequence.
pub const BURST: usize = 64;

/// Silence of the publisher, after which the try counts as failed. A promotion may have to bring blobs of any size.
pub fn publish_silence(is_promotion: bool) -> Duration {
    if is_promotion { limits::PROMOTE_TIME + PUBLISH_MARGIN } else { PUBLISH_SILENCE }
}

/// How long one try at publishing may take, from its order on.
pub fn publish_patience(is_promotion: bool) -> Duration {
    publish_silence(is_promotion).saturating_sub(PUBLISH_MARGIN)
}

/// The pause after this many failed tries.
pub fn publish_pause(failures: u32) -> Duration {
    PUBLISH_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PUBLISH_PAUSE_MAX)
}
