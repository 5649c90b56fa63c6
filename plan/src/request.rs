//! What a user asked for, and the plan that comes of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use archyard_model::{Blake3, ForeignPolicy, Inputs, Output, Plan, Platform, ProjectName, Reference};

use crate::dockerfile::{self, Question};
use crate::dockerignore::Ignore;
use crate::{Error, Snapshot, context, files, flags};

/// A build as the command line words it: nothing here has been parsed.
#[derive(Debug, Clone)]
pub struct PlanRequest {
    /// The directory that holds the source, relative to [`Host::directory`].
    pub context: PathBuf,
    /// `--file`, relative to [`Host::directory`]; `-` for standard input. None: `Dockerfile` in the context.
    pub dockerfile: Option<PathBuf>,
    /// `--tag`, each.
    pub tags: Vec<String>,
    /// `--platform`, each; a value may hold several, with commas. None: [`Host::platforms`].
    pub platforms: Vec<String>,
    /// `--trial`, each; a value may hold several, with commas.
    pub trial: Vec<String>,
    /// `--cross`, each; a value may hold several, with commas.
    pub cross: Vec<String>,
    /// `--target`.
    pub target: Option<String>,
    /// `--build-arg`, each: `NAME=VALUE`, or `NAME` for what the environment has.
    pub build_args: Vec<String>,
    /// `--label`, each: `NAME=VALUE`, or `NAME` for an empty value.
    pub labels: Vec<String>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--pull`.
    pub pull: bool,
    /// What the image must pass.
    pub checks: CheckFlags,
    /// `--annotation`, each: `[TYPE[PLATFORM][,TYPE...]:]KEY=VALUE`.
    pub annotations: Vec<String>,
    /// `check`, or what a flag asks for.
    pub output: Output,
    /// `--candidate`'s repository; read for that output alone.
    pub staging: Option<String>,
    /// `--project`.
    pub project: ProjectName,
    /// `--insecure-registry`, each: `HOST[:PORT]`.
    pub insecure_registries: Vec<String>,
}

/// The flags of what an image must pass.
#[derive(Debug, Clone, Default)]
pub struct CheckFlags {
    /// `--smoke-test`, each: words as for `docker run IMAGE WORDS`.
    pub smoke_tests: Vec<String>,
    /// `--smoke-test-network`.
    pub smoke_network: bool,
    /// `--smoke-test-writable`.
    pub smoke_writable: bool,
    /// `--smoke-test-timeout`: a duration, as in `60s`.
    pub smoke_timeout: Option<String>,
    /// `--smoke-test-memory`: a size as docker takes it, as in `512m`.
    pub smoke_memory: Option<String>,
    /// `--foreign`.
    pub foreign: ForeignPolicy,
    /// `--foreign-allow`, each: a glob over absolute paths.
    pub foreign_allow: Vec<String>,
    /// `--data-only`.
    pub data_only: bool,
}

impl PlanRequest {
    /// A check of what is in `context`, with every flag left out.
    pub fn new(context: impl Into<PathBuf>) -> Self {
        Self {
            context: context.into(),
            dockerfile: None,
            tags: Vec::new(),
            platforms: Vec::new(),
            trial: Vec::new(),
            cross: Vec::new(),
            target: None,
            build_args: Vec::new(),
            labels: Vec::new(),
            no_cache: false,
            pull: false,
            checks: CheckFlags::default(),
            annotations: Vec::new(),
            output: Output::Check,
            staging: None,
            project: ProjectName::default(),
            insecure_registries: Vec::new(),
        }
    }
}

/// What planning may know of the machine it runs on.
pub struct Host<'a> {
    /// Where relative paths start.
    pub directory: &'a Path,
    /// Where digests of unchanged files are remembered, one file a context; made if missing. None: nowhere.
    pub cache: Option<&'a Path>,
    /// This machine's: built for when neither the request nor the environment names a platform, and what `local` means.
    pub platforms: &'a [Platform],
    /// Build arguments that name the user's proxies. One of the request wins, in whatever case it is written.
    pub proxies: &'a [(String, String)],
    /// The environment: for `--build-arg NAME`, `DOCKER_DEFAULT_PLATFORM` and `SOURCE_DATE_EPOCH`.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Whether there are credentials for a registry (`docker.io`, `127.0.0.1:5000`).
    pub has_credentials: &'a dyn Fn(&str) -> bool,
    /// Standard input, for `--file -`. Asked at most once.
    pub stdin: &'a dyn Fn() -> io::Result<Vec<u8>>,
}

/// A plan, and the bytes it speaks of.
#[derive(Debug, Clone)]
pub struct Planned {
    /// To submit.
    pub plan: Plan,
    /// The context's files.
    pub snapshot: Arc<Snapshot>,
    /// Where they are from, to look at once more.
    pub origin: Origin,
    /// The blob [`Plan::dockerfile`].
    pub dockerfile: Vec<u8>,
    /// The ignore file that chose the context's files, as the user would write it.
    pub ignore_file: Option<PathBuf>,
    /// What is odd, but no reason to refuse; one line each.
    pub warnings: Vec<String>,
}

/// A directory, and what of it is no part of a context.
#[derive(Debug, Clone)]
pub struct Origin {
    root: PathBuf,
    ignore: Arc<Ignore>,
    cache: Option<PathBuf>,
}

impl Origin {
    /// Scans the directory for what `inputs` lead to, as it is now. Blocks for as long as the disk does.
    ///
    /// # Errors
    /// As [`plan`], of the context.
    pub fn scan(&self, inputs: &Inputs) -> Result<Snapshot, Error> {
        context::scan(&self.root, &self.ignore, inputs, self.cache.as_deref())
    }
}

impl Planned {
    /// The same plan of the files as they are now.
    ///
    /// # Errors
    /// As [`Origin::scan`].
    pub fn again(&self) -> Result<Self, Error> {
        let snapshot = self.origin.scan(self.snapshot.manifest.inputs())?;
        let mut again = self.clone();
        again.plan.context = snapshot.reference.clone();
        again.snapshot = Arc::new(snapshot);
        Ok(again)
    }
}

/// Resolves a request. Flags are checked before any file is read, and the Dockerfile before the context is.
///
/// # Errors
/// Whatever is wrong first, with the flag or file it is in and how to mend it.
pub fn plan(request: &PlanRequest, host: &Host<'_>) -> Result<Planned, Error> {
    let mut warnings = Vec::new();
    let flags::Platforms { all: platforms, trial, cross } = flags::platforms(request, host)?;
    let tags = flags::tags(&request.tags, request.output)?;
    let staging = flags::staging(request.staging.as_deref(), request.output)?;
    let build_args = flags::build_args(&request.build_args, host, &mut warnings)?;
    let labels = flags::labels(&request.labels)?;
    let checks = flags::checks(&request.checks)?;
    let annotations = flags::annotations(&request.annotations, &platforms)?;
    let insecure_registries = flags::insecure_registries(&request.insecure_registries)?;

    let root = context::find_root(host.directory, &request.context)?;
    let file = files::dockerfile(request, host, &root)?;
    let name = file.name.display().to_string();
    let target = request.target.as_deref().filter(|target| !target.is_empty());
    let question =
        Question { name: &name, platforms: &platforms, cross: &cross, target, build_args: &build_args };
    let found = dockerfile::bases(&file.bytes, &question)?;
    warnings.extend(found.warnings);

    let (ignore, ignore_file) = files::ignore(request, &file, &root)?;
    let cache = host.cache.map(Path::to_owned);
    let origin = Origin { root, ignore: Arc::new(ignore), cache };
    let snapshot = Arc::new(origin.scan(&found.inputs)?);
    warnings.extend(lost_attributes(&snapshot, request.output));
    let mut plan = Plan {
        project: request.project.clone(),
        platforms,
        output: request.output,
        tags,
        context: snapshot.reference.clone(),
        dockerfile: Blake3::of(&file.bytes),
        dockerfile_name: name,
        target: target.map(str::to_owned),
        build_args,
        labels,
        no_cache: request.no_cache,
        pull: request.pull,
        bases: found.bases,
        insecure_registries,
        credential_hosts: Vec::new(),
        checks,
        trial,
        cross,
        annotations,
        staging,
    };
    plan.credential_hosts = credential_hosts(&plan, host);
    Ok(Planned { plan, snapshot, origin, dockerfile: file.bytes, ignore_file, warnings })
}

/// Attributes that a build sees and its image may lack: Docker Engines write no `trusted.*` into layers.
fn lost_attributes(snapshot: &Snapshot, output: Output) -> Option<String> {
    let is_trusted = |(name, _): &&(String, Vec<u8>)| name.starts_with("trusted.");
    let entries = snapshot.manifest.entries().iter().filter(|_| !output.is_files());
    let mut found = entries.filter_map(|entry| Some((entry, entry.xattrs.iter().find(is_trusted)?)));
    let (entry, (name, _)) = found.next()?;
    let more = match found.count() {
        0 => String::new(),
        more => format!(" (and {more} more files have such attributes)"),
    };
    let path = String::from_utf8_lossy(&entry.path);
    Some(format!(
        "context: {path}{more}: steps see its attribute {name}, but Docker leaves it out of image layers"
    ))
}

/// The registries that this build speaks to and that there are credentials for, sorted.
fn credential_hosts(plan: &Plan, host: &Host<'_>) -> Vec<String> {
    // One that does not parse was refused before.
    let pushed = plan.repositories().into_iter().filter_map(|name| name.parse::<Reference>().ok());
    let pulled = plan.bases.iter().flat_map(|base| &base.uses).map(|each| each.image.clone());
    let mut hosts: Vec<String> = pushed.chain(pulled).map(|image| image.registry().to_owned()).collect();
    hosts.sort();
    hosts.dedup();
    hosts.retain(|registry| (host.has_credentials)(registry));
    hosts
}
