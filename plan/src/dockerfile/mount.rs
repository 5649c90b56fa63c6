//! `RUN --mount=type=bind,from=IMAGE,...`: finds the image, and where in the file it is written.

use std::ops::Range;

/// The bytes of a mount's value that name the image or stage it is from, if it is from one.
pub(super) fn source(value: &str) -> Option<Range<usize>> {
    let mut found = None;
    let mut secret = false;
    for field in fields(value) {
        let Some((key, rest)) = value[field.clone()].split_once('=') else { continue };
        match key.to_ascii_lowercase().as_str() {
            "from" => found = Some(field.end - rest.len()..field.end),
            "type" => secret = matches!(rest.to_ascii_lowercase().as_str(), "secret" | "ssh"),
            _ => {}
        }
    }
    found.filter(|range| !secret && !range.is_empty())
}

/// What a mount takes from the context.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OfContext<'a> {
    /// Nothing.
    Nothing,
    /// Nothing either, but BuildKit asks as if it took everything.
    Tmpfs,
    /// What this path leads to.
    Path(&'a str),
}

/// What `RUN --mount=VALUE` takes from the context.
pub(super) fn of_context(value: &str) -> OfContext<'_> {
    let (mut kind, mut from, mut path) = ("bind".to_owned(), "", "");
    for field in fields(value) {
        let Some((key, rest)) = value[field].split_once('=') else { continue };
        match key.to_ascii_lowercase().as_str() {
            "type" => kind = rest.to_ascii_lowercase(),
            "from" => from = rest,
            "source" | "src" => path = rest,
            _ => {}
        }
    }
    match kind.as_str() {
        // Which it is, is known once the variable is put in.
        kind if kind.contains('$') => OfContext::Path("$"),
        "cache" | "secret" | "ssh" => OfContext::Nothing,
        _ if !from.is_empty() => OfContext::Nothing,
        "tmpfs" => OfContext::Tmpfs,
        _ => OfContext::Path(path),
    }
}

/// The comma-separated fields, without the quotes around one.
fn fields(value: &str) -> Vec<Range<usize>> {
    let mut fields = Vec::new();
    let mut start = 0;
    let mut quoted = false;
    for (at, byte) in value.bytes().enumerate().chain([(value.len(), b',')]) {
        if byte == b'"' {
            quoted = !quoted;
        } else if byte == b',' && (!quoted || at == value.len()) {
            let field = &value[start..at];
            let inner = field.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            fields.push(if inner.is_some() { start + 1..at - 1 } else { start..at });
            start = at + 1;
        }
    }
    fields
}

/// For every byte of `value`, its place in `written`, which has line continuations (and comments and blank
/// lines after them) besides. None if the two do not belong together.
pub(super) fn places(written: &str, value: &str, escape: char) -> Option<Vec<usize>> {
    let mut places = Vec::with_capacity(value.len());
    let mut at = 0;
    while let Some(rest) = written.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some(length) = continuation(rest, escape) {
            at += length;
            continue;
        }
        let c = rest.chars().next()?;
        places.extend(at..at + c.len_utf8());
        at += c.len_utf8();
    }
    let same = places.len() == value.len()
        && places.iter().zip(value.bytes()).all(|(place, byte)| written.as_bytes()[*place] == byte);
    same.then_some(places)
}

/// How long the line continuation is that `text` begins with.
fn continuation(text: &str, escape: char) -> Option<usize> {
    let (first, rest) = text.strip_prefix(escape)?.split_once('\n')?;
    if !first.trim_matches([' ', '\t', '\r']).is_empty() {
        return None;
    }
    let mut rest = rest;
    while let Some((line, next)) = rest.split_once('\n') {
        let line = line.trim_start();
        if !(line.is_empty() || line.starts_with('#')) {
            break;
        }
        rest = next;
    }
    Some(text.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_image() {
        for (value, want) in [
            ("type=bind,from=golang:1.21,target=/x", Some("golang:1.21")),
            ("from=a", Some("a")),
            ("FROM=a,type=cache", Some("a")),
            ("\"from=a\",x", Some("a")),
            ("\"a=b,from=c\",from=d", Some("d")),
            ("type=secret,from=a", None),
            ("type=cache,target=/x", None),
            ("from=", None),
            ("from", None),
            ("", None),
            ("\"", None),
        ] {
            assert_eq!(source(value).map(|range| &value[range]), want, "{value}");
        }
    }

    #[test]
    fn places_skip_continuations() {
        let written = "from=al\\ \n# alpine\n\n  pine";
        assert_eq!(places(written, "from=al  pine", '\\').unwrap()[..8], [0, 1, 2, 3, 4, 5, 6, 20]);
        assert_eq!(places(written, "from=alpine", '\\'), None);
        assert_eq!(places("a\\b", "a\\b", '\\'), Some(vec![0, 1, 2]));
    }
}
