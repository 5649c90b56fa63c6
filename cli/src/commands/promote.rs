//! `archyard promote BUILD`: a candidate's very digests get their tags. Nothing is built.

use anyhow::Result;
use archyard_model::plan::promotion_registries;
use archyard_model::{Output, Reference};
use archyard_plan::flags;
use archyard_proto::v1 as proto;
use ulid::Ulid;

use crate::build::again::{AgainArgs, Builds, Logins};
use crate::commands::target::Target;
use crate::exit::{Exit, Refusal};
use crate::runtime;

/// Give a candidate's very digests their tags, once it was seen that all of them are still there.
///
/// Without --tag, those that the candidate was built with.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  archyard build --candidate r.example/staging -t r.example/app:1 .
  archyard promote G5FAV                       r.example/app:1 is that candidate
  archyard promote -t r.example/app:latest G5FAV

Exit codes are those of `archyard build`.")]
pub(crate) struct Args {
    /// The candidate: its build's id, or a beginning or end of it that fits no other
    build: Target,
    /// Tag to move to it, as REGISTRY/NAME:TAG; repeat for several [default: those it was built with]
    #[arg(short, long = "tag", value_name = "NAME")]
    tags: Vec<String>,
    /// Registry that may be spoken to without TLS, as HOST[:PORT]; loopback always may
    #[arg(long, value_name = "HOST")]
    insecure_registry: Vec<String>,
    #[command(flatten)]
    again: AgainArgs,
}

pub(crate) fn run(args: Args) -> Result<Exit> {
    let tags = flags::tags(&args.tags, Output::Candidate)?;
    let insecure_registries = flags::insecure_registries(&args.insecure_registry)?;
    runtime::small(promote(args, tags, insecure_registries))
}

async fn promote(args: Args, tags: Vec<Reference>, insecure_registries: Vec<String>) -> Result<Exit> {
    let origin = args.again.open(&args.build).await?;
    let plan = &origin.plan;
    if plan.output == Output::Candidate && plan.tags.is_empty() && tags.is_empty() {
        return Err(Refusal::usage(format!(
            "--tag: candidate {} was built without tags; name at least one, as in -t REGISTRY/NAME:TAG",
            origin.build
        )));
    }
    let named = if tags.is_empty() { &plan.tags } else { &tags };
    let touched = promotion_registries(named, plan.staging.as_deref());
    let hosts: Vec<String> = touched.into_iter().map(ToOwned::to_owned).collect();
    let wanted = plan.credential_hosts.iter().filter(|host| hosts.contains(host));
    let logins = Logins::find(&hosts).with_all(wanted, &origin.build)?;
    let request = proto::PromoteBuildRequest {
        request_id: Ulid::new().to_string(),
        build_id: origin.build.clone(),
        tags: tags.iter().map(Reference::to_string).collect(),
        credentials: logins.messages(),
        insecure_registries,
        credential_hosts: logins.hosts.clone(),
    };
    let call = |mut client: Builds| {
        let request = request.clone();
        async move { client.promote_build(request).await }
    };
    origin.follow(logins, None, call).await
}
