//! The part of a Dockerfile that a message is about, shown as buildx shows it.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

/// Lines of a Dockerfile, from 1.
pub(crate) type Lines = RangeInclusive<usize>;

/// The lines, marked, with a few around them. Empty where there are no such lines.
pub(crate) fn excerpt(name: &str, dockerfile: &str, marked: &Lines) -> String {
    let lines: Vec<&str> = dockerfile.lines().collect();
    let (first, last) = (*marked.start(), (*marked.end()).min(lines.len()));
    if first < 1 || first > last {
        return String::new();
    }
    let around = if first == last { 2 } else { 1 };
    let (start, end) = (first.saturating_sub(around).max(1), (last + around).min(lines.len()));
    let rule = "--------------------";
    let mut text = format!("{name}:{first}\n{rule}\n");
    for (number, line) in (start..=end).zip(&lines[start - 1..]) {
        let mark = if marked.contains(&number) { ">>>" } else { "   " };
        // Writing to a String cannot fail.
        writeln!(text, " {number:>3} | {mark} {line}").ok();
    }
    text.push_str(rule);
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const DOCKERFILE: &str = "\
# a comment
FROM golang:1.21 AS builder
WORKDIR /src
ENV X=1
RUN make \\
    # within
    all
FROM scratch
COPY --from=builder /src/x /x
COPY nope /
RUN [\"/x\"]
";

    #[test]
    fn shows_what_buildx_shows() {
        let want = "\
Dockerfile:10
--------------------
   8 |     FROM scratch
   9 |     COPY --from=builder /src/x /x
  10 | >>> COPY nope /
  11 |     RUN [\"/x\"]
--------------------";
        assert_eq!(excerpt("Dockerfile", DOCKERFILE, &(10..=10)), want);
        assert!(excerpt("D", DOCKERFILE, &(5..=7)).contains("   6 | >>>     # within\n"));
        assert!(excerpt("D", DOCKERFILE, &(1..=1)).starts_with("D:1\n"));
        assert_eq!(excerpt("D", DOCKERFILE, &(99..=99)), "");
    }
}
