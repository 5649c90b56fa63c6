//! `archyard cancel BUILD`: asks, and returns when the farm has taken note.

use std::io::Write as _;

use anyhow::Result;
use archyard_model::{Invalid, limits};
use archyard_proto::v1 as proto;

use crate::args::FarmArgs;
use crate::commands::target::Target;
use crate::exit::Exit;
use crate::farm::Farm;
use crate::{runtime, view};

/// Cancel a build: its containers are stopped, its tags stay where they are.
///
/// Refused once the build publishes or has ended.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The build: its id, or a beginning of it that fits no other
    build: Target,
    /// Why, for the record
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    farm: FarmArgs,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    if args.reason.len() > limits::REASON_BYTES {
        let problem = format!("it has more than {} bytes; be brief", limits::REASON_BYTES);
        return Err(Invalid::new("--reason", &args.reason, problem).into());
    }
    let (build_id, state) = runtime::small(async {
        let farm = Farm::find(&args.farm).await?;
        let build_id = args.build.resolve(&farm).await?;
        let request = proto::CancelBuildRequest { build_id: build_id.clone(), reason: args.reason.clone() };
        let answer = farm.builds().cancel_build(request).await?.into_inner();
        Ok((build_id, view::build_state(answer.state())))
    })?;
    let said = if state == "canceled" { "canceled" } else { "is being canceled" };
    writeln!(std::io::stdout(), "{build_id} {said}")?;
    Ok(Exit::Success)
}
