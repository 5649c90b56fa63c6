//! A build fully resolved before it is submitted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{
    Annotation, AnnotationLevel, Blake3, BuildId, Checks, ContextRef, Platform, ProjectName, Reference,
};

/// What a build is asked to leave behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Build and verify; publish nothing.
    Check,
    /// Push by digest per platform, then one index under every tag.
    Push,
    /// As push, into [`Plan::staging`] under a retention tag, for a later promotion.
    Candidate,
    /// One OCI layout over all platforms, back to the client.
    Oci,
    /// The same, into the client's own Engine.
    Load,
    /// Each platform's root file system, as files at the client.
    Local,
    /// The same as one tar.
    Tar,
}

impl Output {
    /// Whether something is published in a registry.
    pub fn publishes(self) -> bool {
        matches!(self, Self::Push | Self::Candidate)
    }

    /// Whether workers leave something with the scheduler for the client to fetch.
    pub fn returns(self) -> bool {
        matches!(self, Self::Oci | Self::Load | Self::Local | Self::Tar)
    }

    /// Whether what it leaves is files, rather than an image that somebody runs.
    pub fn is_files(self) -> bool {
        matches!(self, Self::Local | Self::Tar)
    }
}

/// Why a Dockerfile names an image from outside the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseKind {
    /// `FROM image`.
    From,
    /// `COPY --from=image`.
    CopyFrom,
    /// `RUN --mount=from=image`.
    MountFrom,
    /// `# syntax=image`.
    Syntax,
}

/// Which image one job needs at a place of the Dockerfile, and for which platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseUse {
    /// The job's position in [`Plan::platforms`].
    pub job: u16,
    /// Normalised; a token may hold `$TARGETARCH`, so jobs may need different images here.
    pub image: Reference,
    /// The platform needed of it. None: that of the worker that builds (`$BUILDPLATFORM`).
    pub platform: Option<Platform>,
}

/// One place in the Dockerfile that names an image from outside the build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Why it is named.
    pub kind: BaseKind,
    /// From 1.
    pub line: u32,
    /// Bytes of the token in the Dockerfile.
    pub span: Range<u64>,
    /// As written.
    pub token: String,
    /// One per job that reaches this place.
    pub uses: Vec<BaseUse>,
}

/// A build fully resolved before it is submitted: platforms normalised, tags parsed, files chosen, arguments
/// fixed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Whose build it is.
    pub project: ProjectName,
    /// At least one, each once.
    pub platforms: Vec<Platform>,
    /// What it leaves behind.
    pub output: Output,
    /// Tags of the index, each with a tag and no digest. At least one for [`Output::Push`].
    pub tags: Vec<Reference>,
    /// The source.
    pub context: ContextRef,
    /// The Dockerfile as a blob: it may come from outside the context.
    pub dockerfile: Blake3,
    /// As the user named it.
    pub dockerfile_name: String,
    /// The stage to build; none for the last.
    pub target: Option<String>,
    /// As given; arguments of the Dockerfile's own are not repeated here.
    pub build_args: BTreeMap<String, String>,
    /// Labels for the image.
    pub labels: BTreeMap<String, String>,
    /// Run every step again.
    pub no_cache: bool,
    /// Ask the registry again even where the Engine has the base.
    pub pull: bool,
    /// What the scheduler locks before it shards.
    pub bases: Vec<Base>,
    /// `host[:port]` of registries that may be spoken to without TLS, beside loopback.
    pub insecure_registries: Vec<String>,
    /// Registries whose credentials the client supplies, and without which the build waits.
    pub credential_hosts: Vec<String>,
    /// What each image must pass.
    pub checks: Checks,
    /// Positions in [`Plan::platforms`] on trial: built and checked as all are, but they neither hold the build up
    /// nor enter the index. At least one platform is not.
    pub trial: BTreeSet<u16>,
    /// Positions that may be built by a worker of another platform when no native one is known.
    pub cross: BTreeSet<u16>,
    /// Of manifests and index.
    pub annotations: Vec<Annotation>,
    /// `host/name` that holds a candidate until it is promoted; for [`Output::Candidate`] alone.
    pub staging: Option<String>,
}

impl Plan {
    /// A plan that checks this source for these platforms and asks for nothing more. The Dockerfile is called so.
    pub fn new(
        project: ProjectName,
        platforms: Vec<Platform>,
        context: ContextRef,
        dockerfile: Blake3,
    ) -> Self {
        Self {
            project,
            platforms,
            output: Output::Check,
            tags: Vec::new(),
            context,
            dockerfile,
            dockerfile_name: "Dockerfile".to_owned(),
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            no_cache: false,
            pull: false,
            bases: Vec::new(),
            insecure_registries: Vec::new(),
            credential_hosts: Vec::new(),
            checks: Checks::default(),
            trial: BTreeSet::new(),
            cross: BTreeSet::new(),
            annotations: Vec::new(),
            staging: None,
        }
    }

    /// The repositories the manifests are pushed to, each once, as `host/name`: those of the tags, or the staging
    /// repository of a candidate.
    pub fn repositories(&self) -> Vec<String> {
        match self.output {
            Output::Push => {
                let mut names: Vec<String> = self.tags.iter().map(Reference::name).collect();
                names.sort();
                names.dedup();
                names
            }
            Output::Candidate => self.staging.iter().cloned().collect(),
            Output::Check | Output::Oci | Output::Load | Output::Local | Output::Tar => Vec::new(),
        }
    }

