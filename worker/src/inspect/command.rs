//! What a container of an image would run, followed from the first word of its command to the program that the
//! kernel loads, as runc and Linux follow it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use archyard_model::Platform;

use super::access::{Accounts, EXECUTE, READ, Who};
use super::config::Config;
use super::content::Content;
use super::elf::{Elf, Loader};
use super::fault::{Fault, Problem, Role};
use super::layer::shown;
use super::machine::{self, Machine};
use super::nodes::{File, Id, Kind, ROOT};
use super::resolve::Lost;
use super::script::{self, Env};
use super::tree::Tree;

/// Interpreters of interpreters that Linux follows.
const DEPTH: u32 = 5;
/// Programs that are followed in all: `env` starts the next one anew, and so may go in circles for ever.
const STARTS: u32 = 64;
/// Programs that are given a command of their own in a shell's words.
const SHELLS: [&str; 6] = ["sh", "bash", "ash", "dash", "ksh", "zsh"];

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// The first file.
    pub(super) id: Id,
    /// Of what the kernel loads in the end; none where that could not be told.
    pub(super) machine: Option<String>,
    /// The highest level of x86-64 that anything on the way asks for.
    pub(super) x86_level: u8,
    /// What is not as it should be, or could not be told.
    pub(super) warnings: Vec<String>,
}

/// Looks up what an image would run.
pub(super) struct Lookup<'a> {
    tree: &'a Tree,
    config: &'a Config,
    platform: &'a Platform,
    /// Where relative names begin.
    folder: Id,
    who: Who,
    /// The folders that were gone through to what was found.
    through: RefCell<BTreeMap<Id, Vec<Id>>>,
    machine: Option<String>,
    x86_level: u8,
    warnings: Vec<String>,
    /// How many more programs are followed.
    starts: u32,
}

/// Who asks for a file, and by which name.
#[derive(Clone, Copy)]
struct Asked<'a> {
    role: Role,
    name: &'a [u8],
    by: Option<Id>,
}

impl Asked<'_> {
    fn described(&self) -> String {
        let name = shown(self.name);
        match self.role {
            Role::Command => format!("the image's command {name:?}"),
            Role::Interpreter => format!("the interpreter {name:?}"),
            Role::Loader => format!("the dynamic loader {name:?}"),
        }
    }
}

