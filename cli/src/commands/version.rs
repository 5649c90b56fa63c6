//! `archyard version`.

use std::io::Write as _;

use anyhow::Result;

use crate::exit::Exit;

/// Print the version.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let version = env!("CARGO_PKG_VERSION");
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::json!({ "version": version }))?;
    } else {
        writeln!(out, "archyard {version}")?;
    }
    Ok(Exit::Success)
}
