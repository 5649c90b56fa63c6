//! One pattern of an ignore file.
//!
//! The common shapes (`node_modules`, `**/target`, `docs/**`, `*.log`) are compared as text; the others become
//! a regular expression, which runs in time linear in the path whatever the pattern.

use std::iter::Peekable;
use std::str::Chars;

use regex::Regex;

/// A pattern that has been understood.
#[derive(Debug)]
pub(super) enum Pattern {
    /// This very path.
    Exact(String),
    /// `docs/**`: whatever begins so.
    Prefix(String),
    /// `**/name` (`at_slash`: whole names only) and `**tail`.
    Suffix { text: String, at_slash: bool },
    /// `*.log` (`at_root`: only in the context's root) and `**/*.log`. The text holds no `/`.
    NameSuffix { text: String, at_root: bool },
    /// Anything else: every match begins with `start` and ends with `end`, which spares most paths the
    /// expression.
    General { start: String, end: String, regex: Regex },
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Literal(char),
    /// `?`: one character of a name.
    AnyChar,
    /// `*`: any run of characters of a name.
    AnyRun,
    /// `**` or `**/` with more to come: any number of directories, none included.
    AnyDepth {
        slash: bool,
    },
    /// `**` or `**/` at the end: all the rest.
    Rest,
    /// `[a-z]`, `[^a-z]`.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Token {
    fn literal(&self) -> Option<char> {
        match self {
            Self::Literal(c) => Some(*c),
            _ => None,
        }
    }
}

impl Pattern {
    /// Understands a cleaned pattern. The error says what is wrong and what would be right.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let tokens = tokenize(text)?;
        if let Some(literal) = literal(&tokens) {
            return Ok(Self::Exact(literal));
        }
        match &tokens[..] {
            [start @ .., Token::Rest] => {
                if let Some(literal) = literal(start) {
                    return Ok(Self::Prefix(literal));
                }
            }
            [Token::AnyDepth { slash: true }, Token::AnyRun, end @ ..] => {
                if let Some(literal) = literal(end).filter(|text| !text.contains('/')) {
                    return Ok(Self::NameSuffix { text: literal, at_root: false });
                }
            }
            [Token::AnyDepth { slash }, end @ ..] => {
                if let Some(literal) = literal(end) {
                    return Ok(Self::Suffix { text: literal, at_slash: *slash });
                }
            }
            [Token::AnyRun, end @ ..] => {
                if let Some(literal) = literal(end).filter(|text| !text.contains('/')) {
                    return Ok(Self::NameSuffix { text: literal, at_root: true });
                }
            }
            _ => {}
        }
        let start = tokens.iter().map_while(Token::literal).collect();
        let backwards: String = tokens.iter().rev().map_while(Token::literal).collect();
        let end = backwards.chars().rev().collect();
        let regex = Regex::new(&to_regex(&tokens))
            .map_err(|_| "it is too large; split it into several lines".to_owned())?;
        Ok(Self::General { start, end, regex })
    }

    /// Whether this very path matches; what its parents do is the caller's affair.
    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(text) => path == text,
            Self::Prefix(text) => path.starts_with(text.as_str()),
            Self::Suffix { text, at_slash } => path
                .strip_suffix(text.as_str())
                .is_some_and(|before| !at_slash || before.is_empty() || before.ends_with('/')),
            Self::NameSuffix { text, at_root } => {
                path.ends_with(text.as_str()) && !(*at_root && path.contains('/'))
            }
            Self::General { start, end, regex } => {
                path.starts_with(start.as_str()) && path.ends_with(end.as_str()) && regex.is_match(path)
            }
        }
    }

    /// Whether some path beneath this directory could match.
    pub(super) fn may_match_below(&self, directory: &str) -> bool {
        let is_below = |text: &str| text.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
        let leads_there = |text: &str| {
            is_below(text) || directory.starts_with(text) || {
                // `docs/` leads to `docs`, whose children all begin so.
                text.strip_suffix('/') == Some(directory)
            }
        };
        match self {
            Self::Exact(text) => is_below(text),
            Self::Prefix(start) | Self::General { start, .. } => leads_there(start),
            Self::NameSuffix { at_root, .. } => !at_root,
            Self::Suffix { .. } => true,
        }
    }
}

fn literal(tokens: &[Token]) -> Option<String> {
    tokens.iter().map(Token::literal).collect()
}

fn tokenize(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                let slash = chars.next_if_eq(&'/').is_some();
                if chars.peek().is_none() { Token::Rest } else { Token::AnyDepth { slash } }
            }
            '*' => Token::AnyRun,
            '?' => Token::AnyChar,
            '\\' => Token::Literal(
                chars.next().ok_or("a '\\' at the end escapes nothing; write '\\\\' for a backslash")?,
            ),
            '[' => class(&mut chars)?,
            c => Token::Literal(c),
        });
    }
    Ok(tokens)
}

/// What follows a `[`, in the grammar of Go's `filepath.Match`: `!` has no meaning here, and `-` and `]` need
/// a backslash.
fn class(chars: &mut Peekable<Chars<'_>>) -> Result<Token, String> {
    let open = || "the '[' is never closed; add a ']', or write '\\[' for the character itself".to_owned();
    let one = |chars: &mut Peekable<Chars<'_>>| match chars.next() {
        None => Err(open()),
        Some('\\') => chars.next().ok_or_else(open),
        Some(c @ ('-' | ']')) => Err(format!("a '{c}' may not stand here in '[...]'; write '\\{c}'")),
        Some(c) => Ok(c),
    };
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || chars.peek() != Some(&']') {
        let low = one(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { one(chars)? } else { low };
        if low > high {
            return Err(format!("the range '{low}-{high}' runs backwards; write '{high}-{low}'"));
        }
        ranges.push((low, high));
    }
    chars.next();
    Ok(Token::Class { negated, ranges })
}

fn to_regex(tokens: &[Token]) -> String {
    let mut out = String::from("(?s)^");
    for token in tokens {
        match token {
            Token::Literal(c) => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
            Token::AnyChar => out.push_str("[^/]"),
            Token::AnyRun => out.push_str("[^/]*"),
            Token::AnyDepth { .. } => out.push_str("(?:.*/)?"),
            Token::Rest => out.push_str(".*"),
            Token::Class { negated, ranges } => {
                out.push_str(if *negated { "[^" } else { "[" });
                for (low, high) in ranges {
                    out.push_str(&format!("\\x{{{:X}}}-\\x{{{:X}}}", u32::from(*low), u32::from(*high)));
                }
                out.push(']');
            }
        }
    }
    out.push('$');
    out
}

/// The pattern without its shortcut, to test the shortcut against.
#[cfg(test)]
pub(super) fn general(text: &str) -> Option<Pattern> {
    let tokens = tokenize(text).ok()?;
    Some(Pattern::General {
        start: String::new(),
        end: String::new(),
        regex: Regex::new(&to_regex(&tokens)).ok()?,
    })
}
