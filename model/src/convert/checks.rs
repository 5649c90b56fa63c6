//! What an image must pass, what was found in it, and what is written on it.

use std::time::Duration;

use archyard_proto::v1 as proto;

use super::{at_most, platform_from_proto, platform_to_proto, text_at_most};
use crate::{
    Annotation, AnnotationLevel, Artifact, Checks, ForeignFile, ForeignPolicy, Inspection, Invalid,
    SmokeOutcome, limits,
};

pub(super) fn checks_to_proto(checks: &Checks) -> proto::Checks {
    let foreign = match checks.foreign {
        ForeignPolicy::Allow => proto::ForeignPolicy::Allow,
        ForeignPolicy::Warn => proto::ForeignPolicy::Warn,
        ForeignPolicy::Deny => proto::ForeignPolicy::Deny,
    };
    proto::Checks {
        smoke_tests: checks.smoke_tests.clone(),
        smoke_network: checks.smoke_network,
        smoke_writable: checks.smoke_writable,
        smoke_timeout_ms: u64::try_from(checks.smoke_timeout.as_millis()).unwrap_or(u64::MAX),
        smoke_memory_bytes: checks.smoke_memory,
        foreign: foreign.into(),
        foreign_allow: checks.foreign_allow.clone(),
        data_only: checks.data_only,
    }
}

/// None: a plan of before there were any.
pub(super) fn checks_from_proto(field: &str, message: Option<proto::Checks>) -> Result<Checks, Invalid> {
    let Some(message) = message else { return Ok(Checks::default()) };
    let named = |name: &str| format!("{field}.{name}");
    let foreign = match message.foreign() {
        proto::ForeignPolicy::Allow => ForeignPolicy::Allow,
        proto::ForeignPolicy::Warn => ForeignPolicy::Warn,
        proto::ForeignPolicy::Deny => ForeignPolicy::Deny,
        proto::ForeignPolicy::Unspecified => {
            return Err(Invalid::new(named("foreign"), "unspecified", "expected ALLOW, WARN or DENY"));
        }
    };
    at_most(&named("smoke_tests"), message.smoke_tests.len(), limits::SMOKE_TESTS)?;
    for words in &message.smoke_tests {
        text_at_most(&named("smoke_tests"), words, limits::SMOKE_TEST_BYTES)?;
    }
    if message.data_only && !message.smoke_tests.is_empty() {
        let problem = "an image that only holds files cannot be run; leave out one of the two";
        return Err(Invalid::new(named("smoke_tests"), message.smoke_tests.join(", "), problem));
    }
    at_most(&named("foreign_allow"), message.foreign_allow.len(), limits::FOREIGN_GLOBS)?;
    for glob in &message.foreign_allow {
        text_at_most(&named("foreign_allow"), glob, limits::FOREIGN_GLOB_BYTES)?;
    }
    let smoke_timeout = Duration::from_millis(message.smoke_timeout_ms);
    if !(limits::SMOKE_TIMEOUT_MIN..=limits::SMOKE_TIMEOUT_MAX).contains(&smoke_timeout) {
        let problem = format!(
            "a smoke test may take {} s to {} s",
            limits::SMOKE_TIMEOUT_MIN.as_secs(),
            limits::SMOKE_TIMEOUT_MAX.as_secs()
        );
        return Err(Invalid::new(named("smoke_timeout_ms"), message.smoke_timeout_ms, problem));
    }
    let memory = limits::SMOKE_MEMORY_MIN_BYTES..=limits::SMOKE_MEMORY_MAX_BYTES;
    if !memory.contains(&message.smoke_memory_bytes) {
        let problem = format!("a smoke test may use {} to {} bytes of memory", memory.start(), memory.end());
        return Err(Invalid::new(named("smoke_memory_bytes"), message.smoke_memory_bytes, problem));
    }
    Ok(Checks {
        smoke_tests: message.smoke_tests,
        smoke_network: message.smoke_network,
        smoke_writable: message.smoke_writable,
        smoke_timeout,
        smoke_memory: message.smoke_memory_bytes,
        foreign,
        foreign_allow: message.foreign_allow,
        data_only: message.data_only,
    })
}

pub(super) fn inspection_to_proto(inspection: &Inspection) -> proto::Inspection {
    proto::Inspection {
        command: inspection.command.clone().unwrap_or_default(),
        machine: inspection.machine.clone().unwrap_or_default(),
        requires: inspection.requires.clone().unwrap_or_default(),
        foreign: inspection
            .foreign
            .iter()
            .map(|file| proto::ForeignFile { path: file.path.clone(), machine: file.machine.clone() })
            .collect(),
        foreign_files: inspection.foreign_files,
    }
}

