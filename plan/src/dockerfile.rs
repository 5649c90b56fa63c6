//! The images that a Dockerfile names from outside its build, with the bytes that name them.
//!
//! They are what a lock pins: of every job, only those in stages that the target needs, with arguments put in
//! as BuildKit does. Nothing is executed or fetched, and nothing in the file is changed. Two things are not
//! known here: what `ONBUILD` in a base brings, and which stages a foreign frontend makes up.

mod circle;
mod command;
mod cross;
mod directive;
mod inputs;
mod mask;
mod mount;
mod problem;
mod scope;
mod shell;
mod source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use archyard_model::{Base, BaseKind, BaseUse, Inputs, Invalid, Platform, Reference, limits};

use crate::Error;
use cross::Cross;
use scope::Scope;
use source::{Source, Stage, Token};

/// What the images depend on, beside the file.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The Dockerfile's name, for errors.
    pub name: &'a str,
    /// One per job.
    pub platforms: &'a [Platform],
    /// Jobs that may be built on a machine of another platform: nothing may run on theirs.
    pub cross: &'a BTreeSet<u16>,
    /// The stage to build; None is the last.
    pub target: Option<&'a str>,
    /// As the user passed them.
    pub build_args: &'a BTreeMap<String, String>,
}

impl Question<'_> {
    fn platform(&self, job: u16) -> Option<&Platform> {
        self.platforms.get(usize::from(job))
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bases {
    /// In the file's order. Spans never overlap.
    pub bases: Vec<Base>,
    /// What the build of any platform reads of its context, as far as the file alone says: an image from outside may
    /// bring `ONBUILD` instructions that read more.
    pub inputs: Inputs,
    /// What could not be found out, one line each.
    pub warnings: Vec<String>,
}

/// Finds the images that building `target` for each platform needs.
///
/// # Errors
/// [`Error::Dockerfile`] with the line; [`Error::Invalid`] for a target that is not there, and past a limit.
pub fn bases(dockerfile: &[u8], question: &Question<'_>) -> Result<Bases, Error> {
    let nothing = Inputs::Paths(BTreeSet::new());
    let mut found = Found { question, by_start: BTreeMap::new(), inputs: nothing, warnings: Vec::new() };
    let mut warnings = Vec::new();
    let read = source::read(question.name, dockerfile);
    let syntax = source::syntax(dockerfile);
    let mut foreign = false;
    if question.build_args.contains_key("BUILDKIT_SYNTAX") {
        warnings.push("BUILDKIT_SYNTAX names a frontend that is not locked".to_owned());
        foreign = true;
    } else if let Some(token) = &syntax {
        let image = parse(question.name, token, &token.value)?;
        foreign = !image.repository().starts_with("docker/dockerfile");
        for job in 0..question.platforms.len() {
            found.add(BaseKind::Syntax, token, job, image.clone(), None);
        }
    }
    if let (true, Some(platform)) = (foreign, question.cross.first().and_then(|at| question.platform(*at))) {
        let problem =
            "the Dockerfile's frontend is none of Docker's, and what it runs is not known; leave out --cross";
        return Err(Invalid::new("--cross", platform, problem).into());
    }
    match read {
        Ok(source) => {
            for (job, platform) in question.platforms.iter().enumerate() {
                found.job(&source, job, platform)?;
            }
        }
        // Only its frontend knows what such a file says.
        Err(error) if foreign => warnings.push(format!("its images are not locked: {error}")),
        Err(error) => return Err(error),
    }
    warnings.append(&mut found.warnings);
    let bases: Vec<Base> = found.by_start.into_values().collect();
    if bases.len() > limits::PLAN_BASES {
        let problem = format!("a build may name at most {} images; split the Dockerfile", limits::PLAN_BASES);
        return Err(Invalid::new("Dockerfile", question.name, problem).into());
    }
    // What another frontend reads, only that one knows.
    let inputs = if foreign { Inputs::Everything } else { found.inputs };
    Ok(Bases { bases, inputs, warnings })
}

/// What is collected over all jobs.
struct Found<'a> {
    question: &'a Question<'a>,
    by_start: BTreeMap<usize, Base>,
    inputs: Inputs,
    warnings: Vec<String>,
}

