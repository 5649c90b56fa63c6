//! Plans and locks.

use std::collections::{BTreeMap, BTreeSet};

use archyard_proto::v1 as proto;

use super::checks::{annotation_to_proto, annotations_from_proto, checks_from_proto, checks_to_proto};
use super::{at_most, job_index, platform_from_proto, platform_to_proto, required, text_at_most};
use crate::{
    Base, BaseKind, BaseUse, ContextRef, Invalid, Lock, LockedImage, Output, Plan, Platform, Reference,
    limits,
};

/// A plan's message.
pub fn plan_to_proto(plan: &Plan) -> proto::Plan {
    proto::Plan {
        project: plan.project.to_string(),
        platforms: plan.platforms.iter().map(platform_to_proto).collect(),
        output: output_to_proto(plan.output).into(),
        tags: plan.tags.iter().map(Reference::to_string).collect(),
        context: Some(context_to_proto(&plan.context)),
        dockerfile_digest: plan.dockerfile.to_string(),
        dockerfile_name: plan.dockerfile_name.clone(),
        target: plan.target.clone().unwrap_or_default(),
        build_args: plan.build_args.clone(),
        labels: plan.labels.clone(),
        no_cache: plan.no_cache,
        pull: plan.pull,
        bases: plan.bases.iter().map(base_to_proto).collect(),
        insecure_registries: plan.insecure_registries.clone(),
        credential_hosts: plan.credential_hosts.clone(),
        checks: Some(checks_to_proto(&plan.checks)),
        trial: plan.trial.iter().copied().map(u32::from).collect(),
        cross: plan.cross.iter().copied().map(u32::from).collect(),
        annotations: plan.annotations.iter().map(annotation_to_proto).collect(),
        staging: plan.staging.clone().unwrap_or_default(),
    }
}

/// A plan from its message, with everything checked that does not need the blobs.
pub fn plan_from_proto(message: proto::Plan) -> Result<Plan, Invalid> {
    let output = output_from_proto("plan.output", message.output())?;
    at_most("plan.platforms", message.platforms.len(), limits::PLAN_PLATFORMS)?;
    let mut platforms = Vec::with_capacity(message.platforms.len());
    for (at, platform) in message.platforms.iter().enumerate() {
        let field = format!("plan.platforms[{at}]");
        let platform = platform_from_proto(platform).map_err(|error| error.of(&field))?;
        if platforms.contains(&platform) {
            return Err(Invalid::new(field, platform, "it is asked for twice; name each platform once"));
        }
        platforms.push(platform);
    }
    if platforms.is_empty() {
        return Err(Invalid::new("plan.platforms", "", "a build needs at least one platform"));
    }
    let tags = tags(&message.tags, output)?;
    pairs("plan.build_args", &message.build_args)?;
    pairs("plan.labels", &message.labels)?;
    at_most("plan.bases", message.bases.len(), limits::PLAN_BASES)?;
    let bases = message
        .bases
        .into_iter()
        .enumerate()
        .map(|(at, base)| base_from_proto(&format!("plan.bases[{at}]"), base, platforms.len()))
        .collect::<Result<Vec<_>, _>>()?;
    hosts("plan.insecure_registries", &message.insecure_registries)?;
    hosts("plan.credential_hosts", &message.credential_hosts)?;
    text_at_most("plan.dockerfile_name", &message.dockerfile_name, limits::CONTEXT_PATH_BYTES)?;
    text_at_most("plan.target", &message.target, 128)?;
    let trial = positions("plan.trial", &message.trial, platforms.len())?;
    if trial.len() == platforms.len() {
        let problem = "every platform is on trial, and nothing would be published; take one off";
        return Err(Invalid::new("plan.trial", list(&platforms), problem));
    }
    let cross = positions("plan.cross", &message.cross, platforms.len())?;
    let annotations = annotations_from_proto("plan.annotations", message.annotations)?;
    let stranger =
        annotations.iter().find(|each| each.platform.as_ref().is_some_and(|p| !platforms.contains(p)));
    if let Some(platform) = stranger.and_then(|each| each.platform.as_ref()) {
        let problem = format!("the build has {}; annotate one of these", list(&platforms));
        return Err(Invalid::new("plan.annotations.platform", platform, problem));
    }
    let staging = staging(&message.staging, output)?;
    Ok(Plan {
        project: message.project.parse().map_err(|error: Invalid| error.of("plan.project"))?,
        platforms,
        output,
        tags,
        context: context_from_proto("plan.context", message.context)?,
        dockerfile: message
            .dockerfile_digest
            .parse()
            .map_err(|error: Invalid| error.of("plan.dockerfile_digest"))?,
        dockerfile_name: message.dockerfile_name,
        target: (!message.target.is_empty()).then_some(message.target),
        build_args: message.build_args,
        labels: message.labels,
        no_cache: message.no_cache,
        pull: message.pull,
        bases,
        insecure_registries: message.insecure_registries,
        credential_hosts: message.credential_hosts,
        checks: checks_from_proto("plan.checks", message.checks)?,
        trial,
        cross,
        annotations,
        staging,
    })
}

