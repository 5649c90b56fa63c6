//! `archyard rerun BUILD --failed`: a new build of what did not succeed, under the same lock.

use anyhow::Result;
use archyard_model::Plan;
use archyard_proto::v1 as proto;
use ulid::Ulid;

use crate::build::again::{AgainArgs, Builds, Logins};
use crate::build::destination::BackArgs;
use crate::build::prepare::own_platform;
use crate::commands::target::Target;
use crate::exit::{Exit, Refusal};
use crate::outputs::Outputs;
use crate::{edge, paths, runtime};

/// Build again what failed in a build, under the same lock, and complete the same index.
///
/// Plan, context and bases are those of that build; what succeeded there is taken over. The new build is followed like
/// one of `archyard build`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  archyard rerun --failed 01ARZ3NDEKTSV4RRFFQ69G5FAV
  archyard rerun --failed G5FAV                the end of an id will do

Exit codes are those of `archyard build`.")]
pub(crate) struct Args {
    /// The build: its id, or a beginning or end of it that fits no other
    build: Target,
    /// Only what did not succeed
    #[arg(long)]
    failed: bool,
    #[command(flatten)]
    back: BackArgs,
    /// Engine for --load [default: DOCKER_HOST or unix:///var/run/docker.sock]
    #[arg(long, value_name = "ENDPOINT", value_parser = edge::engine)]
    engine: Option<String>,
    #[command(flatten)]
    again: AgainArgs,
}

pub(crate) fn run(args: Args) -> Result<Exit> {
    if !args.failed {
        return Err(Refusal::usage(
            "rerun: say --failed to build again what did not succeed; to build all of it again, use archyard build",
        ));
    }
    runtime::small(rerun(args))
}

async fn rerun(args: Args) -> Result<Exit> {
    let origin = args.again.open(&args.build).await?;
    let outputs = args.outputs(&origin.plan, &origin.build).await?;
    let wanted = &origin.plan.credential_hosts;
    let logins = Logins::find(wanted).with_all(wanted, &origin.build)?;
    let request = proto::RerunBuildRequest {
        request_id: Ulid::new().to_string(),
        build_id: origin.build.clone(),
        credentials: logins.messages(),
    };
    let call = |mut client: Builds| {
        let request = request.clone();
        async move { client.rerun_build(request).await }
    };
    origin.follow(logins, outputs, call).await
}

impl Args {
    /// Looked at before anything is built. Where the first build's client wanted its result is not in the plan.
    async fn outputs(&self, plan: &Plan, build: &str) -> Result<Option<Outputs>> {
        match (self.back.chosen()?, plan.output.returns()) {
            (None, false) => Ok(None),
            (None, true) => Err(Refusal::usage(format!(
                "--output: what build {build} was to make comes back to its client; say where to, as in -o \
                 type=oci,dest=FILE, -o DIR or --load"
            ))),
            (Some(_), false) => Err(Refusal::usage(format!(
                "--output: nothing of build {build} comes back to its client; leave it out, or build again with it"
            ))),
            (Some(spec), true) => {
                let engine = self.engine.clone().map_or_else(paths::default_engine, Ok)?;
                Outputs::prepare(&spec, plan, own_platform().ok(), &engine).await
            }
        }
    }
}
