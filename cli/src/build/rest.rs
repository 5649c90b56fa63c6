//! The rest of a context: a build that was submitted with what its Dockerfile reads may turn out to read more, because
//! of what its base images do. Its client then sends the whole context, and the build goes on with that.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use archyard_model::{Inputs, convert};
use archyard_plan::Planned;
use archyard_proto::v1 as proto;
use tokio::task::spawn_blocking;

use crate::build::Updates;
use crate::build::retry::{BEFORE_SUBMISSION, persist};
use crate::build::upload::{Cargo, upload};
use crate::farm::Farm;

/// Scans the whole source of a plan, uploads what the farm lacks of it, and gives it to the build.
///
/// # Errors
/// When a file cannot be read, or the farm does not take it.
pub(crate) async fn supply(
    farm: &Farm,
    build: &str,
    planned: &Arc<Planned>,
    updates: &Updates,
) -> Result<()> {
    let origin = planned.origin.clone();
    let scanned = spawn_blocking(move || origin.scan(&Inputs::Everything)).await;
    let cargo =
        Cargo { snapshot: Arc::new(scanned.context("reading the context broke off")??), dockerfile: None };
    upload(farm, &cargo, updates).await?;
    let request = proto::SupplyContextRequest {
        build_id: build.to_owned(),
        context: Some(convert::context_to_proto(&cargo.snapshot.reference)),
    };
    let answer = persist(updates, Some(BEFORE_SUBMISSION), || {
        let (mut client, request) = (farm.builds(), request.clone());
        async move { client.supply_context(request).await }
    });
    answer.await.map(drop).context("the build did not take its whole context")
}
