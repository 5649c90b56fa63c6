//! One pattern of an ignore file, as moby/patternmatcher understands it.
//!
//! The common shapes (`node_modules`, `**/target`, `docs/**`, `*.log`) are compared as text; the others become
//! a regular expression, which runs in time linear in the path whatever the pattern.

use std::iter::Peekable;
use std::str::Chars;

use regex::bytes::Regex;

use super::go_regex;

/// A pattern that has been understood.
#[derive(Debug)]
pub(crate) struct Pattern {
    shape: Shape,
    /// The text without a `/**` and then a `/*` at its end: where the walk of Docker's clients expects matches.
    root: String,
}

#[derive(Debug)]
enum Shape {
    /// This very path.
    Exact(String),
    /// `docs/**`: whatever begins so.
    Prefix(String),
    /// `**/name` and `**tail`: whatever ends so; `/name` is also `name` itself.
    Suffix(String),
    /// `*.log` (`at_root`: only in the context's root) and `**/*.log`. The text holds no `/`.
    NameSuffix { text: String, at_root: bool },
    /// Anything else: every match begins with `start` and ends with `end`, which spares most paths the
    /// expression.
    General { start: String, end: String, regex: Regex },
}

/// How a pattern is compared. They are found from left to right, so that a later part decides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exact,
    Prefix,
    Suffix,
    General,
}

impl Pattern {
    /// Understands a cleaned pattern. The error says what is wrong and what would be right.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        check(text)?;
        let root = text.strip_suffix("/**").unwrap_or(text);
        let root = root.strip_suffix("/*").unwrap_or(root).to_owned();
        let (kind, expression) = compile(text);
        let shape = match kind {
            Kind::Exact => Shape::Exact(text.to_owned()),
            Kind::Prefix => Shape::Prefix(text.strip_suffix("**").unwrap_or(text).to_owned()),
            Kind::Suffix => Shape::Suffix(text.strip_prefix("**").unwrap_or(text).to_owned()),
            Kind::General => match name_suffix(text) {
                Some(shape) => shape,
                None => general(text, &expression)?,
            },
        };
        Ok(Self { shape, root })
    }

    /// Whether this very path matches; what its parents do is the caller's affair.
    pub(crate) fn matches(&self, path: &str) -> bool {
        match &self.shape {
            Shape::Exact(text) => path == text,
            Shape::Prefix(text) => path.starts_with(text.as_str()),
            Shape::Suffix(text) => {
                path.ends_with(text.as_str()) || text.strip_prefix('/').is_some_and(|name| path == name)
            }
            Shape::NameSuffix { text, at_root } => {
                path.ends_with(text.as_str())
                    && match path.rsplit_once('/') {
                        None => true,
                        // '**' stands for no directory with a line break in its name.
                        Some((directory, _)) => !at_root && !directory.contains('\n'),
                    }
            }
            Shape::General { start, end, regex } => {
                path.starts_with(start.as_str())
                    && path.ends_with(end.as_str())
                    && regex.is_match(path.as_bytes())
            }
        }
    }

    /// Whether some path beneath this directory could match.
    pub(super) fn may_match_below(&self, directory: &str) -> bool {
        let is_below = |text: &str| text.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
        let leads_there = |text: &str| is_below(text) || directory.starts_with(text);
        match &self.shape {
            Shape::Exact(text) => is_below(text),
            Shape::Prefix(start) | Shape::General { start, .. } => leads_there(start),
            Shape::NameSuffix { at_root, .. } => !at_root,
            Shape::Suffix(_) => true,
        }
    }

    /// Whether it names one directory, and at most all that is in it.
    pub(super) fn has_plain_root(&self) -> bool {
        !self.root.contains(['*', '[', ']', '?', '^', '\\'])
    }

    /// Whether that directory is this one, or is beneath it.
    pub(super) fn root_is_within(&self, directory: &str) -> bool {
        self.root.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// How the pattern is compared, and its expression in Go's syntax. The same steps as patternmatcher's `compile`: it
/// knows no classes, so a `*` or `?` in one is not itself.
fn compile(text: &str) -> (Kind, String) {
    let mut kind = Kind::Exact;
    let mut out = String::from("^");
    let mut chars = text.chars().peekable();
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_some() {
                    out.push_str("(.*/)?");
                    kind = Kind::General;
                } else if kind == Kind::Exact {
                    kind = Kind::Prefix;
                } else {
                    out.push_str(".*");
                    kind = Kind::General;
                }
                if first {
                    kind = Kind::Suffix;
                }
            }
            '*' => {
                out.push_str("[^/]*");
                kind = Kind::General;
            }
            '?' => {
                out.push_str("[^/]");
                kind = Kind::General;
            }
            '.' | '+' | '(' | ')' | '$' => {
                out.push('\\');
                out.push(c);
            }
            '\\' => {
                out.push('\\');
                out.extend(chars.next());
                kind = Kind::General;
            }
            '[' | ']' => {
                out.push(c);
                kind = Kind::General;
            }
            c => out.push(c),
        }
        first = false;
    }
    out.push('$');
    (kind, out)
}

