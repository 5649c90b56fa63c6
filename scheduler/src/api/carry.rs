//! Builds that start from another one: reruns and promotions.
//!
//! Which builds may be started from, and what is taken over, is the core's to say. Here the other build's record is
//! found, what it left is looked for, and the new build is handed in like any other.

use std::sync::Arc;

use archyard_model::convert::record_from_proto;
use archyard_model::plan::promotion_registries;
use archyard_model::{
    Artifact, Blake3, BuildId, BuildRecord, Invalid, Plan, Pool, Principal, Reference, limits,
};
use archyard_proto::v1 as proto;
use tonic::{Response, Status};

use super::Shared;
use super::builds::{accept, build_id};
use super::status::IntoStatus;
use crate::blobs;
use crate::core::Heritage;
use crate::credentials::Set;
use crate::driver::NewBuild;

/// Builds again what did not succeed in an ended build.
pub(super) async fn rerun(
    shared: &Shared,
    principal: Principal,
    message: proto::RerunBuildRequest,
) -> Result<Response<proto::SubmitBuildResponse>, Status> {
    let request_id = message.request_id.parse().map_err(|error: Invalid| error.into_status())?;
    let id = build_id(&message.build_id)?;
    let set = Set::from_proto(message.credentials).map_err(IntoStatus::into_status)?;
    let record = origin(shared, id).await?;
    let kept = kept(shared, &record).await?;
    let keeps = |job: &archyard_model::JobRecord| {
        job.result.as_ref().is_some_and(|image| blobs_of(&image.artifacts).all(|blob| kept.contains(&blob)))
    };
    let heritage = Heritage::of_rerun(&record, keeps).map_err(IntoStatus::into_status)?;
    let carried: Vec<Blake3> =
        heritage.jobs.values().flat_map(|job| blobs_of(&job.image.artifacts)).collect();
    let plan = Arc::new(record.plan);
    let source = match heritage.jobs.len() < plan.platforms.len() {
        true => Some(claim_context(shared, id, &plan).await?),
        false => None,
    };
    let build = NewBuild {
        request_id,
        principal,
        plan,
        pool: Pool::Trusted,
        heritage: Some(Arc::new(heritage)),
        lock: None,
    };
    let accepted = accept(shared, build, set, source).await?;
    hold(shared, &accepted.get_ref().build_id, carried).await?;
    Ok(accepted)
}

/// Gives a candidate's very digests other tags.
pub(super) async fn promote(
    shared: &Shared,
    principal: Principal,
    message: proto::PromoteBuildRequest,
) -> Result<Response<proto::SubmitBuildResponse>, Status> {
    let request_id = message.request_id.parse().map_err(|error: Invalid| error.into_status())?;
    let id = build_id(&message.build_id)?;
    let set = Set::from_proto(message.credentials).map_err(IntoStatus::into_status)?;
    let tags = tags(&message.tags).map_err(IntoStatus::into_status)?;
    let record = origin(shared, id).await?;
    let (heritage, mut plan) = Heritage::of_promotion(&record, tags).map_err(IntoStatus::into_status)?;
    if plan.tags.is_empty() {
        let problem = format!("candidate {id} was built without tags; say which it gets: -t NAME:TAG");
        return Err(Invalid::new("tags", "", problem).into_status());
    }
    let staging = heritage.promotion.as_ref().map(|promotion| promotion.staging.as_str());
    let touched = promotion_registries(&plan.tags, staging);
    plan.credential_hosts.retain(|host| touched.contains(host.as_str()));
    add("credential_hosts", &mut plan.credential_hosts, message.credential_hosts)?;
    add("insecure_registries", &mut plan.insecure_registries, message.insecure_registries)?;
    let heritage = Some(Arc::new(heritage));
    let build =
        NewBuild { request_id, principal, plan: Arc::new(plan), pool: Pool::Trusted, heritage, lock: None };
    accept(shared, build, set, None).await
}