/// What is found in `PATH`.
struct Found<'a> {
    id: Id,
    /// The part of `PATH`, where that is relative to the working directory.
    relative: Option<&'a str>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(tree: &'a Tree, config: &'a Config, platform: &'a Platform) -> Self {
        let folder = tree.folder(config.working_dir.as_bytes());
        let accounts = |name: &[u8]| {
            let found = tree.nodes.child(ROOT, b"etc").and_then(|etc| tree.nodes.child(etc, name));
            let Some(id) = found else { return Accounts::Missing };
            let text = tree.nodes.about(id).and_then(|about| about.text.as_deref());
            text.map_or(Accounts::Unknown, Accounts::Known)
        };
        Self {
            tree,
            config,
            platform,
            folder,
            who: Who::of(&config.user, accounts(b"passwd"), accounts(b"group")),
            through: RefCell::default(),
            machine: None,
            x86_level: 0,
            warnings: Vec::new(),
            starts: STARTS,
        }
    }

    /// Follows these words; there is at least one.
    pub(super) fn run(mut self, words: &[&str]) -> Result<Program, Fault> {
        let name = words.first().copied().unwrap_or_default().as_bytes();
        let asked = Asked { role: Role::Command, name, by: None };
        let Found { id, relative } = self.in_path(asked)?;
        if let Some(part) = relative {
            return Err(self.fault(asked, Some(id), Problem::Relative { part: shown(part.as_bytes()) }));
        }
        self.execute(id, asked, 0)?;
        self.shell_form(id, words)?;
        if let Who::Nobody(what) = &self.who {
            self.warnings.push(format!("the image's USER names {what}: no container of it starts"));
        }
        Ok(Program { id, machine: self.machine, x86_level: self.x86_level, warnings: self.warnings })
    }

    /// As Go's `exec.LookPath`, which runc uses, and as `execvp`, which `env` does. They part where what they find
    /// lies in a folder that is relative: Go then refuses to run it.
    fn in_path(&self, asked: Asked<'_>) -> Result<Found<'a>, Fault> {
        if asked.name.contains(&b'/') {
            return self.at(asked, asked.name).map(|id| Found { id, relative: None });
        }
        let path = self.config.path();
        let mut near = None;
        for folder in path.split(':').filter(|_| !asked.name.is_empty() && !path.is_empty()) {
            let part = if folder.is_empty() { "." } else { folder };
            let relative = (!part.starts_with('/')).then_some(part);
            let candidate = [part.as_bytes(), b"/", asked.name].concat();
            match self.at(asked, &candidate) {
                Ok(id) if self.file(id).is_some_and(|file| file.is_executable) => {
                    return Ok(Found { id, relative });
                }
                Ok(id) => near = near.or_else(|| self.usable(id, asked).err()),
                Err(fault) if matches!(fault.problem, Problem::NotFound { .. }) => {}
                Err(fault) => near = near.or(Some(fault)),
            }
        }
        let problem = Problem::NotFound { path: Some(shown(path.as_bytes())) };
        Err(near.unwrap_or_else(|| self.fault(asked, None, problem)))
    }

    /// What is at a path, whatever it is.
    fn at(&self, asked: Asked<'_>, path: &[u8]) -> Result<Id, Fault> {
        let mut through = Vec::new();
        let found = self.tree.find_through(self.folder, path, |folder| through.push(folder));
        if let Ok(id) = found {
            self.through.borrow_mut().insert(id, through);
        }
        found.map_err(|lost| {
            let nodes = &self.tree.nodes;
            let (at, problem) = match lost {
                Lost::Missing => (None, Problem::NotFound { path: None }),
                Lost::Dangling(link) => {
                    let target = match nodes.kind(link) {
                        Kind::Symlink(target) => target.to_vec(),
                        _ => Vec::new(),
                    };
                    (Some(link), Problem::Dangling { link: self.tree.path(link), target })
                }
                Lost::Loop(link) => (Some(link), Problem::Loop { link: self.tree.path(link) }),
                Lost::NotAFolder(id) => (Some(id), Problem::NoFile("below something that is no folder")),
            };
            self.fault(asked, at, problem)
        })
    }

    /// What happens when a file is executed.
    fn execute(&mut self, id: Id, asked: Asked<'_>, depth: u32) -> Result<(), Fault> {
        let file = self.usable(id, asked)?;
        self.permit(id, asked, matches!(file.content, Content::Script(..)));
        let no_program = |why| Problem::NoProgram(why);
        let problem = match &file.content {
            Content::Elf(elf) if elf.is_program => return self.load(id, &elf.clone(), asked),
            Content::Script(line, is_whole) => {
                return self.interpret(id, &line.clone(), *is_whole, asked, depth);
            }
            Content::Pieces => {
                let path = shown(&self.tree.path(id));
                self.warnings
                    .push(format!("{path} is stored as a sparse file: what it is was not looked at"));
                return Ok(());
            }
            Content::Elf(_) => no_program("is an ELF file, but no program"),
            Content::Data if file.size == 0 => no_program("is empty"),
            Content::Data => no_program("is neither an ELF program nor a script"),
            Content::Broken(why) => Problem::Broken(why.to_string()),
        };
        Err(self.fault(asked, Some(id), problem))
    }

    /// A file that may be executed, whatever is in it.
    fn usable(&self, id: Id, asked: Asked<'_>) -> Result<File, Fault> {
        let problem = match self.tree.nodes.kind(id) {
            Kind::File(file) if file.is_executable => return Ok(file.clone()),
            Kind::File(_) => Problem::NoExecBit,
            Kind::Folder { .. } => Problem::NoFile("a folder"),
            Kind::HardLink(_) => Problem::NoFile("a hard link to a file that is not there"),
            Kind::Special | Kind::Symlink(_) | Kind::Whiteout => Problem::NoFile("a device or a pipe"),
        };
        Err(self.fault(asked, Some(id), problem))
    }

    /// Warns where the image's user may not do what executing this file takes.
    fn permit(&mut self, id: Id, asked: Asked<'_>, is_read: bool) {
        let Who::Somebody(user) = &self.who else { return };
        let nodes = &self.tree.nodes;
        let about = |id: Id| nodes.about(id).cloned().unwrap_or_default();
        let through = self.through.borrow().get(&id).cloned().unwrap_or_default();
        let closed = through.iter().copied().find(|folder| !user.may(EXECUTE, &about(*folder)));
        let (verb, what, at) = match closed {
            Some(folder) => ("reach", "the folder ", folder),
            None if !user.may(EXECUTE, &about(id)) => ("execute", "", id),
            None if is_read && !user.may(READ, &about(id)) => ("read", "", id),
            None => return,
        };
        let (path, about) = (shown(&self.tree.path(at)), about(at));
        self.warnings.push(format!(
            "USER {} may not {verb} {}: {what}{path} has mode {:04o} and belongs to {}:{}; COPY it with --chown or \
             --chmod, or RUN chmod",
            shown(self.config.user.as_bytes()),
            asked.described(),
            about.mode,
            about.uid,
            about.gid,
        ));
    }

    fn load(&mut self, id: Id, elf: &Elf, asked: Asked<'_>) -> Result<(), Fault> {
        let found = Machine::of(elf).name;
        if !machine::fits(self.platform, elf) {
            let expected = machine::expected(self.platform).to_owned();
            return Err(self.fault(asked, Some(id), Problem::Foreign { found, expected }));
        }
        self.machine = Some(found.clone());
        self.x86_level = self.x86_level.max(elf.x86_level);
        let path = match &elf.loader {
            Loader::None => return Ok(()),
            Loader::Path(path) => path,
            Loader::Unread => {
                let path = shown(&self.tree.path(id));
                self.warnings.push(format!("which dynamic loader {path} asks for could not be told"));
                return Ok(());
            }
        };
        let asked = Asked { role: Role::Loader, name: path, by: Some(id) };
        let loader = self.at(asked, path)?;
        let file = self.usable(loader, asked)?;
        self.permit(loader, asked, false);
        let problem = match file.content {
            Content::Elf(own) if own.is_program && machine::loads(&own, elf) => {
                self.x86_level = self.x86_level.max(own.x86_level);
                return Ok(());
            }
            Content::Elf(own) if own.is_program => {
                Problem::Foreign { found: Machine::of(&own).name, expected: found }
            }
            Content::Broken(why) => Problem::Broken(why.to_string()),
            Content::Pieces => return Ok(()),
            _ => Problem::NoProgram("is no ELF program"),
        };
        Err(self.fault(asked, Some(loader), problem))
    }

    fn interpret(
        &mut self,
        script: Id,
        line: &[u8],
        is_whole: bool,
        asked: Asked<'_>,
        depth: u32,
    ) -> Result<(), Fault> {
        if depth == DEPTH {
            return Err(self.fault(asked, Some(script), Problem::TooDeep));
        }
        let Some(found) = script::interpreter(line, is_whole) else {
            let problem = Problem::NoProgram("names no interpreter after its #!");
            return Err(self.fault(asked, Some(script), problem));
        };
        let asked = Asked { role: Role::Interpreter, name: found.path, by: Some(script) };
        let id = self.at(asked, found.path).map_err(|fault| Self::carriage_return(fault, found.path))?;
        self.execute(id, asked, depth + 1)?;
        let is_bare_env =
            found.path.ends_with(b"/env") && !found.argument.unwrap_or_default().starts_with(b"-");
        // Which name env does not find is said below.
        if found.ends_in_carriage_return() && !is_bare_env {
            return Err(self.fault(asked, Some(script), Problem::CarriageReturnWord));
        }
        let is_env = found.path.rsplit(|byte| *byte == b'/').next() == Some(b"env");
        match found.argument.filter(|_| is_env).map(script::env) {
            Some(Env::Program(name)) => self.env(script, id, name),
            Some(Env::Unknown) => {
                let path = shown(&self.tree.path(script));
                self.warnings.push(format!("what {path} has env run could not be told"));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// `#!/usr/bin/env NAME`.
    fn env(&mut self, script: Id, env: Id, name: &[u8]) -> Result<(), Fault> {
        let asked = Asked { role: Role::Interpreter, name, by: Some(script) };
        self.starts = self.starts.saturating_sub(1);
        if self.starts == 0 {
            return Err(self.fault(asked, Some(script), Problem::TooDeep));
        }
        let found = self.in_path(asked).map_err(|fault| match &fault.problem {
            Problem::NotFound { .. } if name.contains(&b' ') => Fault { problem: Problem::EnvWords, ..fault },
            _ => Self::carriage_return(fault, name),
        });
        match found {
            Ok(Found { id, .. }) => self.execute(id, asked, 0),
            // It may be one of its own, which need no file.
            Err(fault) if self.is_busybox(env) && matches!(fault.problem, Problem::NotFound { .. }) => {
                self.warnings.push(fault.message());
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    /// `["/bin/sh", "-c", "..."]`: what the shell would run first, where that is plain. A file that cannot run is a
    /// fault if that is all the shell does. A name that is nowhere is only a warning: shells know more names than
    /// those of files.
    fn shell_form(&mut self, shell: Id, words: &[&str]) -> Result<(), Fault> {
        let [name, flags, script, ..] = words else { return Ok(()) };
        let is_shell = name.rsplit('/').next().is_some_and(|name| SHELLS.contains(&name));
        let is_command = flags.starts_with('-') && flags.ends_with('c') && !flags.starts_with("--");
        let Some(first) = script::first_word(script).filter(|_| is_shell && is_command) else {
            return Ok(());
        };
        let asked = Asked { role: Role::Command, name: first.word.as_bytes(), by: None };
        let mut own = Self::new(self.tree, self.config, self.platform);
        let found = own.in_path(asked).and_then(|found| own.execute(found.id, asked, 0));
        let Err(fault) = found else {
            self.warnings.append(&mut own.warnings);
            return Ok(());
        };
        let is_command = fault.role == Role::Command;
        match fault.problem {
            // Shells run a text without #! themselves.
            Problem::NoProgram(_) if is_command => Ok(()),
            // It may be one of the shell's own.
            Problem::NotFound { path: Some(_) } if is_command => {
                if !self.is_busybox(shell) {
                    self.warnings.push(fault.message());
                }
                Ok(())
            }
            _ if first.is_all => Err(fault),
            _ => {
                self.warnings.push(fault.message());
                Ok(())
            }
        }
    }

    fn is_busybox(&self, id: Id) -> bool {
        self.tree.path(id).ends_with(b"/busybox")
    }

    fn file(&self, id: Id) -> Option<&File> {
        match self.tree.nodes.kind(id) {
            Kind::File(file) => Some(file),
            _ => None,
        }
    }

    fn carriage_return(fault: Fault, name: &[u8]) -> Fault {
        match fault.problem {
            Problem::NotFound { .. } if name.ends_with(b"\r") => {
                Fault { problem: Problem::CarriageReturn, ..fault }
            }
            _ => fault,
        }
    }

    fn fault(&self, asked: Asked<'_>, at: Option<Id>, problem: Problem) -> Fault {
        Fault {
            role: asked.role,
            asked: asked.name.to_vec(),
            by: asked.by.map(|id| self.tree.path(id)),
            layer: at.or(asked.by).map(|id| self.tree.nodes.layer(id)),
            problem,
        }
    }
}
