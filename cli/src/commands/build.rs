//! `archyard build`: a plan, a farm, and the build's end as an exit code.

use std::io::{BufWriter, IsTerminal as _};
use std::path::PathBuf;

use anyhow::Result;
use archyard_model::{BuildState, Output, ProjectName};
use archyard_plan::PlanRequest;
use tokio::sync::mpsc;
use ulid::Ulid;

use crate::args::FarmArgs;
use crate::build::checks::CheckArgs;
use crate::build::follow::Follow;
use crate::build::prepare::{Prepared, prepare};
use crate::build::results::{self, Files};
use crate::build::session::Session;
use crate::build::submit::submit;
use crate::build::{UPDATES, Updates};
use crate::exit::Exit;
use crate::farm::Farm;
use crate::local::LocalFarm;
use crate::progress::{Board, Json, Plain, Quiet, Renderer, Story, Tty, Update};
use crate::{exit, runtime};

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
Exit codes: 0 every platform succeeded, 1 failed, 2 usage, 3 farm unavailable,
130 canceled.")]
pub(crate) struct Args {
    /// Folder with the source
    context: PathBuf,
    /// Name and tag for the result, as REGISTRY/NAME:TAG; repeat for several
    #[arg(short, long = "tag", value_name = "NAME")]
    pub(crate) tags: Vec<String>,
    /// The Dockerfile; `-` reads it from standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
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
    /// Publish under every tag
    #[arg(long)]
    push: bool,
    /// Publish into this repository under a tag of its own, for `archyard promote` to give it --tag
    #[arg(long, value_name = "REPOSITORY")]
    candidate: Option<String>,
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
    /// How progress is shown: auto, tty, plain, json or quiet
    #[arg(long, value_enum, value_name = "KIND", default_value_t, hide_possible_values = true)]
    progress: Progress,
    /// Print image IDs only: the index's digest for --push
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    /// Print everything that happens on standard output, one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    checks: CheckArgs,
    /// Engine for a build without a farm [default: DOCKER_HOST or unix:///var/run/docker.sock]
    #[arg(long, value_name = "ENDPOINT")]
    engine: Option<String>,
    #[command(flatten)]
    farm: FarmArgs,
}

/// `--progress`: a block that moves on a terminal, else lines; or what `--json` and `--quiet` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Progress {
    #[default]
    Auto,
    Tty,
    Plain,
    Json,
    Quiet,
}

pub(crate) fn run(args: Args) -> Result<Exit> {
    let prepared = prepare(&args.request()?)?;
    args.files.check(&prepared.planned.plan)?;
    if args.print {
        return print(&prepared);
    }
    runtime::full(build(args, prepared))
}

async fn build(args: Args, prepared: Prepared) -> Result<Exit> {
    let plan = prepared.planned.plan.clone();
    let (farm, mut local) = match Farm::known(&args.farm) {
        Some(endpoint) => (Farm::connect(endpoint, args.farm.tls_dir()).await?, None),
        None => {
            let local = LocalFarm::start(args.engine.as_deref()).await?;
            (local.farm.clone(), Some(local))
        }
    };
    let board = Board::new(&plan.platforms);
    let renderer = args.renderer(&board);
    let mut session = Session::new(board, renderer);
    session.on_interrupt = Some("canceling the build; press Ctrl-C again to leave at once");
    let stop = session.stop.clone();
    let (updates, told) = mpsc::channel(UPDATES);
    let work = async move {
        for warning in &prepared.warnings {
            updates.send(Update::Note(warning.clone())).await.ok();
        }
        let build = submitted(&farm, &prepared, &stop, &updates).await?;
        let follow = Follow { farm, build, logins: prepared.logins, jobs: None, updates };
        tokio::select! {
            outcome = follow.to_the_end() => outcome,
            // Canceling ends nothing by itself: the build's end is waited for.
            () = async { follow.cancel_on(&stop).await; std::future::pending().await } => Ok(()),
        }
    };
    let outcome = match &mut local {
        None => session.run(work, told).await,
        Some(local) => tokio::select! {
            outcome = session.run(work, told) => outcome,
            error = local.broken() => Err(error),
        },
    };
    if let Some(local) = local {
        local.stop().await;
    }
    // A screen that went away changes nothing about the build.
    let (board, _screen) = outcome?;
    let exit = exit_of(&board);
    if exit == Exit::Success {
        args.files.write(&plan, &board)?;
        if !args.is_json() {
            results::print(&mut std::io::stdout().lock(), args.is_quiet(), &plan, &board)?;
        }
    }
    Ok(exit)
}

/// The build's id. A wish to stop ends an upload at once; a submission is waited for, for it may have been taken.
async fn submitted(
    farm: &Farm,
    prepared: &Prepared,
    stop: &tokio_util::sync::CancellationToken,
    updates: &Updates,
) -> Result<String> {
    let upload = crate::build::upload::upload(farm, &prepared.planned, updates);
    tokio::select! {
        outcome = upload => outcome?,
        () = stop.cancelled() => return Err(exit::Refusal::canceled("canceled before the farm had the build")),
    }
    submit(farm, &prepared.planned, &prepared.logins, Ulid::new(), updates).await
}

fn exit_of(board: &Board) -> Exit {
    match board.ended.as_ref().map(|ended| ended.state) {
        Some(BuildState::Succeeded) => Exit::Success,
        Some(BuildState::Canceled) => Exit::Canceled,
        _ => Exit::Failed,
    }
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
    fn request(&self) -> Result<PlanRequest> {
        Ok(PlanRequest {
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
            output: self.output()?,
            staging: self.candidate.clone(),
            project: self.project.clone(),
            insecure_registries: self.insecure_registry.clone(),
        })
    }

    fn output(&self) -> Result<Output> {
        match (&self.candidate, self.push) {
            (Some(repository), true) => Err(exit::Refusal::usage(format!(
                "--candidate {repository:?}: a candidate gets no tags yet; leave out --push, or push without --candidate"
            ))),
            (Some(_), false) => Ok(Output::Candidate),
            (None, true) => Ok(Output::Push),
            (None, false) => Ok(Output::Check),
        }
    }

    fn is_json(&self) -> bool {
        self.json || self.progress == Progress::Json
    }

    fn is_quiet(&self) -> bool {
        self.quiet || self.progress == Progress::Quiet
    }

    fn renderer(&self, board: &Board) -> Box<dyn Renderer> {
        let err = || BufWriter::new(std::io::stderr());
        if self.is_json() {
            return Box::new(Json(BufWriter::new(std::io::stdout())));
        }
        if self.is_quiet() {
            return Box::new(Quiet(err()));
        }
        let tty = match self.progress {
            Progress::Tty => true,
            Progress::Plain => false,
            _ => std::io::stderr().is_terminal() && !console::is_dumb(),
        };
        let colours = std::io::stderr().is_terminal() && console::colors_enabled_stderr();
        if tty { Box::new(Tty::new()) } else { Box::new(Plain::new(err(), Story::Build, colours, board)) }
    }
}
