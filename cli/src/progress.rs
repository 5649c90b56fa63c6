//! How a build is shown.
//!
//! Everything that happens arrives as an [`Update`]; the [`Board`] turns it into what is known and into decoded
//! [`Change`]s; a [`Renderer`] shows either. Nothing here talks to a farm, so every renderer is tested with updates
//! made by hand. Progress goes to standard error; results alone go to standard output.

mod board;
mod failure;
mod json;
mod plain;
mod quiet;
mod sanitize;
mod standing;
mod steps;
mod summary;
#[cfg(test)]
pub(crate) mod testing;
mod tty;
mod unmoved;
mod update;

use std::borrow::Cow;
use std::io;

pub(crate) use board::{Board, Lane};
pub(crate) use json::Json;
pub(crate) use plain::{Plain, Story};
pub(crate) use quiet::Quiet;
pub(crate) use sanitize::clean;
pub(crate) use tty::Tty;
pub(crate) use update::{Change, Known, Update};

/// Shows a build.
pub(crate) trait Renderer: Send {
    /// Something happened; `board` knows it already.
    fn change(&mut self, board: &Board, change: &Change) -> io::Result<()>;

    /// Nothing more is waiting: what is buffered may go out, what moves may be drawn anew.
    fn settle(&mut self, board: &Board) -> io::Result<()>;

    /// The end: what stays on the screen.
    fn finish(&mut self, board: &Board) -> io::Result<()>;
}

/// Text with colours, or without them where they are not wanted.
fn paint(text: &str, colours: bool) -> Cow<'_, str> {
    // Most text has no colours, and looking for the two characters that begin one is quick.
    let plain = colours || !(text.contains('\u{1b}') || text.contains('\u{9b}'));
    if plain { Cow::Borrowed(text) } else { console::strip_ansi_codes(text) }
}
