//! Which files of a directory are not part of its context: `.dockerignore`, as current Docker clients read it.
//!
//! The last line that matches a path decides; a line that matches a directory matches all that it holds; a
//! line that begins with `!` brings back. The details are those of moby/patternmatcher and of the walk of
//! tonistiigi/fsutil, which buildx uses:
//!
//! - A line that could not change the answer for a path is not evaluated there. So it does not match what that
//!   path holds either, unless it is evaluated for it in turn: `!packages/*` after `**/node_modules` brings back
//!   nothing in `packages/app/node_modules`, because it was not evaluated for `packages/app`.
//! - The walk enters an excluded directory only where a `!` line names something in it, or where some `!` line
//!   has wildcards that are not at its end.
//!
//! Nothing here touches a disk.

mod go_regex;
#[cfg(test)]
mod oracle;
pub(crate) mod pattern;
#[cfg(test)]
mod tests;

use pattern::Pattern;

use crate::Error;

/// An ignore file's lines, in order.
#[derive(Debug, Default)]
pub struct Ignore {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    pattern: Pattern,
    brings_back: bool,
}

/// Which lines match a directory, and so all that it holds. Empty for the root.
#[derive(Debug, Clone, Default)]
pub struct Trail(Vec<bool>);

impl Ignore {
    /// Reads an ignore file. `name` is for errors.
    ///
    /// A byte order mark, comments (`#` as a line's first character), blank lines and white space around a
    /// pattern do not count; `/a` is `a`, and `.` and `..` are resolved in the text alone.
    ///
    /// # Errors
    /// [`Error::Ignore`] with the line and the pattern.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes);
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(text.split('\n')) {
            let written = line.trim();
            if line.starts_with('#') || written.is_empty() {
                continue;
            }
            let wrong = |problem: &str| Error::Ignore {
                name: name.to_owned(),
                line: number,
                pattern: written.to_owned(),
                problem: problem.to_owned(),
            };
            let Some(given) = Given::read(written) else {
                return Err(wrong(
                    "there is no pattern after '!'; name what to bring back, or remove the line",
                ));
            };
            if given.brings_back && given.pattern.is_empty() {
                return Err(wrong("the context itself cannot be brought back; write '!**' for all it holds"));
            }
            let pattern = Pattern::parse(&given.pattern).map_err(|problem| wrong(&problem))?;
            lines.push(Line { pattern, brings_back: given.brings_back });
        }
        Ok(Self { lines })
    }

    /// Whether it excludes nothing at all.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether this path is left out. `above` is the trail of the directory that holds it.
    pub fn excludes(&self, path: &str, above: &Trail) -> bool {
        self.evaluate(path, above, |_| ())
    }

    /// Whether this directory itself is left out, and the trail for what it holds.
    ///
    /// One that is left out may still hold what a later line brings back: see
    /// [`may_bring_back_below`](Self::may_bring_back_below).
    pub fn enter(&self, path: &str, above: &Trail) -> (bool, Trail) {
        let mut trail = Trail(vec![false; self.lines.len()]);
        let excluded = self.evaluate(path, above, |line| trail.0[line] = true);
        (excluded, trail)
    }

    /// Whether a walk looks into this directory although it is left out.
    ///
    /// Docker's clients do not look into one that no `!` line names, even if such a line would match something
    /// there: `!a/*/**` brings back nothing after `a`. Where they look and no `!` line can match, this does not.
    pub fn may_bring_back_below(&self, directory: &str) -> bool {
        let exceptions = || self.lines.iter().filter(|line| line.brings_back).map(|line| &line.pattern);
        let entered = exceptions().any(|pattern| pattern.root_is_within(directory))
            || !exceptions().all(Pattern::has_plain_root);
        entered && exceptions().any(|pattern| pattern.may_match_below(directory))
    }

    /// Whether this path is left out; `matched` learns of every line that matches it.
    fn evaluate(&self, path: &str, above: &Trail, mut matched: impl FnMut(usize)) -> bool {
        let mut excluded = false;
        for (at, line) in self.lines.iter().enumerate() {
            let changes = line.brings_back == excluded;
            if above.has(at) || (changes && line.pattern.matches(path)) {
                excluded = !line.brings_back;
                matched(at);
            }
        }
        excluded
    }
}

/// A line as it is given to the matcher.
struct Given {
    brings_back: bool,
    pattern: String,
}

impl Given {
    /// The line without white space around it; none if there is nothing after its `!`.
    ///
    /// Docker's clients clean a line twice: when they read the file, and when they make its matcher. Only then do
    /// they ask for a `!` again, so `/!a` brings back `a`.
    fn read(line: &str) -> Option<Self> {
        let (inverted, rest) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, line),
        };
        if rest.is_empty() {
            return None;
        }
        let cleaned = clean(rest);
        let relative =
            if cleaned.len() > 1 { cleaned.strip_prefix('/').unwrap_or(&cleaned) } else { &cleaned };
        let sign = if inverted { "!" } else { "" };
        let cleaned = clean(format!("{sign}{relative}").trim());
        Some(match cleaned.strip_prefix('!') {
            Some(rest) => Self { brings_back: true, pattern: rest.to_owned() },
            None => Self { brings_back: false, pattern: cleaned },
        })
    }
}

impl Trail {
    fn has(&self, line: usize) -> bool {
        self.0.get(line).copied().unwrap_or(false)
    }
}

/// The shortest path that means the same, without looking at a disk: `a//b/./c/../d` is `a/b/d`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => {
                names.pop();
            }
            ".." if rooted => {}
            name => names.push(name),
        }
    }
    let joined = names.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}