/// A lock's message.
pub fn lock_to_proto(lock: &Lock) -> proto::Lock {
    proto::Lock {
        images: lock
            .images
            .iter()
            .map(|(image, locked)| proto::LockedImage {
                image: image.clone(),
                digest: locked.digest.map(|digest| digest.to_string()).unwrap_or_default(),
                platforms: locked.platforms.iter().map(platform_to_proto).collect(),
                warning: locked.warning.clone().unwrap_or_default(),
            })
            .collect(),
        unlocked: lock.is_unlocked(),
    }
}

/// A lock from its message.
pub fn lock_from_proto(message: proto::Lock) -> Result<Lock, Invalid> {
    at_most("lock.images", message.images.len(), limits::PLAN_BASES * limits::PLAN_PLATFORMS)?;
    let mut images = BTreeMap::new();
    for image in message.images {
        let digest = (!image.digest.is_empty())
            .then(|| image.digest.parse().map_err(|error: Invalid| error.of("lock.images.digest")))
            .transpose()?;
        // Indexes hold entries this farm has no word for (attestations, windows); they are left out.
        let platforms = image.platforms.iter().filter_map(|p| platform_from_proto(p).ok()).collect();
        let warning = (!image.warning.is_empty()).then_some(image.warning);
        images.insert(image.image, LockedImage { digest, platforms, warning });
    }
    Ok(Lock { images })
}

pub(super) fn output_to_proto(output: Output) -> proto::OutputKind {
    match output {
        Output::Check => proto::OutputKind::Check,
        Output::Push => proto::OutputKind::Push,
        Output::Candidate => proto::OutputKind::Candidate,
        Output::Oci => proto::OutputKind::Oci,
        Output::Load => proto::OutputKind::Load,
        Output::Local => proto::OutputKind::Local,
        Output::Tar => proto::OutputKind::Tar,
    }
}

pub(super) fn output_from_proto(field: &str, output: proto::OutputKind) -> Result<Output, Invalid> {
    match output {
        proto::OutputKind::Check => Ok(Output::Check),
        proto::OutputKind::Push => Ok(Output::Push),
        proto::OutputKind::Candidate => Ok(Output::Candidate),
        proto::OutputKind::Oci => Ok(Output::Oci),
        proto::OutputKind::Load => Ok(Output::Load),
        proto::OutputKind::Local => Ok(Output::Local),
        proto::OutputKind::Tar => Ok(Output::Tar),
        proto::OutputKind::Unspecified => {
            let problem = "expected CHECK, PUSH, CANDIDATE, OCI, LOAD, LOCAL or TAR";
            Err(Invalid::new(field, "unspecified", problem))
        }
    }
}

/// A context's message.
pub fn context_to_proto(context: &ContextRef) -> proto::ContextRef {
    proto::ContextRef {
        digest: context.digest.to_string(),
        manifest_digest: context.manifest_digest.to_string(),
        files: context.files,
        total_bytes: context.total_bytes,
        partial: context.partial,
    }
}

/// A context from its message; `field` is for errors.
pub fn context_from_proto(field: &str, message: Option<proto::ContextRef>) -> Result<ContextRef, Invalid> {
    let message = required(field, message)?;
    if message.total_bytes > limits::CONTEXT_BYTES {
        return Err(Invalid::new(
            format!("{field}.total_bytes"),
            message.total_bytes,
            format!("a context holds at most {} bytes; use a .dockerignore", limits::CONTEXT_BYTES),
        ));
    }
    Ok(ContextRef {
        digest: message.digest.parse().map_err(|error: Invalid| error.of(format!("{field}.digest")))?,
        manifest_digest: message
            .manifest_digest
            .parse()
            .map_err(|error: Invalid| error.of(format!("{field}.manifest_digest")))?,
        files: message.files,
        total_bytes: message.total_bytes,
        partial: message.partial,
    })
}

pub(super) fn base_to_proto(base: &Base) -> proto::Base {
    let kind = match base.kind {
        BaseKind::From => proto::BaseKind::From,
        BaseKind::CopyFrom => proto::BaseKind::CopyFrom,
        BaseKind::MountFrom => proto::BaseKind::MountFrom,
        BaseKind::Syntax => proto::BaseKind::Syntax,
    };
    proto::Base {
        kind: kind.into(),
        line: base.line,
        start: base.span.start,
        end: base.span.end,
        token: base.token.clone(),
        uses: base
            .uses
            .iter()
            .map(|base_use| proto::BaseUse {
                job_index: u32::from(base_use.job),
                image: base_use.image.to_string(),
                platform: base_use.platform.as_ref().map(platform_to_proto),
            })
            .collect(),
    }
}

