//! A Dockerfile as its stages, and every place in them that may name an image. Nothing is put in yet: names
//! are as written.

use std::borrow::Cow;
use std::ops::Range;

use archyard_model::BaseKind;
use parse_dockerfile::{Instruction, UnescapedString, parse_iter};

use super::command::{self, Command, flag};
use super::{directive, mask, mount, problem};
use crate::Error;

/// What a Dockerfile says.
#[derive(Debug)]
pub(super) struct Source {
    /// What continues a line, and escapes.
    pub(super) escape: char,
    /// `ARG`s before the first stage, in order: names, and defaults as written.
    pub(super) arguments: Vec<Argument>,
    /// `ARG`s of stages, which no `FROM` sees.
    pub(super) local_arguments: Vec<Argument>,
    pub(super) stages: Vec<Stage>,
}

#[derive(Debug)]
pub(super) struct Argument {
    pub(super) line: u32,
    pub(super) name: String,
    pub(super) default: Option<String>,
}

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) line: u32,
    /// In lower case: names of stages have none.
    pub(super) name: Option<String>,
    pub(super) image: Token,
    /// `--platform=`, as written.
    pub(super) platform: Option<String>,
    /// `COPY --from=` and `RUN --mount=from=`.
    pub(super) sources: Vec<(BaseKind, Token)>,
    /// Lines of its `RUN`s.
    pub(super) runs: Vec<u32>,
    /// Lines of the `RUN`s that it leaves to those that start from it.
    pub(super) onbuild_runs: Vec<u32>,
    /// Its instructions, as far as they decide what is read of the context.
    pub(super) commands: Vec<Command>,
    /// The same of those that it leaves to the stages that start from it.
    pub(super) onbuild: Vec<Command>,
}

/// A piece of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) line: u32,
    /// Bytes of the file.
    pub(super) span: Range<usize>,
    /// As the file has it, line continuations included.
    pub(super) written: String,
    /// Without them.
    pub(super) value: String,
}

/// Reads a Dockerfile. `name` is for errors.
pub(super) fn read(name: &str, bytes: &[u8]) -> Result<Source, Error> {
    let text = mask::to_text(bytes);
    let directives = directive::read(&text);
    let fail = |line: u32, problem: String| Error::Dockerfile { name: name.to_owned(), line, problem };
    let masked = mask::mask(&text, directives.escape).map_err(|error| {
        fail(error.line, format!("a here-document never ends; add a line with just {:?}", error.name))
    })?;
    let file = File::new(name, &text, directives.escape);
    let mut source = Source {
        escape: directives.escape,
        arguments: Vec::new(),
        local_arguments: Vec::new(),
        stages: Vec::new(),
    };
    let parse_error = |error: parse_dockerfile::Error| {
        let line = u32::try_from(error.line()).unwrap_or(u32::MAX).max(1);
        let written = text.lines().nth(line as usize - 1).unwrap_or_default();
        fail(line, problem::explain(&format!("{error:#}"), written))
    };
    for instruction in parse_iter(&masked).map_err(parse_error)? {
        file.take_in(&mut source, instruction.map_err(parse_error)?)?;
    }
    Ok(source)
}

/// The image of `# syntax=`, which a file has that we cannot otherwise read.
pub(super) fn syntax(bytes: &[u8]) -> Option<Token> {
    let text = mask::to_text(bytes);
    let span = directive::read(&text).syntax?;
    Some(File::new("", &text, '\\').token(span.clone(), Cow::Borrowed(&text[span])))
}

/// Where things are in the file.
struct File<'a> {
    name: &'a str,
    text: &'a str,
    escape: char,
    /// Where each line starts.
    lines: Vec<usize>,
    /// The parser counts from behind a byte order mark.
    shift: usize,
}

impl<'a> File<'a> {
    fn new(name: &'a str, text: &'a str, escape: char) -> Self {
        let lines = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(lines).collect();
        Self { name, text, escape, lines, shift: if text.starts_with('\u{feff}') { 3 } else { 0 } }
    }

