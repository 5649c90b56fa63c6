//! Tables as `docker ps` prints them: columns, no lines; never wrapped, so that `grep` and `awk` work.

use std::fmt;

/// A header and rows.
#[derive(Debug)]
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// Without rows yet.
    pub(crate) fn new(header: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::NOTHING).set_header(header);
        table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
        Self(table)
    }

    /// One more row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.to_string().lines() {
            writeln!(f, "{}", line.trim())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_without_lines() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row(["worker-1".to_owned(), "ready".to_owned()]);
        table.row(["w".to_owned(), "lost".to_owned()]);
        assert_eq!(table.to_string(), "NAME      STATE\nworker-1  ready\nw         lost\n");
    }
}