/// Where a stage starts from.
enum Start {
    Stage(usize),
    Image { name: String, platform: Option<Platform> },
    Scratch,
}

impl Found<'_> {
    /// Adds what one job needs.
    fn job(&mut self, source: &Source, job: usize, platform: &Platform) -> Result<(), Error> {
        let Question { name, target, build_args, .. } = *self.question;
        let scope = Scope::new(name, source, platform, target, build_args)?;
        let starts = starts(name, source, &scope, platform)?;
        let names: HashMap<&str, usize> = named(&source.stages).collect();
        let mut pending = vec![find_target(source, target)?];
        let mut seen = vec![false; source.stages.len()];
        let mut needs = Vec::new();
        while let Some(at) = pending.pop() {
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            let stage = &source.stages[at];
            let before = pending.len();
            match &starts[at] {
                Start::Stage(base) => pending.push(*base),
                Start::Image { name: image, platform } => {
                    let image = from(name, stage, &scope, image)?;
                    self.warn_of_undeclared(stage, &scope);
                    self.add(BaseKind::From, &stage.image, job, image, platform.clone());
                }
                Start::Scratch => {}
            }
            for (kind, token) in &stage.sources {
                if let Some(from) = names.get(token.value.to_lowercase().as_str()) {
                    pending.push(*from);
                } else if let Some(from) = stage_index(name, source, *kind, token)? {
                    pending.push(from);
                } else if token.value != "scratch" {
                    // Even in a stage of another platform it is the target's.
                    let image = copied(name, source, token)?;
                    self.add(*kind, token, job, image, Some(platform.clone()));
                }
            }
            needs.extend(pending[before..].iter().map(|needed| (at, *needed)));
        }
        if let Some(at) = circle::find(source.stages.len(), &needs) {
            let Stage { line, name: stage, .. } = &source.stages[at];
            let stage = stage.clone().unwrap_or_else(|| at.to_string());
            let problem = format!(
                "stage {stage:?} needs itself, directly or through other stages; copy from an earlier stage"
            );
            return Err(Error::Dockerfile { name: name.to_owned(), line: *line, problem });
        }
        let read = inputs::of(source, &scope, build_args, &starts, &seen);
        self.inputs = std::mem::take(&mut self.inputs).or(read);
        if u16::try_from(job).is_ok_and(|job| self.question.cross.contains(&job)) {
            Cross { file: name, source, scope: &scope, starts: &starts, platform }.check(&seen)?;
        }
        Ok(())
    }

    /// A name with a hole in it may name another image than was meant.
    fn warn_of_undeclared(&mut self, stage: &Stage, scope: &Scope<'_>) {
        let word = &stage.image.value;
        if let Some(why) = scope.undeclared(word) {
            let Stage { line, .. } = stage;
            let warning = format!("{}:{line}: FROM {word}: a variable is empty: {why}", self.question.name);
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    fn add(
        &mut self,
        kind: BaseKind,
        token: &Token,
        job: usize,
        image: Reference,
        platform: Option<Platform>,
    ) {
        let base = self.by_start.entry(token.span.start).or_insert_with(|| Base {
            kind,
            line: token.line,
            span: token.span.start as u64..token.span.end as u64,
            token: token.written.clone(),
            uses: Vec::new(),
        });
        let job = u16::try_from(job).unwrap_or(u16::MAX);
        base.uses.push(BaseUse { job, image, platform });
    }
}

/// Where each stage starts from. Those not needed are checked too, as BuildKit does.
fn starts(file: &str, source: &Source, scope: &Scope<'_>, job: &Platform) -> Result<Vec<Start>, Error> {
    let mut starts = Vec::with_capacity(source.stages.len());
    let mut earlier: HashMap<&str, usize> = HashMap::new();
    for (at, stage) in source.stages.iter().enumerate() {
        let fail = |problem: String| Error::Dockerfile { name: file.to_owned(), line: stage.line, problem };
        let word = &stage.image.value;
        let name = scope.name(word).map_err(|problem| fail(format!("FROM {word}: {problem}")))?;
        if name.is_empty() {
            return Err(fail(format!("FROM {word} names no image: {}", scope.why_empty(word))));
        }
        let platform = match &stage.platform {
            Some(word) => scope.platform(word).map_err(fail)?,
            None => Some(job.clone()),
        };
        starts.push(match earlier.get(name.to_lowercase().as_str()) {
            Some(base) => Start::Stage(*base),
            None if name == "scratch" => Start::Scratch,
            None => Start::Image { name, platform },
        });
        if let Some(name) = &stage.name {
            earlier.insert(name, at);
        }
    }
    Ok(starts)
}

/// Named stages and their places; of two with one name, the later counts.
fn named(stages: &[Stage]) -> impl Iterator<Item = (&str, usize)> {
    stages.iter().enumerate().filter_map(|(at, stage)| Some((stage.name.as_deref()?, at)))
}

fn find_target(source: &Source, target: Option<&str>) -> Result<usize, Error> {
    let Some(target) = target else { return Ok(source.stages.len().saturating_sub(1)) };
    let wanted = target.to_lowercase();
    if let Some((_, at)) = named(&source.stages).filter(|(name, _)| *name == wanted).last() {
        return Ok(at);
    }
    let names: Vec<&str> = named(&source.stages).map(|(name, _)| name).collect();
    let has = match names.len() {
        0 => "it names none (FROM image AS name)".to_owned(),
        _ => format!("it has {}", names.join(", ")),
    };
    Err(Invalid::new("--target", target, format!("the Dockerfile has no such stage; {has}")).into())
}

/// The stage that `COPY --from=0` means.
fn stage_index(file: &str, source: &Source, kind: BaseKind, token: &Token) -> Result<Option<usize>, Error> {
    let fail = |problem: String| Error::Dockerfile { name: file.to_owned(), line: token.line, problem };
    if kind != BaseKind::CopyFrom {
        return Ok(None);
    }
    if token.value.contains('$') {
        let problem = "variables are not expanded here; name a stage, and put the variable in its FROM";
        return Err(fail(format!("--from={}: {problem}", token.value)));
    }
    // As BuildKit does: what reads as a number is one.
    let digits = token.value.strip_prefix(['-', '+']).unwrap_or(&token.value);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let index = token.value.parse::<usize>().ok().filter(|index| *index < source.stages.len());
    let last = source.stages.len().saturating_sub(1);
    index.map(Some).ok_or_else(|| {
        let problem = "there is no such stage; stages count from 0, and the last is";
        fail(format!("--from={}: {problem} {last}", token.value))
    })
}

/// The image of a stage's `FROM`.
fn from(file: &str, stage: &Stage, scope: &Scope<'_>, image: &str) -> Result<Reference, Error> {
    let word = &stage.image.value;
    parse(file, &stage.image, image).map_err(|error| match scope.undeclared(word) {
        Some(why) => {
            let problem = format!("FROM {word} reads {image:?}, which names no image: {why}");
            Error::Dockerfile { name: file.to_owned(), line: stage.line, problem }
        }
        None => error,
    })
}

/// The image that a `COPY` or a mount is from, as no stage has that name.
fn copied(file: &str, source: &Source, token: &Token) -> Result<Reference, Error> {
    parse(file, token, &token.value).map_err(|error| {
        let names: Vec<&str> = named(&source.stages).map(|(name, _)| name).collect();
        let wanted = token.value.to_lowercase();
        let stages = match (problem::meant(&wanted, &names), names.len()) {
            (Some(meant), _) => format!("did you mean {meant}?"),
            (None, 0) => "the Dockerfile names none".to_owned(),
            (None, _) => format!("it has {}", names.join(", ")),
        };
        match error {
            Error::Dockerfile { name, line, problem } => Error::Dockerfile {
                name,
                line,
                problem: format!("from={}: no stage has this name ({stages}), and as {problem}", token.value),
            },
            other => other,
        }
    })
}

fn parse(file: &str, token: &Token, image: &str) -> Result<Reference, Error> {
    image.parse().map_err(|error: Invalid| {
        let mut problem = error.of("image").to_string();
        if token.value != image {
            problem = format!("{} is {problem}", token.value);
        }
        Error::Dockerfile { name: file.to_owned(), line: token.line, problem }
    })
}