    fn take_in(&self, source: &mut Source, instruction: Instruction<'_>) -> Result<(), Error> {
        if let Some(stage) = source.stages.last_mut() {
            let written = |span: Range<usize>| &self.text[span.start + self.shift..span.end + self.shift];
            match &instruction {
                Instruction::Onbuild(onbuild) => {
                    stage.onbuild.extend(command::read(&onbuild.instruction, written, self.escape));
                }
                own => stage.commands.extend(command::read(own, written, self.escape)),
            }
        }
        match instruction {
            Instruction::Arg(arg) => {
                let line = self.line(arg.arg.span.start + self.shift);
                let arguments = match source.stages.is_empty() {
                    true => &mut source.arguments,
                    false => &mut source.local_arguments,
                };
                let declared = command::arguments(&arg.arguments.value, self.escape).into_iter();
                arguments.extend(declared.map(|(name, default)| Argument { line, name, default }));
            }
            Instruction::From(from) => {
                let platform = flag(&from.options, "platform").map(|value| value.value.to_string());
                let image = self.shifted(&from.image);
                let line = self.line(from.from.span.start + self.shift);
                // A newer frontend may have more flags: only a slip is refused.
                let slip = |name: &str| name != "platform" && problem::meant(name, &["platform"]).is_some();
                if let Some(wrong) = from.options.iter().find(|flag| slip(&flag.name.value)) {
                    let name = &wrong.name.value;
                    let problem = format!("FROM has no flag --{name}; did you mean --platform=?");
                    return Err(Error::Dockerfile { name: self.name.to_owned(), line, problem });
                }
                let name = match from.as_ {
                    Some((_, name)) => Some(self.stage_name(line, &name.value)?),
                    None => None,
                };
                source.stages.push(Stage {
                    line,
                    name,
                    image,
                    platform,
                    sources: Vec::new(),
                    runs: Vec::new(),
                    onbuild_runs: Vec::new(),
                    commands: Vec::new(),
                    onbuild: Vec::new(),
                });
            }
            Instruction::Copy(copy) => {
                if let Some(from) = flag(&copy.options, "from") {
                    let token = self.unquoted(self.shifted(from));
                    if !token.value.is_empty() {
                        self.add(source, BaseKind::CopyFrom, token);
                    }
                }
            }
            Instruction::Run(run) => {
                let line = self.line(run.run.span.start + self.shift);
                source.stages.last_mut().into_iter().for_each(|stage| stage.runs.push(line));
                for option in run.options.iter().filter(|option| option.name.value == "mount") {
                    let Some(value) = &option.value else { continue };
                    if let Some(token) = self.mount_source(&self.shifted(value))? {
                        self.add(source, BaseKind::MountFrom, token);
                    }
                }
            }
            Instruction::Onbuild(onbuild) if matches!(*onbuild.instruction, Instruction::Run(_)) => {
                let line = self.line(onbuild.onbuild.span.start + self.shift);
                source.stages.last_mut().into_iter().for_each(|stage| stage.onbuild_runs.push(line));
            }
            // No image that ONBUILD names either: it is for the builds that start from this image.
            _ => {}
        }
        Ok(())
    }

    fn add(&self, source: &mut Source, kind: BaseKind, token: Token) {
        if let Some(stage) = source.stages.last_mut() {
            stage.sources.push((kind, token));
        }
    }

    /// As BuildKit reads it: in lower case, and without variables.
    fn stage_name(&self, line: u32, written: &str) -> Result<String, Error> {
        let name = written.to_lowercase();
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
        if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(fits) {
            return Ok(name);
        }
        let problem = match written.contains('$') {
            true => "variables are not expanded in a stage's name; write the name itself, as in AS build",
            false => {
                "a stage's name begins with a letter and has only letters, digits, '-', '_' and '.', as in AS build"
            }
        };
        let problem = format!("AS {written}: {problem}");
        Err(Error::Dockerfile { name: self.name.to_owned(), line, problem })
    }

    /// The image or stage that a mount is from.
    fn mount_source(&self, mount: &Token) -> Result<Option<Token>, Error> {
        let Some(range) = mount::source(&mount.value) else { return Ok(None) };
        let value = &mount.value[range.clone()];
        let fail = |problem: &str| {
            let (name, line) = (self.name.to_owned(), mount.line);
            Err(Error::Dockerfile { name, line, problem: format!("--mount from={value:?}: {problem}") })
        };
        if value.contains('$') {
            return fail("variables are not expanded here; name a stage, and put the variable in its FROM");
        }
        let Some(places) = mount::places(&mount.written, &mount.value, self.escape) else {
            return fail("cannot be located; write the whole --mount on one line");
        };
        let (start, end) = (places[range.start], places[range.end - 1] + 1);
        let span = mount.span.start + start..mount.span.start + end;
        Ok(Some(self.token(span, Cow::Borrowed(value))))
    }

    fn shifted(&self, string: &UnescapedString<'_>) -> Token {
        let span = string.span.start + self.shift..string.span.end + self.shift;
        self.token(span, string.value.clone())
    }

    /// A flag's value may be quoted as a whole.
    fn unquoted(&self, token: Token) -> Token {
        let inner = ['"', '\'']
            .into_iter()
            .find_map(|quote| token.written.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)));
        match inner {
            Some(inner) if token.written == token.value => {
                let span = token.span.start + 1..token.span.end - 1;
                self.token(span, Cow::Borrowed(inner))
            }
            _ => token,
        }
    }

    fn token(&self, span: Range<usize>, value: Cow<'_, str>) -> Token {
        let written = self.text[span.clone()].to_owned();
        Token { line: self.line(span.start), span, written, value: value.into_owned() }
    }

    fn line(&self, at: usize) -> u32 {
        u32::try_from(self.lines.partition_point(|start| *start <= at)).unwrap_or(u32::MAX)
    }
}
