//! What is wrong with a file that an image would run, and in which words a person is told.

use super::layer::shown;

/// What the file was wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// `ENTRYPOINT` or `CMD`.
    Command,
    /// A script's.
    Interpreter,
    /// A program's.
    Loader,
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// There is nothing at that path, or nowhere in `PATH`.
    NotFound { path: Option<String> },
    /// It is there, by a part of `PATH` from which runtimes run nothing.
    Relative { part: String },
    /// A symbolic link leads to nothing.
    Dangling { link: Vec<u8>, target: Vec<u8> },
    /// A symbolic link leads to itself.
    Loop { link: Vec<u8> },
    /// A folder, a device, a hard link to nothing.
    NoFile(&'static str),
    /// Nobody may execute it.
    NoExecBit,
    /// A kernel would not know how to run it.
    NoProgram(&'static str),
    /// It claims to be ELF, and is not.
    Broken(String),
    /// Scripts run by scripts run by scripts.
    TooDeep,
    /// `#!/bin/sh\r`.
    CarriageReturn,
    /// `#!/bin/sh -e\r`.
    CarriageReturnWord,
    /// `#!/usr/bin/env prog arg`, which `env` takes for one name.
    EnvWords,
    /// Made for another machine.
    Foreign { found: String, expected: String },
}

/// A file that the image would run, and cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) role: Role,
    /// What was asked for, as the image says it.
    pub(super) asked: Vec<u8>,
    /// What asked for it, for an interpreter or a loader.
    pub(super) by: Option<Vec<u8>>,
    /// The layer that brought what is wrong; none where something is missing.
    pub(super) layer: Option<u16>,
    pub(super) problem: Problem,
}

impl Fault {
    /// Stable and short.
    pub(super) fn code(&self) -> String {
        let role = match self.role {
            Role::Command => "command",
            Role::Interpreter => "interpreter",
            Role::Loader => "loader",
        };
        let problem = match self.problem {
            Problem::NotFound { .. } => "not_found",
            Problem::Relative { .. } => "relative_path",
            Problem::Dangling { .. } => "dangling_link",
            Problem::Loop { .. } => "link_loop",
            Problem::NoFile(_) => "no_file",
            Problem::NoExecBit => "not_executable",
            Problem::NoProgram(_) => "no_program",
            Problem::Broken(_) => "broken_program",
            Problem::TooDeep => "too_deep",
            Problem::CarriageReturn | Problem::CarriageReturnWord => "carriage_return",
            Problem::EnvWords => "env_words",
            Problem::Foreign { .. } => "foreign",
        };
        format!("{role}_{problem}")
    }

    /// What, which value, what to do.
    pub(super) fn message(&self) -> String {
        let asked = shown(&self.asked);
        let by = self.by.as_deref().map(shown).unwrap_or_default();
        let what = match self.role {
            Role::Command => format!("the image's command {asked:?}"),
            Role::Interpreter => format!("{asked:?}, which is to run the script {by}"),
            Role::Loader => format!("{asked:?}, the dynamic loader that {by} asks for"),
        };
        match &self.problem {
            Problem::NotFound { path: Some(path) } => {
                format!("{what} is in no folder of PATH={path}; {}", self.missing())
            }
            Problem::NotFound { path: None } => format!("{what} is not in the image; {}", self.missing()),
            Problem::Relative { part } => format!(
                "{what} is found by {part:?} in PATH, which is no absolute path, and runtimes refuse to run what they find so; make PATH absolute, or write the command with its folder"
            ),
            Problem::Dangling { link, target } => format!(
                "{what} is behind the symbolic link {}, which leads to {:?}, and nothing is there; {}",
                shown(link),
                shown(target),
                self.missing()
            ),
            Problem::Loop { link } => format!(
                "{what} is behind the symbolic link {}, which leads back to itself; mend the link",
                shown(link)
            ),
            Problem::NoFile(kind) => format!("{what} is {kind}; name a program"),
            Problem::NoExecBit => {
                format!("{what} has no permission to be executed; COPY it with --chmod=755, or RUN chmod +x")
            }
            Problem::NoProgram(why) => format!(
                "{what} {why}, so Linux cannot run it (exec format error); build a program, or begin a script with #!"
            ),
            Problem::Broken(why) => {
                format!("{what} is no whole ELF program: {why}; was it copied to its end?")
            }
            Problem::TooDeep => format!("{what} is a script itself, and so on, further than Linux follows"),
            Problem::CarriageReturn => format!(
                "{what} is not in the image: the script's first line ends in a carriage return; save it with line feeds only"
            ),
            Problem::CarriageReturnWord => format!(
                "{what}, is given a word that ends in a carriage return, as the script's first line does; save it with line feeds only"
            ),
            Problem::EnvWords => format!(
                "{what} is not in the image: env takes all words for one name; write #!/usr/bin/env -S with them"
            ),
            Problem::Foreign { found, expected } => format!(
                "{what} is made for {found}, and the image is for {expected}; build or copy the one for {expected}"
            ),
        }
    }

    fn missing(&self) -> &'static str {
        match self.role {
            Role::Command => "COPY it there, or mend its path",
            Role::Interpreter => "install it, or mend the script's first line",
            Role::Loader => "link the program statically, or start from a base with its C library",
        }
    }
}
