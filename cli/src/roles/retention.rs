//! A scheduler's flags that say how much it keeps, and how long.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use archyard_scheduler::retention::{Keep, Limit, Options};
use bytesize::ByteSize;

/// Limits of what the scheduler keeps. Past any of them the oldest goes first.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Retention")]
pub(crate) struct Flags {
    /// What a build needs that ended within this time is never removed, nor what was uploaded within it [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    recent: Option<Duration>,
    /// How long a context is kept after its last use, as in 14d, or none [default: 14d]
    #[arg(long, value_name = "DURATION", value_parser = age)]
    contexts_kept: Option<Limit<Duration>>,
    /// All contexts, as in 100GiB, or none [default: 256GiB, and a fifth of the disk]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    contexts_size: Option<Limit<u64>>,
    /// The contexts of each project [default: none]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    contexts_project_size: Option<Limit<u64>>,
    /// How long a log is kept after its build's end [default: 30d]
    #[arg(long, value_name = "DURATION", value_parser = age)]
    logs_kept: Option<Limit<Duration>>,
    /// All logs [default: 64GiB, and a tenth of the disk]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    logs_size: Option<Limit<u64>>,
    /// The logs of each project [default: none]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    logs_project_size: Option<Limit<u64>>,
    /// How long a record is kept after its build's end; the log goes with it [default: 180d]
    #[arg(long, value_name = "DURATION", value_parser = age)]
    records_kept: Option<Limit<Duration>>,
    /// All records [default: 8GiB, and a fiftieth of the disk]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    records_size: Option<Limit<u64>>,
    /// The records of each project [default: none]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    records_project_size: Option<Limit<u64>>,
    /// What workers left for the clients of each project [default: none]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    artifacts_project_size: Option<Limit<u64>>,
}

impl Flags {
    /// What they say, and what they leave to the scheduler.
    pub(crate) fn into_options(self) -> Options {
        let keep =
            |age: Option<Limit<Duration>>, bytes: Option<Limit<u64>>, project: Option<Limit<u64>>| Keep {
                age: age.unwrap_or_default(),
                bytes: bytes.unwrap_or_default(),
                project_bytes: project.unwrap_or_default(),
            };
        let default = Options::default();
        Options {
            recent: self.recent.unwrap_or(default.recent),
            contexts: keep(self.contexts_kept, self.contexts_size, self.contexts_project_size),
            logs: keep(self.logs_kept, self.logs_size, self.logs_project_size),
            records: keep(self.records_kept, self.records_size, self.records_project_size),
            artifacts_project_bytes: self.artifacts_project_size.unwrap_or_default(),
            alone: false,
        }
    }
}

fn age(text: &str) -> Result<Limit<Duration>, String> {
    limit(text, "14d", humantime::parse_duration)
}

fn size(text: &str) -> Result<Limit<u64>, String> {
    limit(text, "100GiB", |text| ByteSize::from_str(text).map(|size| size.as_u64()))
}

fn limit<T, E: Display>(
    text: &str,
    example: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Limit<T>, String> {
    match text {
        "none" => Ok(Limit::None),
        text => {
            parse(text).map(Limit::At).map_err(|error| format!("{error}; give one as in {example}, or none"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_sizes_ages_or_none() {
        assert_eq!(age("14d").unwrap(), Limit::At(Duration::from_secs(14 * 86_400)));
        assert_eq!(size("100GiB").unwrap(), Limit::At(100 << 30));
        assert_eq!(size("none").unwrap(), Limit::None);
        let error = age("soon").unwrap_err();
        assert!(error.contains("14d") && error.contains("none"), "{error}");
    }
}
