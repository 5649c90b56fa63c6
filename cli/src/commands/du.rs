//! `archyard du`: what the scheduler keeps on its disk.

use std::io::Write as _;
use std::time::SystemTime;

use anyhow::Result;
use archyard_model::ProjectName;
use archyard_proto::v1 as proto;
use jiff::Timestamp;

use crate::args::FarmArgs;
use crate::commands::table::Table;
use crate::exit::Exit;
use crate::farm::Farm;
use crate::view::Usage;
use crate::{runtime, text};

/// Show what the scheduler keeps on its disk, and how much of it `archyard prune` could remove.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  archyard du              contexts, logs, records and artifacts
  archyard du --verbose    each project's too
  archyard du --json       for machines: one object a line")]
pub(crate) struct Args {
    /// Show each project's share too; a blob counts for each project whose builds need it
    #[arg(short, long)]
    verbose: bool,
    /// Only what builds of this project need
    #[arg(long, value_name = "NAME")]
    project: Option<ProjectName>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    farm: FarmArgs,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let request = proto::GetDiskUsageRequest {
        project: args.project.as_ref().map(ToString::to_string).unwrap_or_default(),
        by_project: args.verbose,
    };
    let answer = runtime::small(async {
        let mut client = Farm::find(&args.farm).await?.disk();
        Ok(client.get_disk_usage(request).await?.into_inner())
    })?;
    let usages: Vec<Usage> = answer.usages.into_iter().map(Usage::from).collect();
    let mut out = std::io::stdout().lock();
    if args.json {
        for usage in usages {
            writeln!(out, "{}", serde_json::to_string(&usage)?)?;
        }
        return Ok(Exit::Success);
    }
    write!(out, "{}", table(&usages, Timestamp::try_from(SystemTime::now())?))?;
    writeln!(
        out,
        "\n{} of {} are free on the scheduler's disk",
        text::bytes(answer.free_bytes),
        text::bytes(answer.disk_bytes)
    )?;
    Ok(Exit::Success)
}

fn table(usages: &[Usage], now: Timestamp) -> Table {
    let mut table = Table::new(&["CLASS", "PROJECT", "COUNT", "SIZE", "RECLAIMABLE", "OLDEST"]);
    for usage in usages {
        table.row([
            usage.class.to_owned(),
            usage.project.clone().unwrap_or_else(|| "(all)".to_owned()),
            usage.count.to_string(),
            text::bytes(usage.bytes),
            share(usage.reclaimable_bytes, usage.bytes),
            usage.oldest_at.map(|at| text::ago(at, now)).unwrap_or_default(),
        ]);
    }
    table
}

/// `3.2GB (64%)`, as docker writes it.
fn share(part: u64, of: u64) -> String {
    match of {
        0 => text::bytes(part),
        _ => format!("{} ({}%)", text::bytes(part), u128::from(part) * 100 / u128::from(of)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_how_much_could_go() {
        let now = Timestamp::new(1_764_000_000, 0).unwrap();
        let usage = |project: Option<&str>, bytes, reclaimable_bytes, oldest| Usage {
            class: "contexts",
            project: project.map(str::to_owned),
            count: 3,
            bytes,
            reclaimable_bytes,
            oldest_at: oldest,
        };
        let oldest = Timestamp::new(1_764_000_000 - 2 * 86_400, 0).ok();
        let rows = [usage(None, 3_000_000, 1_000_000, oldest), usage(Some("a"), 0, 0, None)];
        insta::assert_snapshot!(table(&rows, now), @r"
        CLASS     PROJECT  COUNT  SIZE   RECLAIMABLE  OLDEST
        contexts  (all)    3      3.0MB  1.0MB (33%)  2d ago
        contexts  a        3      0B     0B
        ");
    }
}
