//! `archyard build`: a plan, a farm, and the build's end as an exit code.

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use archyard_model::ProjectName;
use archyard_plan::PlanRequest;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::args::{FarmArgs, PatienceArgs};
use crate::build::attend::Attend;
use crate::build::checks::CheckArgs;
use crate::build::destination::{Destination, DestinationArgs};
use crate::build::display::Display;
use crate::build::prepare::{Prepared, own_platform, prepare};
use crate::build::results::Files;
use crate::build::submit::Submission;
use crate::build::upload::{Cargo, upload};
use crate::build::{UPDATES, Updates};
use crate::exit::Exit;
use crate::farm::Farm;
use crate::local::LocalFarm;
use crate::outputs::Outputs;
use crate::progress::Update;
use crate::{edge, exit, paths, roles, runtime};

/// Scans of a context whose files change while they are uploaded.
const SCANS: usize = 4;

/// Build an image on every platform asked for, each on a worker that runs it natively.
///
/// Flags are those of `docker buildx build`. Without --push the image is built and verified, and nothing is published.
/// With --push one index over all platforms is published under every tag, after the last platform has succeeded.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --push the image is built and verified, and nothing is published. With it
one index is published under every tag, after the last platform has succeeded.

Examples:
  archyard build .                                  for this machine's platform
  archyard build --platform linux/amd64,linux/arm64 --push -t r.example/app:1 .
  archyard build -f ci/Dockerfile --target test --build-arg GO=1.25 .
  archyard build --print --platform linux/arm64 .   the plan; talks to nobody
  archyard build -q --push -t r.example/app .       prints the index's digest
  archyard build --smoke-test 'app --version' .     fails unless that runs
  archyard build --platform linux/amd64 --trial linux/riscv64 .
  archyard build --candidate r.example/staging -t r.example/app:1 .

Ctrl-C cancels the build and waits for its end; a second one leaves at once.
A build outlives its client: archyard logs -f BUILD follows it.
Exit codes: 0 every platform succeeded and every tag moved, 1 failed, 2 usage,
3 farm unavailable, 4 built but a newer build has a tag, 130 canceled.")]
pub(crate) struct Args {
    /// Folder with the source
    context: PathBuf,
    /// Name and tag for the result, as REGISTRY/NAME:TAG; repeat for several
    #[arg(short, long = "tag", value_name = "NAME")]
    pub(crate) tags: Vec<String>,
    /// The Dockerfile; `-` reads it from standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    file: Option<PathBuf>,
    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Platforms, with commas or repeated, as in linux/amd64,linux/arm64 [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<String>,
    /// Platforms on trial: built and checked like the rest, but they neither fail the build nor enter
    /// the index
    #[arg(long, value_name = "PLATFORM")]
    trial: Vec<String>,
    /// Platforms that may be built on another machine where no worker runs them; needs a Dockerfile that
    /// runs nothing there
    #[arg(long, value_name = "PLATFORM")]
    cross: Vec<String>,
    #[command(flatten)]
    destination: DestinationArgs,
    /// Build argument, as NAME=VALUE, or NAME for what the environment has; repeat for several
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Label for the image, as NAME=VALUE; repeat for several
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Annotation, as [TYPE[PLATFORM][,TYPE...]:]KEY=VALUE with types manifest, index and
    /// manifest-descriptor; repeat for several [default type: manifest]
    #[arg(long, value_name = "ANNOTATION")]
    annotation: Vec<String>,
    /// Run every step again
    #[arg(long)]
    no_cache: bool,
    /// Ask registries again even where an Engine has the base
    #[arg(long)]
    pull: bool,
    /// Registry that may be spoken to without TLS, as HOST[:PORT]; loopback always may
    #[arg(long, value_name = "HOST")]
    insecure_registry: Vec<String>,
    /// Whose build it is: unit of fair share and of cache scope
    #[arg(long, value_name = "NAME", default_value_t)]
    project: ProjectName,
    /// Print the plan as JSON and stop
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    display: Display,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    checks: CheckArgs,
    /// Engine for --load, and for a build without a farm [default: DOCKER_HOST or unix:///var/run/docker.sock]
    #[arg(long, value_name = "ENDPOINT", value_parser = edge::engine)]
    engine: Option<String>,
    #[command(flatten)]
    farm: FarmArgs,
    #[command(flatten)]
    patience: PatienceArgs,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    args.display.resolved()?;
    let destination = args.destination.chosen()?;
    let request = args.request(&destination);
    let known = Farm::known(&args.farm);
    // This user's configuration does not know the Engines of a farm.
    let engine = known.is_none().then(|| args.engine()).transpose()?;
    if args.print {
        return print(&args.checked(prepare(&request, engine.as_deref())?)?);
    }
    args.files.clear()?;
    // A farm in this very process needs threads; without one they only wake each other.
    match known {
        Some(endpoint) => runtime::small(async {
            // A farm takes as long to answer as a small context to be read.
            let farm = Farm::connect(endpoint, args.farm.tls_dir().map(Path::to_owned));
            #[expect(clippy::disallowed_methods, reason = "its handle owns it")]
            let farm = AbortOnDropHandle::new(tokio::spawn(farm));
            let prepared =
                spawn_blocking(move || prepare(&request, None)).await.context("planning broke off")?;
            let prepared = args.checked(prepared?)?;
            let farm = farm.await.context("connecting broke off")??;
            let outputs = args.outputs(&destination, &prepared).await?;
            let outcome = attended(args, &prepared, outputs, farm).await;
            // The process ends: to free every entry of a large context before takes as long as to read it.
            std::mem::forget(prepared);
            outcome
        }),
        None => {
            roles::reach_registries()?;
            let prepared = args.checked(prepare(&request, engine.as_deref())?)?;
            runtime::full(async {
                let outputs = args.outputs(&destination, &prepared).await?;
                at_home(args, &prepared, outputs).await
            })
        }
    }
}

/// On a farm of its own.
async fn at_home(args: &Args, prepared: &Prepared, outputs: Option<Outputs>) -> Result<Exit> {
    let mut local = LocalFarm::start(args.engine.as_deref()).await?;
    let attended = attended(args, prepared, outputs, local.farm.clone());
    let outcome = tokio::select! {
        outcome = attended => outcome,
        error = local.broken() => Err(error),
    };
    local.stop().await;
    outcome
}

async fn attended(args: &Args, prepared: &Prepared, outputs: Option<Outputs>, farm: Farm) -> Result<Exit> {
    let stop = CancellationToken::new();
    let (updates, told) = mpsc::channel(UPDATES);
    let submitted = submitted(&farm, prepared, stop.clone(), updates.clone());
    let attend = Attend {
        farm: farm.clone(),
        plan: &prepared.planned.plan,
        planned: Some(Arc::clone(&prepared.planned)),
        logins: prepared.logins.clone(),
        display: &args.display,
        files: &args.files,
        outputs,
        patience: args.patience.farm_timeout,
        stop,
        updates,
        told,
    };
    Box::pin(attend.run(submitted)).await
}

/// The build's id. A wish to stop ends an upload at once; a submission is waited for, for it may have been taken.
async fn submitted(
    farm: &Farm,
    prepared: &Prepared,
    stop: CancellationToken,
    updates: Updates,
) -> Result<String> {
    for warning in &prepared.warnings {
        updates.send(Update::Note(warning.clone())).await.ok();
    }
    let mut planned = Arc::clone(&prepared.planned);
    let mut scans = 1;
    loop {
        let submission = Submission::new(farm, &planned, &prepared.logins, &updates);
        if let Some(build) = submission.without_upload().await? {
            return Ok(build);
        }
        let cargo = Cargo::of(&planned);
        let uploaded = tokio::select! {
            outcome = upload(farm, &cargo, &updates) => outcome,
            () = stop.cancelled() => {
                return Err(exit::Refusal::canceled("canceled before the farm had the build"));
            }
        };
        match uploaded {
            Ok(()) => return submission.after_upload().await,
            // A file was written to since it was read: its new content is as good.
            Err(error) if scans < SCANS && has_changed(&error) => scans += 1,
            Err(error) => return Err(error),
        }
        let stale = Arc::clone(&planned);
        let again = spawn_blocking(move || stale.again()).await.context("planning broke off")??;
        planned = Arc::new(again);
    }
}

fn has_changed(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(archyard_plan::Error::FileChanged { .. }))
}

