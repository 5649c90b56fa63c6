//! `archyard prune`: removes what no build needs from the scheduler's disk.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Result;
use archyard_model::ProjectName;
use archyard_proto::v1 as proto;
use bytesize::ByteSize;

use crate::args::FarmArgs;
use crate::exit::{Exit, Refusal};
use crate::farm::Farm;
use crate::view::Pruned;
use crate::{runtime, text};

/// Remove what no build needs from the scheduler's disk.
///
/// What a queued, running or recent build needs is never removed, nor what a client has just uploaded. The limits of the
/// scheduler do the same from time to time; see --contexts-kept and the flags beside it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  archyard prune                                 all contexts that no build needs
  archyard prune --older-than 24h --keep-bytes 20GiB
  archyard prune --class logs,records --older-than 30d --force
  archyard prune --class all --dry-run           what would go")]
pub(crate) struct Args {
    /// What to remove; with commas or repeated. A log goes with its build's record
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "CLASS",
        default_value = "contexts",
        action = clap::ArgAction::Append
    )]
    class: Vec<Class>,
    /// Only what was not used for so long, or whose build ended so long ago, as in 24h
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    older_than: Duration,
    /// Keep the newest of each class, up to this size, as in 20GiB
    #[arg(long, alias = "max-used-space", value_name = "SIZE", default_value = "0B")]
    keep_bytes: ByteSize,
    /// Only what builds of this project alone need
    #[arg(long, value_name = "NAME")]
    project: Option<ProjectName>,
    /// Say what would be removed, and leave it
    #[arg(long)]
    dry_run: bool,
    /// Do not ask first; nothing is asked either when standard input is no terminal
    #[arg(short, long)]
    force: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    farm: FarmArgs,
}

/// As `--class` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Class {
    /// Sources
    Contexts,
    /// Logs of builds
    Logs,
    /// Records of ended builds, with their logs
    Records,
    /// What workers left for clients
    Artifacts,
    /// All of these
    All,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let classes = classes(&args.class);
    let request = proto::PruneRequest {
        classes: classes.iter().map(|class| i32::from(*class)).collect(),
        older_than_ms: u64::try_from(args.older_than.as_millis()).unwrap_or(u64::MAX),
        keep_bytes: args.keep_bytes.as_u64(),
        project: args.project.as_ref().map(ToString::to_string).unwrap_or_default(),
        dry_run: args.dry_run,
    };
    if !args.dry_run
        && !args.force
        && std::io::stdin().is_terminal()
        && !confirmed(&question(args, &classes))?
    {
        return Err(Refusal::canceled("nothing was removed"));
    }
    let answer = runtime::small(async {
        let mut client = Farm::find(&args.farm).await?.disk();
        Ok(client.prune(request).await?.into_inner())
    })?;
    let mut out = std::io::stdout().lock();
    let pruned: Vec<Pruned> = answer.pruned.into_iter().map(Pruned::from).collect();
    let total = pruned.iter().map(|pruned| pruned.bytes).sum();
    for pruned in pruned {
        if args.json {
            writeln!(out, "{}", serde_json::to_string(&pruned)?)?;
        } else {
            writeln!(out, "{}", line(&pruned, args.dry_run))?;
        }
    }
    if !args.json {
        let what = if args.dry_run { "Would free" } else { "Freed" };
        writeln!(out, "{what}: {}", text::bytes(total))?;
    }
    Ok(Exit::Success)
}

fn line(pruned: &Pruned, dry_run: bool) -> String {
    let removed = if dry_run { "would remove" } else { "removed" };
    let count = usize::try_from(pruned.count).unwrap_or(usize::MAX);
    let what = match pruned.class {
        "contexts" => text::count(count, "context"),
        "logs" => format!("the logs of {}", text::count(count, "build")),
        "records" => text::count(count, "record"),
        "artifacts" => format!("the artifacts of {}", text::count(count, "build")),
        other => format!("{count} of {other}"),
    };
    format!("{removed} {what}, {}", text::bytes(pruned.bytes))
}

fn classes(asked: &[Class]) -> Vec<proto::KeptClass> {
    let all = [
        (Class::Contexts, proto::KeptClass::Contexts),
        (Class::Logs, proto::KeptClass::Logs),
        (Class::Records, proto::KeptClass::Records),
        (Class::Artifacts, proto::KeptClass::Artifacts),
    ];
    let asks = |class: Class| asked.contains(&class) || asked.contains(&Class::All);
    all.into_iter().filter(|(class, _)| asks(*class)).map(|(_, class)| class).collect()
}

fn question(args: &Args, classes: &[proto::KeptClass]) -> String {
    let words: Vec<&str> = classes.iter().map(|class| crate::view::kept_class(*class)).collect();
    let mut text = format!("This removes {} from the scheduler", words.join(", "));
    if let Some(project) = &args.project {
        text = format!("{text}, of project {project} alone");
    }
    if !args.older_than.is_zero() {
        text = format!("{text}, older than {}", humantime::format_duration(args.older_than));
    }
    if args.keep_bytes.as_u64() > 0 {
        text = format!("{text}, and keeps the newest {} of each", args.keep_bytes);
    }
    format!("{text}. What queued, running and recent builds need stays.\nContinue? [y/N] ")
}

fn confirmed(question: &str) -> Result<bool> {
    let mut err = std::io::stderr().lock();
    write!(err, "{question}")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_every_class_and_a_class_counts_once() {
        assert_eq!(classes(&[Class::All]).len(), 4);
        assert_eq!(classes(&[Class::Logs, Class::Logs]), [proto::KeptClass::Logs]);
    }

    #[test]
    fn a_line_says_what_went_or_would_go() {
        let pruned = |class, count, bytes| Pruned { class, count, bytes };
        assert_eq!(line(&pruned("contexts", 1, 2_000), false), "removed 1 context, 2.0kB");
        assert_eq!(line(&pruned("logs", 3, 0), true), "would remove the logs of 3 builds, 0B");
    }
}
