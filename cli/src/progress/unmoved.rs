//! Tags that a build left to newer builds: what was built is in the registry, and these tags name something else.

use std::io::{self, Write};

use super::Board;
use super::sanitize::clean;

/// Writes a line per tag of a build that has all that was asked for.
pub(super) fn write(out: &mut impl Write, board: &Board) -> io::Result<()> {
    for tag in board.left_to_others() {
        writeln!(out, "NOT MOVED: {}: {}", tag.tag, clean(tag.detail.as_bytes()))?;
    }
    Ok(())
}
