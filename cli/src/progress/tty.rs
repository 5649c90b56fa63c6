//! Progress on a terminal: a block of lines that is drawn anew, at most ten times a second.
//!
//! What the block says is `frame`'s; this file only moves the cursor. The block is never higher than the screen, for
//! what has scrolled away cannot be drawn over.

mod frame;

use std::io;
use std::time::{Duration, Instant};

use console::{Term, measure_text_width};

use super::update::Change;
use super::{Board, Renderer, failure, summary, unmoved};

/// Between two drawings.
const PERIOD: Duration = Duration::from_millis(100);

/// Draws.
#[derive(Debug)]
pub(crate) struct Tty {
    term: Term,
    /// Widths of the lines that stand on the screen.
    drawn: Vec<usize>,
    last: Option<Instant>,
    /// Lines that go above the block.
    notes: Vec<String>,
    hidden: bool,
}

impl Tty {
    /// On standard error.
    pub(crate) fn new() -> Self {
        Self { term: Term::stderr(), drawn: Vec::new(), last: None, notes: Vec::new(), hidden: false }
    }

    fn draw(&mut self, board: &Board) -> io::Result<()> {
        let (height, width) = self.term.size();
        let (height, width) = (usize::from(height).max(4), usize::from(width).max(20));
        let lines = frame::lines(board, width, height - 1);
        let mut out = String::new();
        // A terminal that was made narrower has wrapped what stands there.
        let rows: usize = self.drawn.iter().map(|drawn| drawn.saturating_sub(1) / width + 1).sum();
        if rows > 0 {
            out.push_str(&format!("\u{1b}[{}A", rows.min(height - 1)));
        }
        out.push('\r');
        for line in self.notes.drain(..).chain(lines.iter().cloned()) {
            out.push_str(&line);
            out.push_str("\u{1b}[K\n");
        }
        out.push_str("\u{1b}[J");
        self.drawn = lines.iter().map(|line| measure_text_width(line)).collect();
        self.last = Some(Instant::now());
        self.term.write_str(&out)
    }
}

impl Renderer for Tty {
    fn change(&mut self, board: &Board, change: &Change) -> io::Result<()> {
        if let Change::Note(text) = change {
            self.notes.push(text.clone());
        }
        if let Change::Event(event) = change {
            self.notes.extend(frame::notes(board, event));
        }
        Ok(())
    }

    fn settle(&mut self, board: &Board) -> io::Result<()> {
        if !self.hidden {
            self.term.hide_cursor()?;
            self.hidden = true;
        }
        if self.last.is_none_or(|last| last.elapsed() >= PERIOD) {
            self.draw(board)?;
        }
        Ok(())
    }

    fn finish(&mut self, board: &Board) -> io::Result<()> {
        self.draw(board)?;
        self.drawn.clear();
        let mut end = Vec::new();
        failure::write(&mut end, console::colors_enabled_stderr(), board)?;
        unmoved::write(&mut end, board)?;
        summary::write_results(&mut end, board)?;
        self.term.write_str(&String::from_utf8_lossy(&end))
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        if self.hidden {
            // Nothing is left to do for a terminal that went away.
            self.term.show_cursor().ok();
        }
    }
}
