//! How a build is shown while it goes on: the flags, and the renderer that comes of them.

use std::io::{BufWriter, IsTerminal as _};

use crate::progress::{Board, Json, Plain, Quiet, Renderer, Story, Tty};

/// Flags of every command that follows a build of its own.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Display {
    /// How progress is shown: auto, tty, plain, json or quiet
    #[arg(long, value_enum, value_name = "KIND", default_value_t, hide_possible_values = true)]
    progress: Progress,
    /// Print image IDs only: the index's digest where one is published
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    /// Print everything that happens on standard output, one JSON object a line
    #[arg(long)]
    json: bool,
}

/// `--progress`: a block that moves on a terminal, else lines; or what `--json` and `--quiet` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Progress {
    #[default]
    Auto,
    Tty,
    Plain,
    Json,
    Quiet,
}

impl Display {
    /// Whether standard output is a stream of objects.
    pub(crate) fn is_json(&self) -> bool {
        self.json || self.progress == Progress::Json
    }

    /// Whether only results are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet || self.progress == Progress::Quiet
    }

    /// Whether more than results may be said.
    pub(crate) fn is_for_people(&self) -> bool {
        !self.is_json() && !self.is_quiet()
    }

    /// What shows this board.
    pub(crate) fn renderer(&self, board: &Board) -> Box<dyn Renderer> {
        let err = || BufWriter::new(std::io::stderr());
        if self.is_json() {
            return Box::new(Json(BufWriter::new(std::io::stdout())));
        }
        if self.is_quiet() {
            return Box::new(Quiet(err()));
        }
        let tty = match self.progress {
            Progress::Tty => true,
            Progress::Plain => false,
            _ => std::io::stderr().is_terminal() && !console::is_dumb(),
        };
        let colours = std::io::stderr().is_terminal() && console::colors_enabled_stderr();
        if tty { Box::new(Tty::new()) } else { Box::new(Plain::new(err(), Story::Build, colours, board)) }
    }
}
