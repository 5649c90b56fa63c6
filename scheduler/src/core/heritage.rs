//! What a build takes over from the one it starts from, and which builds others may start from.
//!
//! A rerun is the same build once more: its plan, its lock, what succeeded there, and its place in the order of tags.
//! A promotion is a new act: a candidate's very images under other tags, with a place of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use archyard_model::{
    BuildId, BuildRecord, BuildState, ImageResult, JobRecord, JobState, Lock, Origin, OriginKind, Output,
    Plan, Platform, Reference, Sha256, TagRecord,
};

/// All that is taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heritage {
    /// From which build, and why.
    pub origin: Origin,
    /// None where the other build never had one.
    pub lock: Option<Arc<Lock>>,
    /// Jobs that succeeded there, by their position in the new plan.
    pub jobs: BTreeMap<u16, Carried>,
    /// The other build's place in the order of tags. None: one of its own.
    pub tag_sequence: Option<u64>,
    /// What the other build has published: this one does not again.
    pub published: Option<Published>,
    /// Of a promotion.
    pub promotion: Option<Promotion>,
}

/// One job's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// What it left.
    pub image: ImageResult,
    /// The platform of the worker it was built on, where that is another than its own.
    pub cross: Option<Platform>,
}

/// An index that is there, and what became of its tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// With its length in bytes.
    pub index: (Sha256, u64),
    /// All of them.
    pub tags: Vec<TagRecord>,
}

/// A candidate's index, and where it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// `host/name`.
    pub staging: String,
    /// What must come out again, with its length in bytes.
    pub index: (Sha256, u64),
}

/// Why no build can start from this one. FAILED_PRECONDITION.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each field is the word of the design it is named for")]
pub enum Unfit {
    #[error("build {build} is {state}; a rerun builds what has failed: wait for its end, or cancel it")]
    NotEnded { build: BuildId, state: BuildState },
    #[error("build {build} {state} and nothing of it is left to build again; `archyard build` starts anew")]
    NothingLeft { build: BuildId, state: BuildState },
    #[error("build {build} only promotes candidate {candidate}; promote that one again")]
    OfPromotion { build: BuildId, candidate: BuildId },
    #[error("build {build} is no candidate; only what was built with --candidate can be promoted")]
    NoCandidate { build: BuildId },
    #[error("candidate {build} is {state}; it can be promoted once it has succeeded")]
    NotReady { build: BuildId, state: BuildState },
    #[error(
        "candidate {build} is {state}; only one that succeeded can be promoted: `archyard rerun {build} --failed`, \
         and promote what comes of it"
    )]
    NotSucceeded { build: BuildId, state: BuildState },
}

impl Heritage {
    /// What a rerun of this build takes over. `keeps`: whether what a job left is still there.
    pub fn of_rerun(record: &BuildRecord, keeps: impl Fn(&JobRecord) -> bool) -> Result<Self, Unfit> {
        let (build, state) = (record.id, record.state);
        match record.origin {
            Some(Origin { kind: OriginKind::Promotion, build: candidate }) => {
                return Err(Unfit::OfPromotion { build, candidate });
            }
            Some(Origin { kind: OriginKind::Rerun, .. }) | None => {}
        }
        let left = record.jobs.iter().any(|job| job.state != JobState::Succeeded);
        match state {
            BuildState::Failed | BuildState::Canceled => {}
            BuildState::Succeeded | BuildState::Superseded if left => {}
            BuildState::Succeeded | BuildState::Superseded => {
                return Err(Unfit::NothingLeft { build, state });
            }
            BuildState::Waiting | BuildState::Queued | BuildState::Running | BuildState::Publishing => {
                return Err(Unfit::NotEnded { build, state });
            }
        }
        let jobs = (0..).zip(&record.jobs).filter(|(_, job)| keeps(job));
        let published = (state.is_success() && record.plan.output.publishes())
            .then(|| record.index.map(|index| Published { index, tags: record.tags.clone() }))
            .flatten();
        Ok(Self {
            origin: Origin { kind: OriginKind::Rerun, build },
            lock: record.lock.clone().map(Arc::new),
            jobs: jobs.filter_map(carried).collect(),
            // A build of before places were kept stands before everybody.
            tag_sequence: Some(record.tag_sequence.unwrap_or_default()),
            published,
            promotion: None,
        })
    }

    /// What a promotion of this build to `tags` takes over, and its plan. No tags: those of the candidate's plan.
    pub fn of_promotion(record: &BuildRecord, tags: Vec<Reference>) -> Result<(Self, Plan), Unfit> {
        let (build, state) = (record.id, record.state);
        let (Output::Candidate, Some(staging)) = (record.plan.output, &record.plan.staging) else {
            return Err(Unfit::NoCandidate { build });
        };
        let index = match (state, record.index) {
            (BuildState::Succeeded, Some(index)) => index,
            (state, _) if state.is_terminal() => return Err(Unfit::NotSucceeded { build, state }),
            _ => return Err(Unfit::NotReady { build, state }),
        };
        let required: Vec<u16> =
            (0..).zip(&record.jobs).map(|(at, _)| at).filter(|at: &u16| !record.plan.is_trial(*at)).collect();
        let jobs =
            (0..).zip(&required).filter_map(|(new, old)| carried((new, record.jobs.get(usize::from(*old))?)));
        let heritage = Self {
            origin: Origin { kind: OriginKind::Promotion, build },
            lock: record.lock.clone().map(Arc::new),
            jobs: jobs.collect(),
            tag_sequence: None,
            published: None,
            promotion: Some(Promotion { staging: staging.clone(), index }),
        };
        let mut plan = only(&record.plan, &required);
        plan.output = Output::Push;
        plan.staging = None;
        if !tags.is_empty() {
            plan.tags = tags;
        }
        Ok((heritage, plan))
    }
}

fn carried((at, job): (u16, &JobRecord)) -> Option<(u16, Carried)> {
    let image = job.result.clone().filter(|_| job.state == JobState::Succeeded)?;
    Some((at, Carried { image, cross: job.cross.clone() }))
}

/// A plan of these of its platforms alone.
fn only(plan: &Plan, positions: &[u16]) -> Plan {
    let place = |old: u16| {
        let at = positions.iter().position(|position| *position == old)?;
        u16::try_from(at).ok()
    };
    let moved = |positions: &BTreeSet<u16>| positions.iter().filter_map(|old| place(*old)).collect();
    let mut kept = plan.clone();
    kept.platforms =
        positions.iter().filter_map(|at| plan.platforms.get(usize::from(*at)).cloned()).collect();
    kept.trial = moved(&plan.trial);
    kept.cross = moved(&plan.cross);
    for base in &mut kept.bases {
        base.uses.retain_mut(|used| {
            place(used.job).is_some_and(|new| {
                used.job = new;
                true
            })
        });
    }
    kept.bases.retain(|base| !base.uses.is_empty());
    let platforms = kept.platforms.clone();
    kept.annotations.retain(|annotation| {
        annotation.platform.as_ref().is_none_or(|platform| platforms.contains(platform))
    });
    kept
}
