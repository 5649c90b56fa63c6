//! How a build is shown while it goes on: the flags, and the renderer that comes of them.

use std::io::{BufWriter, IsTerminal as _};

use anyhow::Result;
use archyard_model::Invalid;

use crate::progress::{Board, Json, Plain, Quiet, Renderer, Story, Tty};

/// How docker's clients show progress where no flag says so.
const ENVIRONMENT: &str = "BUILDKIT_PROGRESS";

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
    /// The same, with what the environment says where no flag does: for `auto` alone, as with buildx.
    ///
    /// # Errors
    /// A value that is no kind of progress.
    pub(crate) fn resolved(&self) -> Result<Self> {
        self.with(std::env::var(ENVIRONMENT).ok().as_deref())
    }

    fn with(&self, environment: Option<&str>) -> Result<Self> {
        let Some(value) = environment.filter(|value| !value.is_empty()) else { return Ok(self.clone()) };
        if self.progress != Progress::Auto || self.quiet || self.json {
            return Ok(self.clone());
        }
        let progress = match value {
            "auto" => Progress::Auto,
            "tty" => Progress::Tty,
            "plain" => Progress::Plain,
            "quiet" => Progress::Quiet,
            _ => {
                let problem = "expected auto, tty, plain or quiet; correct the variable or unset it";
                return Err(Invalid::new(ENVIRONMENT, value, problem).into());
            }
        };
        Ok(Self { progress, ..self.clone() })
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_counts_where_no_flag_does() {
        let ask = |progress, quiet, value| {
            let display = Display { progress, quiet, json: false }.with(Some(value)).unwrap();
            (display.progress, display.is_quiet())
        };
        assert_eq!(ask(Progress::Auto, false, "plain"), (Progress::Plain, false));
        assert_eq!(ask(Progress::Auto, false, ""), (Progress::Auto, false));
        assert_eq!(ask(Progress::Tty, false, "plain"), (Progress::Tty, false));
        assert_eq!(ask(Progress::Auto, true, "plain"), (Progress::Auto, true));
        assert_eq!(ask(Progress::Plain, false, "nonsense"), (Progress::Plain, false));
        let error = Display::default().with(Some("rawjson")).unwrap_err().to_string();
        assert_eq!(
            error,
            "BUILDKIT_PROGRESS \"rawjson\": expected auto, tty, plain or quiet; correct the variable or unset it"
        );
    }
}
