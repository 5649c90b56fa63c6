//! The judgement: what an image is held against, and what comes of it.

use archyard_model::{
    Checks, Failure, FailureClass, ForeignFile, ForeignPolicy, Inspection, Platform, limits,
};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::command::{Lookup, Program};
use super::config::Config;
use super::content::Content;
use super::fault::Fault;
use super::layer::shown;
use super::machine::{self, Machine};
use super::nodes::{Id, Kind};
use super::origin::{Origin, Written};
use super::tree::Tree;
use crate::excerpt::excerpt;

/// Executables that are named in a line; a result lists more.
const NAMED: usize = 3;

/// What an image is held against.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// What was asked for.
    pub platform: &'a Platform,
    /// What it must pass.
    pub checks: &'a Checks,
    /// Only its files are wanted; nobody runs it.
    pub only_files: bool,
    /// What it was built from.
    pub written: Written<'a>,
}

/// An image that passed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// For the record.
    pub inspection: Inspection,
    /// For whoever asked for the build.
    pub warnings: Vec<Warning>,
}

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// One line.
    pub message: String,
    /// Of the Dockerfile, from 1, where that is known.
    pub line: Option<u32>,
}

/// Judges an image.
///
/// # Errors
/// The user's failure, when it is not what was asked for: one stable code for each way to be wrong.
pub fn judge(config: &Config, tree: &Tree, job: &Job<'_>) -> Result<Verdict, Failure> {
    platform(config, job)?;
    let mut verdict = Verdict::default();
    let words = if job.only_files { Vec::new() } else { config.words() };
    let mut own = None;
    if !words.is_empty() {
        match Lookup::new(tree, config, job.platform).run(&words) {
            Ok(program) => {
                own = Some(program.id);
                verdict.note(program, config, tree, job);
            }
            // A base's command, most likely: who said so does not mean to run it.
            Err(fault) if job.checks.data_only => {
                let layer = fault.layer.map(|layer| job.written.layer(config, layer));
                verdict.warn(fault.message(), layer.or_else(|| job.written.command(config)));
            }
            Err(fault) => return Err(of_fault(&fault, config, job)),
        }
    } else if !job.only_files && !job.checks.data_only {
        return Err(failure(
            "no_command",
            format!(
                "the image for {} says nothing to run; end {} with a CMD or an ENTRYPOINT, or say that it only holds files with --data-only",
                job.platform, job.written.name
            ),
        ));
    }
    verdict.look_around(tree, own, job)?;
    Ok(verdict)
}

/// The config names the platform that was asked for. One without a variant names any of its architecture: Engines
/// of before there were variants in configs leave it out.
fn platform(config: &Config, job: &Job<'_>) -> Result<(), Failure> {
    let wanted = job.platform;
    for (field, value) in [("os", &config.os), ("architecture", &config.architecture)] {
        if value.is_empty() {
            let message = format!(
                "the image's config does not say its {field}, and {wanted} was asked for; does its base say one?"
            );
            return Err(failure("image_without_platform", message));
        }
    }
    let named = Platform::new(&config.os, &config.architecture, &config.variant);
    let fits = |named: &Platform| {
        let is_open = config.variant.is_empty() && named.architecture() == wanted.architecture();
        named == wanted || is_open
    };
    match named {
        Ok(named) if fits(&named) => Ok(()),
        _ => {
            let found =
                [&config.os, &config.architecture, &config.variant].map(|part| shown(part.as_bytes()));
            let found = found.join("/");
            let message = format!(
                "the image's config says that it is for {}, and {wanted} was asked for; is one of its bases another platform's?",
                found.trim_end_matches('/')
            );
            Err(failure("image_wrong_platform", message))
        }
    }
}

impl Verdict {
    fn note(&mut self, program: Program, config: &Config, tree: &Tree, job: &Job<'_>) {
        let path = shown(&tree.path(program.id));
        for message in program.warnings {
            self.warn(message, job.written.command(config));
        }
        if let Some(level) = machine::excess(job.platform, program.x86_level) {
            let message = format!(
                "{path} needs a processor with {level}, and {} promises less; where it is missing the image will not start",
                job.platform
            );
            self.warn(message, Some(job.written.layer(config, tree.nodes.layer(program.id))));
            self.inspection.requires = Some(level);
        }
        self.inspection.command = Some(path);
        self.inspection.machine = program.machine;
    }

