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
pub(super) struct Scope<'a> {
    source: &'a Source,
    passed: &'a BTreeMap<String, String>,
    job: &'a Platform,
    /// `$BUILDPLATFORM` is what an Engine that runs the job's platform calls its own.
    names: BTreeMap<String, String>,
    /// `$BUILDPLATFORM` is [`WORKER`].
    platforms: BTreeMap<String, String>,
    /// All that is known of the worker is [`WORKER`].
    unknown: BTreeMap<String, String>,
}

impl<'a> Scope<'a> {
    /// Platform arguments, then the file's own in order; what the user passed overrides both.
    pub(super) fn new(
        file: &str,
        source: &'a Source,
        job: &'a Platform,
        target: Option<&str>,
        passed: &'a BTreeMap<String, String>,
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
            source,
            passed,
            job,
            names: build([&host.to_string(), os, architecture, variant])?,
            platforms: build([WORKER, os, architecture, variant])?,
            unknown: build([WORKER; 4])?,
        })
    }

    /// Whether an image's name depends on the machine that builds.
    pub(super) fn asks_the_worker(&self, word: &str) -> bool {
        shell::expand(word, &self.unknown, self.source.escape).is_ok_and(|name| name.contains(WORKER))
    }

    /// A global argument, which a stage sees once it declares it. The inner None: it depends on the machine that builds.
    pub(super) fn global(&self, name: &str) -> Option<Option<&str>> {
        let value = self.unknown.get(name)?;
        Some((!value.contains(WORKER)).then_some(value))
    }

    /// An image's name with its variables put in.
    pub(super) fn name(&self, word: &str) -> Result<String, String> {
        shell::expand(word, &self.names, self.source.escape)
    }

    /// Why the first variable of a word that has no value has none, and how to give it one.
    pub(super) fn why_empty(&self, word: &str) -> String {
        let unset = shell::unset(word, &self.names, self.source.escape);
        match unset.first() {
            Some(name) => self.why_unset(name),
            None => "write a value".to_owned(),
        }
    }

    /// Why the first variable of a word counts as empty that no `ARG` above the first `FROM` declares. None: each is
    /// declared.
    pub(super) fn undeclared(&self, word: &str) -> Option<String> {
        let mut unset = shell::unset(word, &self.names, self.source.escape).into_iter();
        let name = unset.find(|name| !self.is_declared(name) && !PREDEFINED.contains(&name.as_str()))?;
        Some(self.why_unset(&name))
    }

    fn why_unset(&self, name: &str) -> String {
        if self.is_declared(name) {
            return format!("ARG {name} has no value; pass --build-arg {name}=..., or give it a default");
        }
        if PREDEFINED.contains(&name) {
            return format!("{name} is empty for {}; write ${{{name}:-VALUE}}", self.job);
        }
        if let Some(local) = self.source.local_arguments.iter().find(|argument| argument.name == name) {
            return format!(
                "ARG {name} in line {} is after the first FROM and only counts in its own stage; move it above the \
                 first FROM",
                local.line
            );
        }
        if self.passed.contains_key(name) {
            return format!(
                "--build-arg {name} is passed, but {name} is not declared; add ARG {name} above the first FROM"
            );
        }
        format!("{name} is not declared; add ARG {name}=VALUE above the first FROM")
    }

    fn is_declared(&self, name: &str) -> bool {
        self.source.arguments.iter().any(|argument| argument.name == name)
    }

    /// The platform that `--platform=` asks for; None is that of the worker.
    pub(super) fn platform(&self, word: &str) -> Result<Option<Platform>, String> {
        if shell::expand(word, &self.platforms, self.source.escape)? == WORKER {
            return Ok(None);
        }
        let text = self.name(word)?;
        if text.is_empty() {
            return Err(format!("--platform={word} is empty: {}", self.why_empty(word)));
        }
        text.parse().map(Some).map_err(|error: Invalid| error.of("--platform").to_string())
    }
}

/// The arguments that BuildKit sets by itself.
const PREDEFINED: [&str; 9] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

fn predefined(
    job: &Platform,
    worker: [&str; 4],
    source: &Source,
    target: Option<&str>,
    passed: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let last = source.stages.last().and_then(|stage| stage.name.as_deref());
    let [platform, os, architecture, variant] = worker;
    let values = [
        platform,
        os,
        architecture,
        variant,
        &job.to_string(),
        job.os(),
        job.architecture(),
        job.variant().unwrap_or_default(),
        target.or(last).unwrap_or("default"),
    ];
    let pairs = PREDEFINED.into_iter().zip(values);
    let chosen = pairs.map(|(name, value)| (name, passed.get(name).map_or(value, String::as_str)));
    let set = chosen.filter(|(_, value)| !value.is_empty());
    set.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