/// `*.log` and `**/*.log`, where nothing else in it is special.
fn name_suffix(text: &str) -> Option<Shape> {
    let (text, at_root) = match text.strip_prefix("**/*") {
        Some(rest) => (rest, false),
        None => (text.strip_prefix('*')?, true),
    };
    let plain = !text.contains(['/', '*', '?', '[', ']', '\\', '^', '|', '{', '}']);
    plain.then(|| Shape::NameSuffix { text: text.to_owned(), at_root })
}

fn general(text: &str, expression: &str) -> Result<Shape, String> {
    let regex = Regex::new(&go_regex::translate(expression)?).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it is too large; split it into several lines".to_owned(),
        _ => "Docker's clients refuse it; write '\\' before a character that stands for itself".to_owned(),
    })?;
    let (mut start, mut end) = ("", "");
    // With these characters a match need not hold the text around them.
    if !text.contains(['|', '{', '}', '^', '\\']) {
        let special = ['*', '?', '[', ']'];
        start = text.split(special).next().unwrap_or_default();
        if !text.contains('[') {
            end = text.rsplit(special).next().unwrap_or_default();
        }
    }
    // The slash of '**/' goes with it.
    let end = match text.strip_suffix(end) {
        Some(before) if before.ends_with("**") => end.strip_prefix('/').unwrap_or(end),
        _ => end,
    };
    Ok(Shape::General { start: start.to_owned(), end: end.to_owned(), regex })
}

/// What Go's `filepath.Match` refuses: `!` has no meaning in a class, and `-` and `]` need a backslash there.
fn check(text: &str) -> Result<(), String> {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next().ok_or("a '\\' at the end escapes nothing; write '\\\\' for a backslash")?;
            }
            '[' => check_class(&mut chars)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_class(chars: &mut Peekable<Chars<'_>>) -> Result<(), String> {
    let open = || "the '[' is never closed; add a ']', or write '\\[' for the character itself".to_owned();
    let one = |chars: &mut Peekable<Chars<'_>>| match chars.next() {
        None => Err(open()),
        Some('\\') => chars.next().ok_or_else(open),
        Some(c @ ('-' | ']')) => Err(format!("a '{c}' may not stand here in '[...]'; write '\\{c}'")),
        Some(c) => Ok(c),
    };
    chars.next_if_eq(&'^');
    let mut empty = true;
    while empty || chars.peek() != Some(&']') {
        one(chars)?;
        if chars.next_if_eq(&'-').is_some() {
            one(chars)?;
        }
        empty = false;
    }
    chars.next();
    Ok(())
}

/// The pattern without its shortcut, to test the shortcut against.
#[cfg(test)]
pub(super) fn expression(text: &str) -> Option<Regex> {
    check(text).ok()?;
    Regex::new(&go_regex::translate(&compile(text).1).ok()?).ok()
}
