//! Which files of a directory are not part of its context: `.dockerignore`, as Docker documents it.
//!
//! The last line that matches a path decides; a line that matches a directory matches all that it holds; a
//! line that begins with `!` brings back. Docker's clients differ from that, and from each other, where
//! lines match a directory and what it holds in turn; this does not. Nothing here touches a disk.

mod pattern;
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
            let (brings_back, rest) = match written.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, written),
            };
            if rest.is_empty() {
                return Err(wrong(
                    "there is no pattern after '!'; name what to bring back, or remove the line",
                ));
            }
            let cleaned = clean(rest);
            if brings_back && cleaned == "/" {
                return Err(wrong("the context itself cannot be brought back; write '!**' for all it holds"));
            }
            let relative = if cleaned.len() > 1 { cleaned.trim_start_matches('/') } else { &cleaned };
            let pattern = Pattern::parse(relative).map_err(|problem| wrong(&problem))?;
            lines.push(Line { pattern, brings_back });
        }
        Ok(Self { lines })
    }

    /// Whether it excludes nothing at all.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether this path is left out. `above` is the trail of the directory that holds it.
    pub fn excludes(&self, path: &str, above: &Trail) -> bool {
        let mut excluded = false;
        for (at, line) in self.lines.iter().enumerate() {
            // A line that would not change the answer need not be tried.
            if line.brings_back == excluded && (above.has(at) || line.pattern.matches(path)) {
                excluded = !line.brings_back;
            }
        }
        excluded
    }

    /// Whether this directory itself is left out, and the trail for what it holds.
    ///
    /// One that is left out may still hold what a later line brings back: see
    /// [`may_bring_back_below`](Self::may_bring_back_below).
    pub fn enter(&self, path: &str, above: &Trail) -> (bool, Trail) {
        let matches = |(at, line): (usize, &Line)| above.has(at) || line.pattern.matches(path);
        let trail = Trail(self.lines.iter().enumerate().map(matches).collect());
        let last = self.lines.iter().zip(&trail.0).rfind(|(_, matches)| **matches);
        (last.is_some_and(|(line, _)| !line.brings_back), trail)
    }

    /// Whether any line could bring back something beneath this directory: if not, and the directory is left
    /// out, there is no need to look inside.
    pub fn may_bring_back_below(&self, directory: &str) -> bool {
        self.lines.iter().any(|line| line.brings_back && line.pattern.may_match_below(directory))
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