pub(super) fn inspection_from_proto(message: proto::Inspection) -> Result<Inspection, Invalid> {
    at_most("image.inspection.foreign", message.foreign.len(), limits::INSPECT_FOREIGN_LISTED)?;
    let some = |text: String| (!text.is_empty()).then_some(text);
    Ok(Inspection {
        command: some(message.command),
        machine: some(message.machine),
        requires: some(message.requires),
        foreign: message
            .foreign
            .into_iter()
            .map(|file| ForeignFile { path: file.path, machine: file.machine })
            .collect(),
        foreign_files: message.foreign_files,
    })
}

pub(super) fn smoke_to_proto(outcome: SmokeOutcome) -> proto::SmokeOutcome {
    match outcome {
        SmokeOutcome::NotAsked => proto::SmokeOutcome::NotAsked,
        SmokeOutcome::Passed => proto::SmokeOutcome::Passed,
        SmokeOutcome::NotRun => proto::SmokeOutcome::NotRun,
    }
}

/// Unspecified: a result of before there were any.
pub(super) fn smoke_from_proto(outcome: proto::SmokeOutcome) -> SmokeOutcome {
    match outcome {
        proto::SmokeOutcome::NotAsked | proto::SmokeOutcome::Unspecified => SmokeOutcome::NotAsked,
        proto::SmokeOutcome::Passed => SmokeOutcome::Passed,
        proto::SmokeOutcome::NotRun => SmokeOutcome::NotRun,
    }
}

pub(super) fn artifact_to_proto(artifact: &Artifact) -> proto::Artifact {
    proto::Artifact {
        media_type: artifact.media_type.clone(),
        digest: artifact.digest.to_string(),
        size_bytes: artifact.size,
        blob: artifact.blob.to_string(),
    }
}

pub(super) fn artifact_from_proto(message: proto::Artifact) -> Result<Artifact, Invalid> {
    Ok(Artifact {
        digest: message.digest.parse().map_err(|error: Invalid| error.of("image.artifacts.digest"))?,
        size: message.size_bytes,
        blob: message.blob.parse().map_err(|error: Invalid| error.of("image.artifacts.blob"))?,
        media_type: message.media_type,
    })
}

pub(super) fn annotation_to_proto(annotation: &Annotation) -> proto::Annotation {
    let level = match annotation.level {
        AnnotationLevel::Manifest => proto::AnnotationLevel::Manifest,
        AnnotationLevel::Index => proto::AnnotationLevel::Index,
        AnnotationLevel::ManifestDescriptor => proto::AnnotationLevel::ManifestDescriptor,
    };
    proto::Annotation {
        level: level.into(),
        platform: annotation.platform.as_ref().map(platform_to_proto),
        key: annotation.key.clone(),
        value: annotation.value.clone(),
    }
}

pub(super) fn annotations_from_proto(
    field: &str,
    messages: Vec<proto::Annotation>,
) -> Result<Vec<Annotation>, Invalid> {
    at_most(field, messages.len(), limits::PLAN_ANNOTATIONS)?;
    let bytes: usize = messages.iter().map(|message| message.key.len() + message.value.len()).sum();
    if bytes > limits::PLAN_ANNOTATIONS_BYTES {
        let problem = format!("keys and values have at most {} bytes in all", limits::PLAN_ANNOTATIONS_BYTES);
        return Err(Invalid::new(field, format!("{bytes} bytes"), problem));
    }
    messages.into_iter().map(|message| annotation_from_proto(field, message)).collect()
}

fn annotation_from_proto(field: &str, message: proto::Annotation) -> Result<Annotation, Invalid> {
    let level = match message.level() {
        proto::AnnotationLevel::Manifest => AnnotationLevel::Manifest,
        proto::AnnotationLevel::Index => AnnotationLevel::Index,
        proto::AnnotationLevel::ManifestDescriptor => AnnotationLevel::ManifestDescriptor,
        proto::AnnotationLevel::Unspecified => {
            return Err(Invalid::new(format!("{field}.level"), "unspecified", "say what it is put on"));
        }
    };
    if message.key.is_empty() {
        return Err(Invalid::new(format!("{field}.key"), "", "an annotation has a key"));
    }
    let platform = message.platform.as_ref().map(platform_from_proto).transpose();
    let platform = platform.map_err(|error| error.of(format!("{field}.platform")))?;
    if platform.is_some() && level == AnnotationLevel::Index {
        let problem = "the index is that of all platforms; name none";
        return Err(Invalid::new(format!("{field}.platform"), message.key, problem));
    }
    Ok(Annotation { level, platform, key: message.key, value: message.value })
}
