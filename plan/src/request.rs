//! What a user asked for, and the plan that comes of it.

use std::io;
use std::path::{Path, PathBuf};

use archyard_model::{Output, Plan, Platform, ProjectName};

use crate::{Error, Snapshot};

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
    /// `check`, or `push` with `--push`.
    pub output: Output,
    /// `--project`.
    pub project: ProjectName,
    /// `--insecure-registry`, each: `HOST[:PORT]`.
    pub insecure_registries: Vec<String>,
}

impl PlanRequest {
    /// A check of what is in `context`, with every flag left out.
    pub fn new(context: impl Into<PathBuf>) -> Self {
        Self {
            context: context.into(),
            dockerfile: None,
            tags: Vec::new(),
            platforms: Vec::new(),
            target: None,
            build_args: Vec::new(),
            labels: Vec::new(),
            no_cache: false,
            pull: false,
            output: Output::Check,
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
    /// Built for when the request names no platform.
    pub platforms: &'a [Platform],
    /// The environment, for `--build-arg NAME`.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Whether there are credentials for a registry (`docker.io`, `127.0.0.1:5000`).
    pub has_credentials: &'a dyn Fn(&str) -> bool,
    /// Standard input, for `--file -`. Asked at most once.
    pub stdin: &'a dyn Fn() -> io::Result<Vec<u8>>,
}

/// A plan, and the bytes it speaks of.
#[derive(Debug)]
pub struct Planned {
    /// To submit.
    pub plan: Plan,
    /// The context's files.
    pub snapshot: Snapshot,
    /// The blob [`Plan::dockerfile`].
    pub dockerfile: Vec<u8>,
    /// The ignore file that chose the context's files, as the user would write it.
    pub ignore_file: Option<PathBuf>,
    /// What is odd, but no reason to refuse; one line each.
    pub warnings: Vec<String>,
}

/// Resolves a request.
///
/// # Errors
/// Whatever is wrong first, with the flag or file it is in and how to mend it.
pub fn plan(request: &PlanRequest, host: &Host<'_>) -> Result<Planned, Error> {
    let root = host.directory.join(&request.context);
    Err(Error::Io { path: root, source: io::ErrorKind::Unsupported.into() })
}