pub(super) fn base_from_proto(field: &str, message: proto::Base, jobs: usize) -> Result<Base, Invalid> {
    let kind = match message.kind() {
        proto::BaseKind::From => BaseKind::From,
        proto::BaseKind::CopyFrom => BaseKind::CopyFrom,
        proto::BaseKind::MountFrom => BaseKind::MountFrom,
        proto::BaseKind::Syntax => BaseKind::Syntax,
        proto::BaseKind::Unspecified => {
            return Err(Invalid::new(format!("{field}.kind"), "unspecified", "say how the image is used"));
        }
    };
    if message.start >= message.end || message.end > limits::DOCKERFILE_BYTES {
        return Err(Invalid::new(
            format!("{field}.start"),
            format!("{}..{}", message.start, message.end),
            "it is no range of bytes within a Dockerfile",
        ));
    }
    at_most(&format!("{field}.uses"), message.uses.len(), limits::PLAN_PLATFORMS)?;
    let mut uses = Vec::with_capacity(message.uses.len());
    for base_use in message.uses {
        let job = job_index(&format!("{field}.uses.job_index"), base_use.job_index)?;
        if usize::from(job) >= jobs {
            return Err(Invalid::new(
                format!("{field}.uses.job_index"),
                job,
                format!("the plan has {jobs} platforms"),
            ));
        }
        uses.push(BaseUse {
            job,
            image: base_use
                .image
                .parse()
                .map_err(|error: Invalid| error.of(format!("{field}.uses.image")))?,
            platform: base_use
                .platform
                .as_ref()
                .map(platform_from_proto)
                .transpose()
                .map_err(|error| error.of(format!("{field}.uses.platform")))?,
        });
    }
    Ok(Base { kind, line: message.line, span: message.start..message.end, token: message.token, uses })
}

/// Positions in the plan's platforms, each once.
fn positions(field: &str, given: &[u32], platforms: usize) -> Result<BTreeSet<u16>, Invalid> {
    let mut positions = BTreeSet::new();
    for index in given {
        let position = job_index(field, *index)?;
        if usize::from(position) >= platforms {
            return Err(Invalid::new(field, index, format!("the plan has {platforms} platforms")));
        }
        if !positions.insert(position) {
            return Err(Invalid::new(field, index, "it is named twice; name each position once"));
        }
    }
    Ok(positions)
}

fn staging(given: &str, output: Output) -> Result<Option<String>, Invalid> {
    let field = "plan.staging";
    match (output, given) {
        (Output::Candidate, "") => {
            Err(Invalid::new(field, "", "a candidate needs a repository to wait in, as HOST/NAME"))
        }
        (Output::Candidate, name) => {
            let reference: Reference = name.parse().map_err(|error: Invalid| error.of(field))?;
            // A name alone is given the tag `latest`; whoever names another means something else.
            if reference.digest().is_some() || reference.name() != name {
                let problem = format!("expected a repository without tag or digest: {}", reference.name());
                return Err(Invalid::new(field, name, problem));
            }
            Ok(Some(name.to_owned()))
        }
        (_, "") => Ok(None),
        (_, name) => Err(Invalid::new(field, name, "only a candidate waits in a staging repository")),
    }
}

fn list(platforms: &[Platform]) -> String {
    platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ")
}

fn tags(given: &[String], output: Output) -> Result<Vec<Reference>, Invalid> {
    at_most("plan.tags", given.len(), limits::PLAN_TAGS)?;
    if output == Output::Push && given.is_empty() {
        return Err(Invalid::new(
            "plan.tags",
            "",
            "a push needs at least one tag; give -t REGISTRY/NAME:TAG",
        ));
    }
    let mut tags: Vec<Reference> = Vec::with_capacity(given.len());
    for (at, text) in given.iter().enumerate() {
        let tag: Reference = text.parse().map_err(|error: Invalid| error.of(format!("plan.tags[{at}]")))?;
        if tag.digest().is_some() || tag.tag().is_none() {
            return Err(Invalid::new(
                format!("plan.tags[{at}]"),
                text,
                "a tag to publish has a name and no digest, as in registry.example/app:1.0",
            ));
        }
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

fn pairs(field: &str, pairs: &BTreeMap<String, String>) -> Result<(), Invalid> {
    at_most(field, pairs.len(), limits::PLAN_PAIRS)?;
    let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > limits::PLAN_PAIRS_BYTES {
        return Err(Invalid::new(
            field,
            format!("{bytes} bytes"),
            format!("names and values have at most {} bytes in all", limits::PLAN_PAIRS_BYTES),
        ));
    }
    if let Some(name) = pairs.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(Invalid::new(field, name, "a name is not empty and has no '='"));
    }
    Ok(())
}

fn hosts(field: &str, hosts: &[String]) -> Result<(), Invalid> {
    at_most(field, hosts.len(), limits::PLAN_REGISTRIES)?;
    let plain = |host: &String| {
        !host.is_empty()
            && host.len() <= 255
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
    };
    match hosts.iter().find(|host| !plain(host)) {
        Some(host) => Err(Invalid::new(field, host, "expected HOST[:PORT] of a registry")),
        None => Ok(()),
    }
}