    /// Executables of other machines, beside the command itself.
    fn look_around(&mut self, tree: &Tree, own: Option<Id>, job: &Job<'_>) -> Result<(), Failure> {
        let checks = job.checks;
        if checks.foreign == ForeignPolicy::Allow {
            return Ok(());
        }
        let allowed = globs(&checks.foreign_allow)?;
        let mut names: Vec<&[u8]> = Vec::new();
        for (depth, name, id) in tree.nodes.walk() {
            names.truncate(depth);
            names.push(name);
            let Some(machine) = foreign(tree, id, job.platform).filter(|_| own != Some(id)) else { continue };
            let path = [&b"/"[..], &names.join(&b'/')].concat();
            if allowed.is_match(std::path::Path::new(&*String::from_utf8_lossy(&path))) {
                continue;
            }
            self.inspection.foreign_files += 1;
            if self.inspection.foreign.len() < limits::INSPECT_FOREIGN_LISTED {
                self.inspection.foreign.push(ForeignFile { path: shown(&path), machine });
            }
        }
        if self.inspection.foreign_files == 0 {
            return Ok(());
        }
        let message = self.foreigners(job.platform);
        if checks.foreign == ForeignPolicy::Deny {
            let lines =
                self.inspection.foreign.iter().map(|file| format!("{} ({})", file.path, file.machine));
            let detail = lines.collect::<Vec<_>>().join("\n");
            let message = format!("{message}; leave them out, or name them with --foreign-allow");
            return Err(failure("foreign_executables", message).with_detail(detail));
        }
        self.warn(
            format!("{message}; where that is meant, say --foreign-allow GLOB or --foreign=allow"),
            None,
        );
        Ok(())
    }

    fn foreigners(&self, platform: &Platform) -> String {
        let count = self.inspection.foreign_files;
        let named = self.inspection.foreign.iter().take(NAMED);
        let mut list =
            named.map(|file| format!("{} ({})", file.path, file.machine)).collect::<Vec<_>>().join(", ");
        if count > NAMED as u64 {
            list.push_str(&format!(" and {} more", count - NAMED as u64));
        }
        match count {
            1 => format!("an executable in the image for {platform} is made for another machine: {list}"),
            _ => {
                format!("{count} executables in the image for {platform} are made for other machines: {list}")
            }
        }
    }

    fn warn(&mut self, message: String, origin: Option<Origin>) {
        let line = origin.as_ref().and_then(|origin| origin.line);
        let message = match origin {
            Some(origin) => format!("{}: {message}", origin.place),
            None => message,
        };
        self.warnings.push(Warning { message, line });
    }
}

/// The machine of a program that does not fit.
fn foreign(tree: &Tree, id: Id, platform: &Platform) -> Option<String> {
    match tree.nodes.kind(id) {
        Kind::File(file) if file.is_executable => match &file.content {
            Content::Elf(elf) if elf.is_program && !machine::fits(platform, elf) => {
                Some(Machine::of(elf).name)
            }
            _ => None,
        },
        _ => None,
    }
}

fn globs(given: &[String]) -> Result<GlobSet, Failure> {
    let wrong = |error: globset::Error| {
        let message = format!("--foreign-allow: {error}; expected a glob, as in /usr/lib/firmware/**");
        failure("foreign_allow_malformed", message)
    };
    let mut set = GlobSetBuilder::new();
    for text in given {
        set.add(GlobBuilder::new(text).literal_separator(true).build().map_err(wrong)?);
    }
    set.build().map_err(wrong)
}

fn of_fault(fault: &Fault, config: &Config, job: &Job<'_>) -> Failure {
    let written = &job.written;
    let layer = fault.layer.map(|layer| written.layer(config, layer));
    let origin = layer.or_else(|| written.command(config));
    let message = match &origin {
        Some(origin) => format!("{}: {}", origin.place, fault.message()),
        None => fault.message(),
    };
    let line = origin.and_then(|origin| origin.line).and_then(|line| usize::try_from(line).ok());
    let detail = line.map(|line| excerpt(written.name, written.text, &(line..=line)));
    failure(&fault.code(), message).with_detail(detail.unwrap_or_default())
}

fn failure(code: &str, message: String) -> Failure {
    Failure::new(FailureClass::User, code, message)
}
