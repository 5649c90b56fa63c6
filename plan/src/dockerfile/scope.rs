//! What a variable in a FROM stands for: the global arguments of one job.

use std::collections::BTreeMap;

use archyard_model::{Invalid, Platform};

use super::shell;
use super::source::Source;
use crate::Error;

/// Stands for `$BUILDPLATFORM` where a platform is asked for: it is the worker's, which no plan knows. No
/// Dockerfile can spell it.
const WORKER: &str = "\u{1}worker\u{1}";

/// The arguments of one job, in three readings.
pub(super) struct Scope {
    escape: char,
    /// `$BUILDPLATFORM` is what an Engine that runs the job's platform calls its own.
    names: BTreeMap<String, String>,
    /// `$BUILDPLATFORM` is [`WORKER`].
    platforms: BTreeMap<String, String>,
    /// All that is known of the worker is [`WORKER`].
    unknown: BTreeMap<String, String>,
}

impl Scope {
    /// Platform arguments, then the file's own in order; what the user passed overrides both.
    pub(super) fn new(
        file: &str,
        source: &Source,
        job: &Platform,
        target: Option<&str>,
        passed: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let build =
            |worker: [&str; 4]| {
                let mut variables = predefined(job, worker, source, target, passed);
                for argument in &source.arguments {
                    let value =
                        match (passed.get(&argument.name), &argument.default) {
                            (Some(passed), _) => passed.clone(),
                            (None, Some(default)) => shell::expand(default, &variables, source.escape)
                                .map_err(|problem| Error::Dockerfile {
                                    name: file.to_owned(),
                                    line: argument.line,
                                    problem: format!("ARG {}: {problem}", argument.name),
                                })?,
                            (None, None) => continue,
                        };
                    variables.insert(argument.name.clone(), value);
                }
                Ok::<_, Error>(variables)
            };
        let host = job.host();
        let (os, architecture, variant) =
            (host.os(), host.architecture(), host.variant().unwrap_or_default());
        Ok(Self {
            escape: source.escape,
            names: build([&host.to_string(), os, architecture, variant])?,
            platforms: build([WORKER, os, architecture, variant])?,
            unknown: build([WORKER; 4])?,
        })
    }

    /// Whether an image's name depends on the machine that builds.
    pub(super) fn asks_the_worker(&self, word: &str) -> bool {
        shell::expand(word, &self.unknown, self.escape).is_ok_and(|name| name.contains(WORKER))
    }

    /// A global argument, which a stage sees once it declares it. The inner None: it depends on the machine that builds.
    pub(super) fn global(&self, name: &str) -> Option<Option<&str>> {
        let value = self.unknown.get(name)?;
        Some((!value.contains(WORKER)).then_some(value))
    }

    /// An image's name with its variables put in.
    pub(super) fn name(&self, word: &str) -> Result<String, String> {
        shell::expand(word, &self.names, self.escape)
    }

    /// The platform that `--platform=` asks for; None is that of the worker.
    pub(super) fn platform(&self, word: &str) -> Result<Option<Platform>, String> {
        if shell::expand(word, &self.platforms, self.escape)? == WORKER {
            return Ok(None);
        }
        let text = self.name(word)?;
        if text.is_empty() {
            return Err(format!("--platform={word} is empty; {}", remedy(word)));
        }
        text.parse().map(Some).map_err(|error: Invalid| error.of("--platform").to_string())
    }
}

/// How to give a value to the first variable of a word.
pub(super) fn remedy(word: &str) -> String {
    let name = word.split_once('$').map(|(_, rest)| rest.trim_start_matches('{')).unwrap_or_default();
    let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() { "write a value".to_owned() } else { format!("pass --build-arg {name}=...") }
}

fn predefined(
    job: &Platform,
    worker: [&str; 4],
    source: &Source,
    target: Option<&str>,
    passed: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let last = source.stages.last().and_then(|stage| stage.name.as_deref());
    let pairs = [
        ("BUILDPLATFORM", worker[0]),
        ("BUILDOS", worker[1]),
        ("BUILDARCH", worker[2]),
        ("BUILDVARIANT", worker[3]),
        ("TARGETPLATFORM", &job.to_string()),
        ("TARGETOS", job.os()),
        ("TARGETARCH", job.architecture()),
        ("TARGETVARIANT", job.variant().unwrap_or_default()),
        ("TARGETSTAGE", target.or(last).unwrap_or("default")),
    ];
    let chosen = pairs.map(|(name, value)| (name, passed.get(name).map_or(value, String::as_str)));
    let set = chosen.into_iter().filter(|(_, value)| !value.is_empty());
    set.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
