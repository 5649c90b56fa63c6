//! `archyard build --print`: a plan as JSON, for people and scripts.
//!
//! The order is stable: platforms, tags and bases as planned, context entries in walking order, maps by key.
//! Fields are only ever added. Digests read `blake3:<hex>`, sizes are bytes, modes octal text (`"0755"`).

use serde::{Serialize, Serializer};

use archyard_model::{
    Annotation, Base, BaseKind, Blake3, Checks, ContextEntry, ContextRef, EntryKind, Output, Plan, Platform,
    ProjectName, Reference, proxy,
};
use std::collections::{BTreeMap, BTreeSet};

use crate::Planned;

/// What is printed.
#[derive(Debug, Serialize)]
pub struct Printed<'a> {
    project: &'a ProjectName,
    platforms: &'a [Platform],
    trial: Vec<&'a Platform>,
    cross: Vec<&'a Platform>,
    output: Output,
    staging: Option<&'a str>,
    tags: &'a [Reference],
    dockerfile: File<'a>,
    target: Option<&'a str>,
    build_args: BTreeMap<String, String>,
    labels: &'a BTreeMap<String, String>,
    no_cache: bool,
    pull: bool,
    checks: &'a Checks,
    annotations: &'a [Annotation],
    bases: Vec<PrintedBase<'a>>,
    insecure_registries: &'a [String],
    credential_hosts: &'a [String],
    context: Context<'a>,
    warnings: &'a [String],
}

#[derive(Debug, Serialize)]
struct File<'a> {
    name: &'a str,
    digest: Blake3,
    size: usize,
}

/// A place of the Dockerfile that names an image.
#[derive(Debug, Serialize)]
struct PrintedBase<'a> {
    kind: BaseKind,
    line: u32,
    token: &'a str,
    uses: Vec<Use<'a>>,
}

/// What one platform's job needs there. Without `platform`, it is the worker's.
#[derive(Debug, Serialize)]
struct Use<'a> {
    job: &'a Platform,
    image: &'a Reference,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<&'a Platform>,
}

#[derive(Debug, Serialize)]
struct Context<'a> {
    #[serde(flatten)]
    reference: &'a ContextRef,
    /// What a build reads of its source, as its context holds only that.
    #[serde(skip_serializing_if = "Option::is_none")]
    inputs: Option<Vec<&'a String>>,
    ignore_file: Option<String>,
    entries: Entries<'a>,
}

#[derive(Debug)]
struct Entries<'a>(&'a [ContextEntry]);

/// A name in the context. `digest` and `size` are a file's, `to` is a link's.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    path: std::borrow::Cow<'a, str>,
    #[serde(rename = "type")]
    kind: &'static str,
    mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Blake3>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<std::borrow::Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<&'a str>,
}

impl Planned {
    /// The plan, to be serialized.
    pub fn printed(&self) -> Printed<'_> {
        let Plan { project, platforms, output, tags, target, build_args, labels, no_cache, pull, .. } =
            &self.plan;
        let Plan { bases, insecure_registries, credential_hosts, dockerfile, dockerfile_name, .. } =
            &self.plan;
        let Plan { checks, trial, cross, annotations, staging, .. } = &self.plan;
        Printed {
            project,
            platforms,
            trial: at(trial, platforms),
            cross: at(cross, platforms),
            output: *output,
            staging: staging.as_deref(),
            tags,
            dockerfile: File { name: dockerfile_name, digest: *dockerfile, size: self.dockerfile.len() },
            target: target.as_deref(),
            build_args: proxy::masked_arguments(build_args),
            labels,
            no_cache: *no_cache,
            pull: *pull,
            checks,
            annotations,
            bases: bases.iter().map(|base| print_base(base, platforms)).collect(),
            insecure_registries,
            credential_hosts,
            context: Context {
                reference: &self.snapshot.reference,
                inputs: self
                    .snapshot
                    .reference
                    .partial
                    .then(|| self.snapshot.manifest.inputs().paths().collect()),
                ignore_file: self.ignore_file.as_ref().map(|path| path.display().to_string()),
                entries: Entries(self.snapshot.manifest.entries()),
            },
            warnings: &self.warnings,
        }
    }
}

fn at<'a>(positions: &BTreeSet<u16>, platforms: &'a [Platform]) -> Vec<&'a Platform> {
    positions.iter().filter_map(|at| platforms.get(usize::from(*at))).collect()
}

fn print_base<'a>(base: &'a Base, platforms: &'a [Platform]) -> PrintedBase<'a> {
    let uses = base.uses.iter().filter_map(|each| {
        let job = platforms.get(usize::from(each.job))?;
        Some(Use { job, image: &each.image, platform: each.platform.as_ref() })
    });
    PrintedBase { kind: base.kind, line: base.line, token: &base.token, uses: uses.collect() }
}

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(print_entry))
    }
}

fn print_entry(entry: &ContextEntry) -> Entry<'_> {
    let (kind, size, digest, to) = match &entry.kind {
        EntryKind::File { size, digest } => ("file", Some(*size), Some(*digest), None),
        EntryKind::Directory => ("directory", None, None, None),
        EntryKind::Symlink { target } => ("symlink", None, None, Some(target)),
        EntryKind::Hardlink { target } => ("hardlink", None, None, Some(target)),
        EntryKind::Fifo => ("fifo", None, None, None),
        EntryKind::Device { .. } => ("device", None, None, None),
    };
    Entry {
        path: String::from_utf8_lossy(&entry.path),
        kind,
        mode: format!("{:04o}", entry.mode),
        size,
        digest,
        to: to.map(|target| String::from_utf8_lossy(target)),
        xattrs: entry.xattrs.iter().map(|(name, _)| name.as_str()).collect(),
    }
}
