//! BuildService: submit, ask, cancel. Lists, watching and logs have files of their own.

use std::sync::Arc;
use std::time::Duration;

use archyard_model::convert::{
    build_state_to_proto, context_from_proto, plan_from_proto, time_from_proto, time_to_proto,
};
use archyard_model::{BuildId, Invalid, Plan, Pool, Principal, RequestId, limits, proxy};
use archyard_proto::v1 as proto;
use prost::Message as _;
use proto::build_service_server::BuildService;
use tonic::{Request, Response, Status, async_trait};

use super::shared::caller;
use super::status::{IntoStatus, stopping};
use super::stream::Stream;
use super::{Shared, carry, list, logs, standing, watch};
use crate::blobs::Claim;
use crate::core::Refusal;
use crate::credentials::Set;
use crate::driver::{self, NewBuild, Submitted};

/// How long a submission waits for its lock: what is there by then is journaled with it at once, and what is not is
/// waited for by the build.
const AHEAD: Duration = Duration::from_millis(20);

#[async_trait]
impl BuildService for Shared {
    type WatchBuildStream = Stream<proto::BuildEvent>;
    type ReadLogStream = Stream<proto::LogChunk>;

    async fn submit_build(
        &self,
        request: Request<proto::SubmitBuildRequest>,
    ) -> Result<Response<proto::SubmitBuildResponse>, Status> {
        let principal = caller(&request)?;
        let message = request.into_inner();
        let (mut build, set) = read_submission(principal, message).map_err(IntoStatus::into_status)?;
        let (blobs, plan) = (Arc::clone(&self.blobs), Arc::clone(&build.plan));
        let source = self.blocking(move || blobs.claim_plan(&plan)).await?;
        self.resolve_ahead(&build.plan);
        build.lock = self.ahead.lock_within(&build.plan, AHEAD).await;
        accept(self, build, set, Some(source)).await
    }

    async fn get_build(
        &self,
        request: Request<proto::GetBuildRequest>,
    ) -> Result<Response<proto::GetBuildResponse>, Status> {
        let id = build_id(&request.get_ref().build_id)?;
        let mut build = self.record(id).await?.ok_or_else(|| self.no_build(id))?;
        mask_proxies(&mut build);
        let artifacts = Arc::clone(&self.artifacts);
        let artifacts_kept = self.blocking(move || Ok::<_, Status>(artifacts.keeps(id))).await?;
        let ended = time_from_proto("ended_at", build.ended_at).ok().filter(|_| artifacts_kept);
        let until = ended.and_then(|ended| ended.checked_add(self.artifacts.kept()).ok());
        let artifacts_until = until.map(time_to_proto);
        Ok(Response::new(proto::GetBuildResponse { build: Some(build), artifacts_kept, artifacts_until }))
    }

    async fn list_builds(
        &self,
        request: Request<proto::ListBuildsRequest>,
    ) -> Result<Response<proto::ListBuildsResponse>, Status> {
        list::list(self, request.into_inner()).await.map(Response::new)
    }

    async fn watch_build(
        &self,
        request: Request<proto::WatchBuildRequest>,
    ) -> Result<Response<Self::WatchBuildStream>, Status> {
        let message = request.into_inner();
        let id = build_id(&message.build_id)?;
        watch::watch(self, id, message.after_seq).await.map(Response::new)
    }

    async fn read_log(
        &self,
        request: Request<proto::ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        logs::read(self, request.into_inner()).await.map(Response::new)
    }

    async fn cancel_build(
        &self,
        request: Request<proto::CancelBuildRequest>,
    ) -> Result<Response<proto::CancelBuildResponse>, Status> {
        let principal = caller(&request)?;
        let message = request.into_inner();
        let id = build_id(&message.build_id)?;
        if message.reason.len() > limits::REASON_BYTES {
            let problem = format!("a reason has at most {} bytes", limits::REASON_BYTES);
            return Err(Invalid::new("reason", message.reason, problem).into_status());
        }
        match self.driver.cancel(id, principal.clone(), message.reason).await {
            Ok(state) => {
                tracing::info!(build = %id, %principal, %state, "cancel requested");
                Ok(Response::new(proto::CancelBuildResponse { state: build_state_to_proto(state).into() }))
            }
            Err(driver::Error::Refused(Refusal::UnknownBuild(_))) => Err(self.too_late(id).await?),
            Err(error) => Err(error.into_status()),
        }
    }

