//! What passes between the scheduler and its workers: offers and job specs.

use std::collections::BTreeMap;

use archyard_proto::v1 as proto;

use super::checks::{checks_from_proto, checks_to_proto};
use super::plan::{
    base_from_proto, base_to_proto, context_from_proto, context_to_proto, output_from_proto, output_to_proto,
};
use super::{
    at_most, lock_from_proto, lock_to_proto, platform_from_proto, platform_to_proto, required, text_at_most,
};
use crate::worker::PROTOCOL;
use crate::{
    AnnotationLevel, Base, Blake3, Checks, ContextRef, Invalid, Lock, Output, Plan, Platform, Pool,
    ProjectName, WorkerOffer, limits,
};

/// All that a runner needs to know. The same for every attempt of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// What to build for.
    pub platform: Platform,
    /// With `pool`, the namespace of cache mounts.
    pub project: ProjectName,
    /// The trust level it runs under.
    pub pool: Pool,
    /// What to leave behind.
    pub output: Output,
    /// `host/name` to push the manifest to, by digest.
    pub repositories: Vec<String>,
    /// The source.
    pub context: ContextRef,
    /// The Dockerfile's blob, as its user wrote it.
    pub dockerfile: Blake3,
    /// For messages.
    pub dockerfile_name: String,
    /// The stage to build.
    pub target: Option<String>,
    /// As given.
    pub build_args: BTreeMap<String, String>,
    /// For the image.
    pub labels: BTreeMap<String, String>,
    /// Run every step again.
    pub no_cache: bool,
    /// Ask registries again.
    pub pull: bool,
    /// Where the Dockerfile names images; only this job's uses.
    pub bases: Vec<Base>,
    /// What those images resolved to.
    pub lock: Lock,
    /// `host[:port]` that may be spoken to without TLS, beside loopback.
    pub insecure_registries: Vec<String>,
    /// What the image must pass.
    pub checks: Checks,
    /// Of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// The worker does not run this platform: nothing of it may be run.
    pub cross: bool,
}

impl JobSpec {
    /// The share of `plan` that builds its `index`th platform; `cross`: on a worker of another platform.
    pub fn of(plan: &Plan, lock: &Lock, index: u16, pool: Pool, cross: bool) -> Option<Self> {
        let platform = plan.platforms.get(usize::from(index))?.clone();
        let bases: Vec<Base> = plan
            .bases
            .iter()
            .filter_map(|base| {
                let uses: Vec<_> = base.uses.iter().filter(|u| u.job == index).cloned().collect();
                (!uses.is_empty()).then(|| Base { uses, ..base.clone() })
            })
            .collect();
        let annotations = plan.annotations(AnnotationLevel::Manifest, Some(&platform));
        Some(Self {
            platform,
            project: plan.project.clone(),
            pool,
            output: plan.output,
            repositories: plan.repositories(),
            context: plan.context.clone(),
            dockerfile: plan.dockerfile,
            dockerfile_name: plan.dockerfile_name.clone(),
            target: plan.target.clone(),
            build_args: plan.build_args.clone(),
            labels: plan.labels.clone(),
            no_cache: plan.no_cache,
            pull: plan.pull,
            bases,
            lock: lock.clone(),
            insecure_registries: plan.insecure_registries.clone(),
            checks: plan.checks.clone(),
            annotations,
            cross,
        })
    }

    /// The Dockerfile with every locked image pinned: `FROM debian:12` becomes
    /// `FROM docker.io/library/debian:12@sha256:...`. What the lock does not know stays as it is.
    pub fn pin(&self, dockerfile: &[u8]) -> Vec<u8> {
        let mut replacements: Vec<(std::ops::Range<usize>, String)> = Vec::new();
        for base in &self.bases {
            let Some(used) = base.uses.first() else { continue };
            let locked = self.lock.images.get(&used.image.to_string());
            let Some(digest) = locked.and_then(|image| image.digest) else { continue };
            let (Ok(start), Ok(end)) = (usize::try_from(base.span.start), usize::try_from(base.span.end))
            else {
                continue;
            };
            // A span that does not hold what the plan said it holds is another file's: leave it alone.
            if dockerfile.get(start..end) == Some(base.token.as_bytes()) {
                replacements.push((start..end, used.image.pinned(digest).to_string()));
            }
        }
        replacements.sort_by_key(|(range, _)| range.start);
        let mut pinned = Vec::with_capacity(dockerfile.len() + replacements.len() * 80);
        let mut at = 0;
        for (range, with) in replacements {
            if range.start < at {
                continue;
            }
            pinned.extend_from_slice(&dockerfile[at..range.start]);
            pinned.extend_from_slice(with.as_bytes());
            at = range.end;
        }
        pinned.extend_from_slice(&dockerfile[at..]);
        pinned
    }
}

