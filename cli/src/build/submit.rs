//! Hands a plan, whose blobs were uploaded, to the farm: once, however often it has to be said.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use archyard_model::convert;
use archyard_plan::Planned;
use archyard_proto::v1 as proto;
use tonic::{Code, Status};
use ulid::Ulid;

use crate::build::Updates;
use crate::build::credentials::Login;
use crate::build::retry::{BEFORE_SUBMISSION, persist};
use crate::build::upload::upload;
use crate::farm::Farm;
use crate::progress::Update;

/// Submits, and returns the build's id. The request's own id makes a repeated submission the same build.
pub(crate) async fn submit(
    farm: &Farm,
    planned: &Arc<Planned>,
    logins: &[Login],
    request_id: Ulid,
    updates: &Updates,
) -> Result<String> {
    let request = || proto::SubmitBuildRequest {
        request_id: request_id.to_string(),
        plan: Some(convert::plan_to_proto(&planned.plan)),
        credentials: logins.iter().map(Login::message).collect(),
    };
    let call = || {
        let (mut client, request) = (farm.builds(), request());
        async move { client.submit_build(request).await }
    };
    let answer = match persist(updates, Some(BEFORE_SUBMISSION), call).await {
        // A blob went away between the question and the plan: the farm cleans up.
        Err(status) if lacks_blobs(&status) => {
            upload(farm, planned, updates).await?;
            persist(updates, Some(BEFORE_SUBMISSION), call).await
        }
        answer => answer,
    };
    let build = answer.context("the build was refused")?.into_inner().build_id;
    updates.send(Update::Submitted { build: build.clone() }).await.ok();
    Ok(build)
}

fn lacks_blobs(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition
}
