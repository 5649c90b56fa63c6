//! What nextest said at its end: how many tests passed, failed and were skipped.

use std::fmt;

/// The counts of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Tests that passed (slow and flaky ones too).
    pub passed: u64,
    /// Tests that did not: failed, timed out, could not be executed.
    pub failed: u64,
    /// Tests that were not run.
    pub skipped: u64,
}

impl Summary {
    /// Reads nextest's line `Summary [ 0.5s] 3 tests run: 2 passed, 1 failed, 0 skipped`;
    /// none for any other line.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let line = without_colours(line);
        let (_, counts) = line.trim_start().strip_prefix("Summary [")?.split_once("run: ")?;
        let mut summary = Self::default();
        // What stands in brackets ("2 passed (1 slow, 1 flaky)") is counted already.
        for count in without_brackets(counts).split(',') {
            let (number, word) = count.trim().split_once(' ')?;
            let number: u64 = number.parse().ok()?;
            match word.trim() {
                "passed" => summary.passed += number,
                "skipped" => summary.skipped += number,
                _ => summary.failed += number,
            }
        }
        Some(summary)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

fn without_colours(line: &str) -> String {
    let mut rest = line.split('\u{1b}');
    let first = rest.next().unwrap_or_default().to_owned();
    rest.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, after)| after))
}

fn without_brackets(text: &str) -> String {
    let mut depth = 0_u32;
    text.chars()
        .filter(|char| {
            depth += u32::from(*char == '(');
            let outside = depth == 0;
            depth = depth.saturating_sub(u32::from(*char == ')'));
            outside
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(line: &str) -> (u64, u64, u64) {
        let summary = Summary::parse(line).unwrap();
        (summary.passed, summary.failed, summary.skipped)
    }

    #[test]
    fn every_shape_of_the_summary_is_read() {
        assert_eq!(counts("     Summary [   0.005s] 1 test run: 1 passed, 0 skipped"), (1, 0, 0));
        assert_eq!(
            counts(
                "Summary [ 9.1s] 5 tests run: 3 passed (1 slow, 1 flaky), 1 failed, 1 timed out, 2 skipped"
            ),
            (3, 2, 2)
        );
        assert_eq!(counts("  Summary [ 9.1s] 4/5 tests run: 3 passed, 1 exec failed, 0 skipped"), (3, 1, 0));
        assert_eq!(
            counts(
                "\u{1b}[32;1m     Summary\u{1b}[0m [   0.005s] \u{1b}[1m2\u{1b}[0m tests run: \u{1b}[1m2\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, \u{1b}[1m0\u{1b}[0m \u{1b}[33;1mskipped\u{1b}[0m"
            ),
            (2, 0, 0)
        );
    }

    #[test]
    fn other_lines_are_not_summaries() {
        for line in ["", "PASS [ 0.1s] x", "Summary", "Summary [1s] nothing"] {
            assert_eq!(Summary::parse(line), None, "{line}");
        }
    }
}