/// What is known of the build that another one is to start from.
async fn origin(shared: &Shared, id: BuildId) -> Result<BuildRecord, Status> {
    let record = shared.record(id).await?.ok_or_else(|| shared.no_build(id))?;
    record_from_proto(record).map_err(|error| {
        Status::failed_precondition(format!(
            "build {id} was recorded by a version that knew other rules ({error}); `archyard build` starts anew"
        ))
    })
}

/// Claims what the jobs that are built again will ask for, if the scheduler still has it.
async fn claim_context(shared: &Shared, id: BuildId, plan: &Arc<Plan>) -> Result<blobs::Claim, Status> {
    let (blobs, plan) = (Arc::clone(&shared.blobs), Arc::clone(plan));
    let checked = tokio::task::spawn_blocking(move || blobs.claim_plan(&plan)).await;
    match checked.map_err(|_| super::status::stopping())? {
        Err(blobs::Error::Missing { first, count }) => Err(Status::failed_precondition(format!(
            "build {id} cannot be built again: {count} files of its context are not here any more, the first is \
             {first}; retention removes contexts that were not used for a while: start a new build with \
             `archyard build`"
        ))),
        checked => checked.map_err(IntoStatus::into_status),
    }
}

/// Which of the blobs that a build left for its client are still here.
async fn kept(shared: &Shared, record: &BuildRecord) -> Result<Vec<Blake3>, Status> {
    let results = record.jobs.iter().filter_map(|job| job.result.as_ref());
    let blobs: Vec<Blake3> = results.flat_map(|image| blobs_of(&image.artifacts)).collect();
    if blobs.is_empty() {
        return Ok(blobs);
    }
    let (artifacts, build, asked) = (Arc::clone(&shared.artifacts), record.id, blobs.clone());
    let missing = shared.blocking(move || artifacts.missing(build, &asked)).await?;
    Ok(blobs.into_iter().filter(|blob| !missing.contains(blob)).collect())
}

/// What was taken over stays for as long as the new build's own.
async fn hold(shared: &Shared, build: &str, blobs: Vec<Blake3>) -> Result<(), Status> {
    if blobs.is_empty() {
        return Ok(());
    }
    let (artifacts, build) = (Arc::clone(&shared.artifacts), build_id(build)?);
    shared.blocking(move || artifacts.missing(build, &blobs).map(drop)).await
}

fn blobs_of(artifacts: &[Artifact]) -> impl Iterator<Item = Blake3> {
    artifacts.iter().map(|artifact| artifact.blob)
}

fn tags(texts: &[String]) -> Result<Vec<Reference>, Invalid> {
    if texts.len() > limits::PLAN_TAGS {
        let problem = format!("there may be at most {}", limits::PLAN_TAGS);
        return Err(Invalid::new("tags", texts.len(), problem));
    }
    let mut tags: Vec<Reference> = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        let field = format!("tags[{at}]");
        let tag: Reference = text.parse().map_err(|error: Invalid| error.of(&field))?;
        if tag.tag().is_none() || tag.digest().is_some() {
            return Err(Invalid::new(field, tag, "a name to move has a tag and no digest: NAME:TAG"));
        }
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// Adds registries to a plan's, each once.
fn add(field: &str, to: &mut Vec<String>, hosts: Vec<String>) -> Result<(), Status> {
    to.extend(hosts);
    to.sort_unstable();
    to.dedup();
    let bad = to.iter().find(|host| host.is_empty() || host.contains(['/', '@', ' ']));
    if let Some(host) = bad {
        return Err(Invalid::new(field, host, "expected host[:port]").into_status());
    }
    if to.len() > limits::PLAN_REGISTRIES {
        let problem = format!("there may be at most {}", limits::PLAN_REGISTRIES);
        return Err(Invalid::new(field, to.len(), problem).into_status());
    }
    Ok(())
}
