//! The lock: every image that a plan's Dockerfile names becomes a digest, once per build.
//!
//! A base that lacks a platform, that is of another platform, or that does not exist fails the build here, in
//! seconds, and names the Dockerfile's line. A registry that does not answer is no reason to fail: the image stays
//! unlocked, with a warning that the record keeps. Builds nothing and pulls no layer.

mod ahead;
mod check;
mod offer;
mod reads;
mod triggers;

pub use ahead::Ahead;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use archyard_model::{Failure, FailureClass, Lock, LockedImage, Plan, Reference};
use futures_util::StreamExt as _;
use tokio::time::Instant;

use crate::registry::{Cause, Registry};
use offer::Offer;

/// Images of one build that are asked for at a time.
const AT_ONCE: usize = 16;

/// What became of one image.
#[derive(Debug)]
enum Outcome {
    /// It is there.
    Found(Offer),
    /// Its registry could not say.
    Unknown(String),
    /// It is not there, or not for us.
    Unusable(Failure),
}

/// What a plan's images resolved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// For all jobs that may run.
    pub lock: Lock,
    /// Jobs on trial that cannot run, and why: a base lacks their platform.
    pub refused: BTreeMap<u16, Failure>,
    /// Why the plan's part of its context is not enough. Then the lock is made again with the whole context.
    pub incomplete: Option<String>,
}

/// Resolves all images of a plan, or says which line of the Dockerfile cannot be had.
pub async fn resolve(registry: &Registry, plan: &Plan, patience: Duration) -> Result<Resolved, Failure> {
    let deadline = Instant::now() + patience;
    let images: BTreeSet<&Reference> =
        plan.bases.iter().flat_map(|base| &base.uses).map(|used| &used.image).collect();
    let questions: Vec<_> =
        images.into_iter().map(|image| look_up(registry, plan, image, deadline, patience)).collect();
    let outcomes: BTreeMap<String, Outcome> =
        futures_util::stream::iter(questions).buffer_unordered(AT_ONCE).collect().await;
    let mut lock = Lock::default();
    let mut offers = BTreeMap::new();
    let mut refused = BTreeMap::new();
    for (image, outcome) in outcomes {
        let locked = match outcome {
            Outcome::Unusable(failure) => {
                let jobs = users(plan, &image);
                if !jobs.iter().all(|job| plan.is_trial(*job)) {
                    return Err(failure);
                }
                refused.extend(jobs.into_iter().map(|job| (job, failure.clone())));
                continue;
            }
            Outcome::Unknown(warning) => {
                LockedImage { digest: None, platforms: Vec::new(), warning: Some(warning) }
            }
            Outcome::Found(offer) => {
                let locked = LockedImage {
                    digest: Some(offer.digest),
                    platforms: offer.platforms.clone(),
                    warning: None,
                };
                offers.insert(image.clone(), offer);
                locked
            }
        };
        lock.images.insert(image, locked);
    }
    let lacking = check::platforms(plan, &offers)?;
    refused.extend(lacking);
    refused.extend(triggers::check(registry, plan, &offers, deadline).await?);
    let incomplete = reads::more(registry, plan, &offers, deadline).await;
    Ok(Resolved { lock, refused, incomplete })
}

/// The jobs that need an image.
fn users(plan: &Plan, image: &str) -> BTreeSet<u16> {
    let uses = plan.bases.iter().flat_map(|base| &base.uses);
    uses.filter(|used| used.image.to_string() == image).map(|used| used.job).collect()
}

async fn look_up(
    registry: &Registry,
    plan: &Plan,
    image: &Reference,
    deadline: Instant,
    patience: Duration,
) -> (String, Outcome) {
    (image.to_string(), ask(registry, plan, image, deadline, patience).await)
}

async fn ask(
    registry: &Registry,
    plan: &Plan,
    image: &Reference,
    deadline: Instant,
    patience: Duration,
) -> Outcome {
    let error = match tokio::time::timeout_at(deadline, offer::of(registry, image)).await {
        Ok(Ok(offer)) => return Outcome::Found(offer),
        Ok(Err(error)) => error,
        Err(_) => {
            return Outcome::Unknown(format!(
                "registry {} did not answer within {} s; the image is not locked",
                image.registry(),
                patience.as_secs()
            ));
        }
    };
    let user = |code, problem: String| {
        let message = format!("{}: {problem}", check::place(plan, image));
        Outcome::Unusable(Failure::new(FailureClass::User, code, message))
    };
    match error.cause {
        Cause::Unreachable | Cause::Failing | Cause::NoRoots | Cause::Tls => Outcome::Unknown(format!(
            "registry {} could not be asked ({}); the image is not locked",
            error.registry, error.detail
        )),
        Cause::NotFound => user(
            "base_not_found",
            format!("registry {} has no {image}; mend the name or the tag", error.registry),
        ),
        Cause::Denied if registry.has_credential(image) => user(
            "base_denied",
            format!(
                "registry {} does not let this account pull {image} ({}); log in with one that may: docker login {}",
                error.registry, error.detail, error.registry
            ),
        ),
        Cause::Denied => user(
            "base_denied",
            format!(
                "registry {} does not give {image} to anonymous callers ({}): it does not exist, or needs docker login {}",
                error.registry, error.detail, error.registry
            ),
        ),
        Cause::Refused => user(
            "base_unusable",
            format!("registry {} gives no usable image for {image}: {}", error.registry, error.detail),
        ),
    }
}