/// A job spec's message.
pub fn spec_to_proto(spec: &JobSpec) -> proto::JobSpec {
    proto::JobSpec {
        platform: Some(platform_to_proto(&spec.platform)),
        project: spec.project.to_string(),
        pool: spec.pool.to_string(),
        output: output_to_proto(spec.output).into(),
        repositories: spec.repositories.clone(),
        context: Some(context_to_proto(&spec.context)),
        dockerfile_digest: spec.dockerfile.to_string(),
        dockerfile_name: spec.dockerfile_name.clone(),
        target: spec.target.clone().unwrap_or_default(),
        build_args: spec.build_args.clone(),
        labels: spec.labels.clone(),
        no_cache: spec.no_cache,
        pull: spec.pull,
        bases: spec.bases.iter().map(base_to_proto).collect(),
        lock: Some(lock_to_proto(&spec.lock)),
        insecure_registries: spec.insecure_registries.clone(),
        checks: Some(checks_to_proto(&spec.checks)),
        annotations: spec.annotations.clone(),
        cross: spec.cross,
    }
}

/// A job spec from its message.
pub fn spec_from_proto(message: proto::JobSpec) -> Result<JobSpec, Invalid> {
    let output = output_from_proto("spec.output", message.output())?;
    Ok(JobSpec {
        platform: platform_from_proto(&required("spec.platform", message.platform)?)?,
        project: message.project.parse()?,
        pool: message.pool.parse()?,
        output,
        repositories: message.repositories,
        context: context_from_proto("spec.context", message.context)?,
        dockerfile: message
            .dockerfile_digest
            .parse()
            .map_err(|error: Invalid| error.of("spec.dockerfile_digest"))?,
        dockerfile_name: message.dockerfile_name,
        target: (!message.target.is_empty()).then_some(message.target),
        build_args: message.build_args,
        labels: message.labels,
        no_cache: message.no_cache,
        pull: message.pull,
        bases: message
            .bases
            .into_iter()
            .map(|base| base_from_proto("spec.bases", base, limits::PLAN_PLATFORMS))
            .collect::<Result<_, _>>()?,
        lock: lock_from_proto(required("spec.lock", message.lock)?)?,
        insecure_registries: message.insecure_registries,
        checks: checks_from_proto("spec.checks", message.checks)?,
        annotations: message.annotations,
        cross: message.cross,
    })
}

/// A worker's offer as the body of its Hello; `running` and the protocol range are the agent's to add.
pub fn offer_to_proto(offer: &WorkerOffer) -> proto::Hello {
    proto::Hello {
        name: offer.name.to_string(),
        boot_id: offer.boot_id.clone(),
        session_id: offer.session_id.clone(),
        instance_id: offer.instance_id.clone(),
        protocol_min: PROTOCOL,
        protocol_max: PROTOCOL,
        platforms: offer.platforms.iter().map(platform_to_proto).collect(),
        emulated: offer.emulated.iter().map(platform_to_proto).collect(),
        slots: offer.slots,
        labels: offer.labels.clone(),
        pool: offer.pool.to_string(),
        version: offer.version.clone(),
        engine: offer.engine.clone(),
        running: Vec::new(),
        draining: offer.draining,
        dial: offer.dial,
    }
}

