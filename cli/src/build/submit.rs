//! Hands a plan to the farm: once, however often it has to be said.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use archyard_model::convert;
use archyard_plan::Planned;
use archyard_proto::v1 as proto;
use tonic::{Code, Response, Status};
use ulid::Ulid;

use crate::build::Updates;
use crate::build::credentials::Login;
use crate::build::retry::{BEFORE_SUBMISSION, persist};
use crate::build::upload::{Cargo, upload};
use crate::farm::Farm;
use crate::progress::Update;
use crate::status::is_transient;

/// A plan on its way to the farm. Its own id makes a repeated submission the same build.
pub(crate) struct Submission<'a> {
    farm: &'a Farm,
    planned: &'a Arc<Planned>,
    logins: &'a [Login],
    updates: &'a Updates,
    request_id: Ulid,
}

impl<'a> Submission<'a> {
    pub(crate) fn new(
        farm: &'a Farm,
        planned: &'a Arc<Planned>,
        logins: &'a [Login],
        updates: &'a Updates,
    ) -> Self {
        Self { farm, planned, logins, updates, request_id: Ulid::new() }
    }

    /// Submits without an upload first: the farm has every blob when nothing changed. None: it lacks one, or did not
    /// answer; then upload first.
    pub(crate) async fn without_upload(&self) -> Result<Option<String>> {
        match self.call().await {
            Ok(answer) => Ok(Some(self.submitted(answer.into_inner()).await)),
            Err(status) if lacks_blobs(&status) || is_transient(&status) => Ok(None),
            Err(status) => Err(status).context(REFUSED),
        }
    }

    /// Submits after an upload, and returns the build's id.
    pub(crate) async fn after_upload(&self) -> Result<String> {
        let answer = match persist(self.updates, Some(BEFORE_SUBMISSION), || self.call()).await {
            // A blob went away between the question and the plan: the farm cleans up.
            Err(status) if lacks_blobs(&status) => {
                upload(self.farm, &Cargo::of(self.planned), self.updates).await?;
                persist(self.updates, Some(BEFORE_SUBMISSION), || self.call()).await
            }
            answer => answer,
        };
        Ok(self.submitted(answer.context(REFUSED)?.into_inner()).await)
    }

    async fn call(&self) -> Result<Response<proto::SubmitBuildResponse>, Status> {
        let request = proto::SubmitBuildRequest {
            request_id: self.request_id.to_string(),
            plan: Some(convert::plan_to_proto(&self.planned.plan)),
            credentials: self.logins.iter().map(Login::message).collect(),
        };
        self.farm.builds().submit_build(request).await
    }

    async fn submitted(&self, answer: proto::SubmitBuildResponse) -> String {
        let build = answer.build_id;
        self.updates.send(Update::Submitted { build: build.clone() }).await.ok();
        build
    }
}

const REFUSED: &str = "the build was refused";

fn lacks_blobs(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition
}
