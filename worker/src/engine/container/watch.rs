//! How much a container has written into its root.
//!
//! The Engine counts whenever it is asked; it has no limit of its own for this on ordinary disks.

use std::time::Duration;

use archyard_model::limits;
use bollard::Docker;
use bollard::query_parameters::InspectContainerOptionsBuilder;
use tokio::time::{sleep, timeout};

/// Between two looks: what a disk takes in that time may be too much.
const INTERVAL: Duration = Duration::from_millis(250);
/// With so many files that counting them takes longer there are too many.
const COUNTING: Duration = Duration::from_secs(10);

/// Until the container has written too much.
pub(super) async fn filled(api: &Docker, name: &str) {
    loop {
        sleep(INTERVAL).await;
        let options = InspectContainerOptionsBuilder::new().size(true).build();
        match timeout(COUNTING, api.inspect_container(name, Some(options))).await {
            Ok(Ok(seen)) if seen.size_rw.is_some_and(is_too_much) => return,
            Ok(Ok(_)) => {}
            // Whoever waits for its end hears why.
            Ok(Err(error)) => tracing::debug!(container = name, %error, "cannot be measured"),
            Err(_) => return,
        }
    }
}

/// Whether it may not have written this many bytes.
pub(super) fn is_too_much(bytes: i64) -> bool {
    u64::try_from(bytes).is_ok_and(|bytes| bytes >= limits::SMOKE_DISK_BYTES)
}