/// A worker's offer from its Hello.
pub fn offer_from_proto(message: &proto::Hello) -> Result<WorkerOffer, Invalid> {
    if message.protocol_min > PROTOCOL || message.protocol_max < PROTOCOL {
        return Err(Invalid::new(
            "hello.protocol_min",
            format!("{}..{}", message.protocol_min, message.protocol_max),
            format!("this scheduler speaks protocol {PROTOCOL}; upgrade the older of the two"),
        ));
    }
    if message.slots == 0 || message.slots > limits::WORKER_SLOTS {
        return Err(Invalid::new(
            "hello.slots",
            message.slots,
            format!("a worker has 1 to {} slots; set it with --slots", limits::WORKER_SLOTS),
        ));
    }
    at_most("hello.labels", message.labels.len(), limits::WORKER_LABELS)?;
    at_most("hello.platforms", message.platforms.len(), limits::PLAN_PLATFORMS)?;
    for (field, text) in [
        ("hello.boot_id", &message.boot_id),
        ("hello.session_id", &message.session_id),
        ("hello.instance_id", &message.instance_id),
        ("hello.version", &message.version),
        ("hello.engine", &message.engine),
    ] {
        text_at_most(field, text, 256)?;
    }
    let platforms = message
        .platforms
        .iter()
        .map(|platform| platform_from_proto(platform).map_err(|error| error.of("hello.platforms")))
        .collect::<Result<Vec<_>, _>>()?;
    if platforms.is_empty() {
        return Err(Invalid::new("hello.platforms", "", "a worker runs at least one platform"));
    }
    Ok(WorkerOffer {
        name: message.name.parse().map_err(|error: Invalid| error.of("hello.name"))?,
        boot_id: message.boot_id.clone(),
        session_id: message.session_id.clone(),
        instance_id: message.instance_id.clone(),
        platforms,
        // A farm has no use for what only an emulator runs: unknown ones need not stop a worker.
        emulated: message.emulated.iter().filter_map(|p| platform_from_proto(p).ok()).collect(),
        slots: message.slots,
        labels: message.labels.clone(),
        pool: message.pool.parse().map_err(|error: Invalid| error.of("hello.pool"))?,
        version: message.version.clone(),
        engine: message.engine.clone(),
        draining: message.draining,
        dial: message.dial,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BaseKind, BaseUse, LockedImage, Sha256};

    fn spec(dockerfile: &str, token: &str, digest: Option<Sha256>) -> JobSpec {
        let start = dockerfile.find(token).unwrap() as u64;
        let image: crate::Reference = "registry.example/base:1".parse().unwrap();
        let base = Base {
            kind: BaseKind::From,
            line: 1,
            span: start..start + token.len() as u64,
            token: token.to_owned(),
            uses: vec![BaseUse { job: 0, image: image.clone(), platform: None }],
        };
        let lock = Lock {
            images: [(image.to_string(), LockedImage { digest, platforms: Vec::new(), warning: None })]
                .into(),
        };
        JobSpec {
            platform: "linux/amd64".parse().unwrap(),
            project: ProjectName::default(),
            pool: Pool::Trusted,
            output: Output::Check,
            repositories: Vec::new(),
            context: ContextRef {
                digest: Blake3::of(b""),
                manifest_digest: Blake3::of(b""),
                files: 0,
                total_bytes: 0,
                partial: false,
            },
            dockerfile: Blake3::of(dockerfile.as_bytes()),
            dockerfile_name: "Dockerfile".to_owned(),
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            no_cache: false,
            pull: false,
            bases: vec![base],
            lock,
            insecure_registries: Vec::new(),
            checks: Checks::default(),
            annotations: BTreeMap::new(),
            cross: false,
        }
    }

    #[test]
    fn pins_what_the_lock_knows() {
        let dockerfile = "FROM ${BASE} AS x\nRUN true\n";
        let digest = Sha256::from_bytes([1; 32]);
        let pinned = spec(dockerfile, "${BASE}", Some(digest)).pin(dockerfile.as_bytes());
        assert_eq!(
            String::from_utf8(pinned).unwrap(),
            format!("FROM registry.example/base:1@{digest} AS x\nRUN true\n")
        );
        assert_eq!(spec(dockerfile, "${BASE}", None).pin(dockerfile.as_bytes()), dockerfile.as_bytes());
    }

    #[test]
    fn leaves_another_file_alone() {
        let spec = spec("FROM ${BASE} AS x\n", "${BASE}", Some(Sha256::from_bytes([1; 32])));
        assert_eq!(spec.pin(b"FROM scratch\n"), b"FROM scratch\n");
    }

    #[test]
    fn specs_round_trip() {
        let spec = spec("FROM a\n", "a", None);
        assert_eq!(spec_from_proto(spec_to_proto(&spec)).unwrap(), spec);
    }
}