    async fn attach_build(
        &self,
        request: Request<proto::AttachBuildRequest>,
    ) -> Result<Response<proto::AttachBuildResponse>, Status> {
        let message = request.into_inner();
        let id = build_id(&message.build_id)?;
        let set = Set::from_proto(message.credentials).map_err(IntoStatus::into_status)?;
        let Some(record) = self.driver.record(id).await.map_err(IntoStatus::into_status)? else {
            return Err(self.too_late(id).await?);
        };
        if let Some(host) = set.lacks(&record.plan) {
            let problem = "the build needs a credential of this registry; docker login it, and attach again";
            return Err(Invalid::new("credentials", host, problem).into_status());
        }
        self.credentials.put(id, set);
        match supply(self, id).await {
            Ok(()) => Ok(Response::new(proto::AttachBuildResponse {})),
            Err(driver::Error::Refused(Refusal::UnknownBuild(_))) => Err(self.too_late(id).await?),
            Err(error) => Err(error.into_status()),
        }
    }

    async fn supply_context(
        &self,
        request: Request<proto::SupplyContextRequest>,
    ) -> Result<Response<proto::SupplyContextResponse>, Status> {
        let message = request.into_inner();
        let id = build_id(&message.build_id)?;
        let context = context_from_proto("context", message.context).map_err(IntoStatus::into_status)?;
        if context.partial {
            let problem = "it is a part of the source; send the whole";
            return Err(Invalid::new("context.partial", true, problem).into_status());
        }
        let (blobs, whole) = (Arc::clone(&self.blobs), context.clone());
        // Held until the build is known to need it.
        let _source = self.blocking(move || blobs.claim_context(&whole)).await?;
        match self.driver.supply_context(id, context).await {
            Ok(()) => Ok(Response::new(proto::SupplyContextResponse {})),
            Err(driver::Error::Refused(Refusal::UnknownBuild(_))) => Err(self.too_late(id).await?),
            Err(error) => Err(error.into_status()),
        }
    }

    async fn rerun_build(
        &self,
        request: Request<proto::RerunBuildRequest>,
    ) -> Result<Response<proto::SubmitBuildResponse>, Status> {
        let principal = caller(&request)?;
        carry::rerun(self, principal, request.into_inner()).await
    }

    async fn promote_build(
        &self,
        request: Request<proto::PromoteBuildRequest>,
    ) -> Result<Response<proto::SubmitBuildResponse>, Status> {
        let principal = caller(&request)?;
        carry::promote(self, principal, request.into_inner()).await
    }
}

/// A record is for everybody who may look at the build; a proxy's password is for the workers alone.
fn mask_proxies(record: &mut proto::BuildRecord) {
    let arguments = record.plan.iter_mut().flat_map(|plan| &mut plan.build_args);
    for (_, value) in arguments.filter(|(name, _)| proxy::is_argument(name)) {
        *value = proxy::masked(value).into_owned();
    }
}

impl Shared {
    /// Registries are asked while the journal is written: both take about as long.
    fn resolve_ahead(&self, plan: &Arc<Plan>) {
        match self.registries.of(plan, Arc::default()) {
            Ok(registry) => self.ahead.begin(registry, plan, self.lock_patience),
            Err(error) => tracing::debug!(%error, "not resolved ahead"),
        }
    }

    /// What is known of a build, running or ended.
    pub(super) async fn record(&self, id: BuildId) -> Result<Option<proto::BuildRecord>, Status> {
        // The driver first: a build is in the views before the driver forgets it.
        if let Some((record, stands)) = self.driver.standing(id).await.map_err(IntoStatus::into_status)? {
            return Ok(Some(standing::record(&record, &stands)));
        }
        let views = Arc::clone(&self.views);
        self.blocking(move || views.record(id)).await
    }