fn print(prepared: &Prepared) -> Result<Exit> {
    use std::io::Write as _;
    let mut err = std::io::stderr().lock();
    for warning in &prepared.warnings {
        writeln!(err, "{warning}")?;
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, &prepared.planned.printed())?;
    writeln!(out)?;
    out.flush()?;
    Ok(Exit::Success)
}

impl Args {
    fn request(&self, destination: &Destination) -> PlanRequest {
        PlanRequest {
            context: self.context.clone(),
            dockerfile: self.file.clone(),
            tags: self.tags.clone(),
            platforms: self.platform.clone(),
            trial: self.trial.clone(),
            cross: self.cross.clone(),
            target: self.target.clone(),
            build_args: self.build_arg.clone(),
            labels: self.label.clone(),
            no_cache: self.no_cache,
            pull: self.pull,
            checks: self.checks.flags(),
            annotations: self.annotation.clone(),
            output: destination.output(),
            staging: match destination {
                Destination::Candidate(repository) => Some(repository.clone()),
                Destination::Spec(_) => None,
            },
            project: self.project.clone(),
            insecure_registries: self.insecure_registry.clone(),
        }
    }

    /// The plan, if its results can go where they were asked to.
    fn checked(&self, prepared: Prepared) -> Result<Prepared> {
        self.files.check(&prepared.planned.plan)?;
        Ok(prepared)
    }

    /// Looked at before anything is built.
    async fn outputs(&self, destination: &Destination, prepared: &Prepared) -> Result<Option<Outputs>> {
        let Destination::Spec(spec) = destination else { return Ok(None) };
        Outputs::prepare(spec, &prepared.planned.plan, own_platform().ok(), &self.engine()?).await
    }

    /// The Engine for `--load`, and for a build without a farm.
    fn engine(&self) -> Result<String> {
        match self.engine.clone().filter(|engine| !engine.is_empty()) {
            Some(engine) => Ok(engine),
            None => Ok(paths::default_engine()?),
        }
    }
}