    /// The tags this plan moves as build `id`: its own, or a candidate's retention tag, which keeps registries from
    /// collecting it.
    pub fn published_tags(&self, id: BuildId) -> Vec<Reference> {
        match (self.output, &self.staging) {
            (Output::Push, _) => self.tags.clone(),
            (Output::Candidate, Some(staging)) => {
                let tag = format!("{staging}:candidate-{}", id.to_string().to_lowercase());
                tag.parse().into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether the job at this position is on trial.
    pub fn is_trial(&self, job: u16) -> bool {
        self.trial.contains(&job)
    }

    /// The annotations of this level for one platform; of the index where that is none. Of one key the last counts.
    pub fn annotations(
        &self,
        level: AnnotationLevel,
        platform: Option<&Platform>,
    ) -> BTreeMap<String, String> {
        let fits = |annotation: &&Annotation| {
            annotation.level == level
                && (annotation.platform.is_none() || annotation.platform.as_ref() == platform)
        };
        let pair = |annotation: &Annotation| (annotation.key.clone(), annotation.value.clone());
        self.annotations.iter().filter(fits).map(pair).collect()
    }
}

/// The registries that a promotion speaks to: where the candidate waits, `host/name`, and where its tags go. Nothing is
/// built, so the candidate's others are not asked; client and scheduler have to agree on that.
pub fn promotion_registries<'a>(tags: &'a [Reference], staging: Option<&'a str>) -> BTreeSet<&'a str> {
    let waits = staging.and_then(|staging| staging.split_once('/')).map(|(host, _)| host);
    tags.iter().map(Reference::registry).chain(waits).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::convert::{plan_from_proto, plan_to_proto};

    pub(crate) fn plan() -> Plan {
        let nothing = Blake3::of(b"");
        let context = ContextRef {
            digest: nothing,
            manifest_digest: nothing,
            files: 0,
            total_bytes: 0,
            partial: false,
        };
        let platforms = ["linux/amd64", "linux/arm64"].map(|text| text.parse().unwrap()).into();
        Plan {
            output: Output::Push,
            tags: vec!["r.example/app:1".parse().unwrap(), "r.example/app:2".parse().unwrap()],
            checks: Checks { data_only: true, ..Checks::default() },
            trial: [1].into(),
            cross: [1].into(),
            annotations: vec![annotation(AnnotationLevel::Manifest, Some("linux/arm64"), "a")],
            ..Plan::new(ProjectName::default(), platforms, context, nothing)
        }
    }

    fn annotation(level: AnnotationLevel, platform: Option<&str>, value: &str) -> Annotation {
        let platform = platform.map(|text| text.parse().unwrap());
        Annotation { level, platform, key: "k".to_owned(), value: value.to_owned() }
    }

    #[test]
    fn plans_round_trip() {
        let plan = plan();
        assert_eq!(plan_from_proto(plan_to_proto(&plan)).unwrap(), plan);
    }

    #[test]
    fn what_a_plan_of_before_lacks_has_defaults() {
        let mut message = plan_to_proto(&plan());
        (message.checks, message.trial) = (None, Vec::new());
        let plan = plan_from_proto(message).unwrap();
        assert_eq!(plan.checks, Checks::default());
        assert!(!plan.is_trial(1));
    }

    #[test]
    fn a_candidate_waits_under_a_tag_of_its_own() {
        let id = BuildId::from_parts(7, 9);
        let plan =
            Plan { output: Output::Candidate, staging: Some("r.example/staging".to_owned()), ..plan() };
        assert_eq!(plan.repositories(), ["r.example/staging"]);
        let tags: Vec<_> = plan.published_tags(id).iter().map(Reference::to_string).collect();
        assert_eq!(tags, [format!("r.example/staging:candidate-{}", id.to_string().to_lowercase())]);
        assert!(Plan { output: Output::Check, ..plan }.published_tags(id).is_empty());
    }

    #[test]
    fn contradictions_are_refused() {
        type Change = fn(&mut archyard_proto::v1::Plan);
        let changes: [(Change, &str); 7] = [
            (|plan| plan.trial = vec![0, 1], "plan.trial"),
            (|plan| plan.trial = vec![2], "plan.trial"),
            (|plan| plan.cross = vec![1, 1], "plan.cross"),
            (|plan| plan.staging = "r.example/x".to_owned(), "plan.staging"),
            (|plan| plan.output = archyard_proto::v1::OutputKind::Candidate.into(), "plan.staging"),
            (|plan| plan.annotations[0].level = 2, "plan.annotations.platform"),
            (
                |plan| plan.checks.get_or_insert_default().smoke_tests = vec!["x".to_owned()],
                "plan.checks.smoke_tests",
            ),
        ];
        for (change, field) in changes {
            let mut message = plan_to_proto(&plan());
            change(&mut message);
            assert_eq!(plan_from_proto(message).unwrap_err().field, field);
        }
    }

    #[test]
    fn annotations_are_a_platforms_own_or_everybodys() {
        let annotations = vec![
            annotation(AnnotationLevel::Manifest, None, "all"),
            annotation(AnnotationLevel::Manifest, Some("linux/arm64"), "arm"),
            annotation(AnnotationLevel::Index, None, "index"),
        ];
        let plan = Plan { annotations, ..plan() };
        let of = |level, platform: Option<usize>| {
            plan.annotations(level, platform.map(|at| &plan.platforms[at])).remove("k")
        };
        assert_eq!(of(AnnotationLevel::Manifest, Some(0)).as_deref(), Some("all"));
        assert_eq!(of(AnnotationLevel::Manifest, Some(1)).as_deref(), Some("arm"));
        assert_eq!(of(AnnotationLevel::Index, None).as_deref(), Some("index"));
        assert_eq!(of(AnnotationLevel::ManifestDescriptor, Some(0)), None);
    }
}