    /// Why nothing can be done to a build that the driver does not have.
    async fn too_late(&self, id: BuildId) -> Result<Status, Status> {
        let views = Arc::clone(&self.views);
        let record = self.blocking(move || views.record(id)).await?;
        let Some(record) = record else { return Ok(self.no_build(id)) };
        let state = archyard_model::convert::build_state_from_proto(record.state());
        let state = state.map_or_else(|_| "over".to_owned(), |state| state.to_string());
        Ok(Status::failed_precondition(format!("build {id} is {state}; nothing more can be done to it")))
    }
}

/// A build's id in a request.
pub(super) fn build_id(text: &str) -> Result<BuildId, Status> {
    text.parse().map_err(|error: Invalid| error.into_status())
}

fn read_submission(
    principal: Principal,
    message: proto::SubmitBuildRequest,
) -> Result<(NewBuild, Set), Invalid> {
    let request_id: RequestId = message.request_id.parse()?;
    let plan = message.plan.ok_or_else(|| Invalid::new("plan", "", "it is missing"))?;
    let bytes = plan.encoded_len();
    if bytes > limits::PLAN_BYTES {
        let problem = format!("a plan has at most {} bytes; name fewer things", limits::PLAN_BYTES);
        return Err(Invalid::new("plan", format!("{bytes} bytes"), problem));
    }
    let plan = Arc::new(plan_from_proto(plan)?);
    let set = Set::from_proto(message.credentials)?;
    // Who may use which pool comes with roles; until then everybody here is trusted.
    Ok((NewBuild { request_id, principal, plan, pool: Pool::Trusted, heritage: None, lock: None }, set))
}

/// Hands a build in, in a task of its own: a client that leaves must not part a build from its credentials. Nothing of
/// its source is removed before the core knows the build.
pub(super) async fn accept(
    shared: &Shared,
    build: NewBuild,
    set: Set,
    source: Option<Claim>,
) -> Result<Response<proto::SubmitBuildResponse>, Status> {
    let submitting = {
        let shared = shared.clone();
        shared.tasks.clone().spawn(async move {
            let submitted = submit(&shared, build, set).await;
            drop(source);
            submitted
        })
    };
    let submitted = submitting.await.map_err(|_| stopping())?.map_err(IntoStatus::into_status)?;
    tracing::info!(build = %submitted.build, existing = submitted.existing, "build accepted");
    Ok(Response::new(proto::SubmitBuildResponse {
        build_id: submitted.build.to_string(),
        existing: submitted.existing,
    }))
}

/// Says that a build's credentials are in memory again. If it has ended meanwhile they are wiped: nobody else would.
async fn supply(shared: &Shared, build: BuildId) -> Result<(), driver::Error> {
    let answer = shared.driver.supply_credentials(build).await;
    if answer.is_err() {
        let known = shared.driver.record(build).await?;
        if known.is_none_or(|record| record.state.is_terminal()) {
            shared.credentials.forget(build);
        }
    }
    match answer {
        // It had them, or does not need them any more.
        Err(driver::Error::Refused(Refusal::Late(_))) => Ok(()),
        answer => answer,
    }
}

async fn submit(shared: &Shared, build: NewBuild, set: Set) -> Result<Submitted, driver::Error> {
    let (principal, request) = (build.principal.clone(), build.request_id.clone());
    let complete = set.lacks(&build.plan).is_none();
    let wanted = complete && !build.plan.credential_hosts.is_empty();
    if wanted {
        shared.credentials.stage(&principal, &request, set);
    }
    let plan = Arc::clone(&build.plan);
    // One that takes over its lock may go on before its credentials are bound to it: it waits for them.
    let inherits = build.heritage.is_some();
    let submitted = shared.driver.submit(build, complete && !inherits).await;
    if !submitted.as_ref().is_ok_and(|submitted| !submitted.existing) {
        shared.ahead.forget(&plan);
    }
    match &submitted {
        Ok(Submitted { build, existing }) if wanted => {
            shared.credentials.bind(&principal, &request, *build);
            if *existing || inherits {
                supply(shared, *build).await.unwrap_or_else(
                    |error| tracing::debug!(%build, %error, "a submission's credentials came too late"),
                );
            }
        }
        _ => shared.credentials.unstage(&principal, &request),
    }
    submitted
}
