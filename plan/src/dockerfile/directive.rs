//! The directives that a Dockerfile may begin with: `# syntax=`, `# escape=`.
//!
//! They end at the first line that is none. The parser we use reads them too, but keeps what it read to
//! itself.

use std::ops::Range;

/// What a Dockerfile's first lines say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directives {
    /// What continues a line, and escapes: `\`, or a backquote.
    pub(super) escape: char,
    /// The bytes that name the frontend's image.
    pub(super) syntax: Option<Range<usize>>,
}

/// Reads them.
pub(super) fn read(text: &str) -> Directives {
    let mut found = Directives { escape: '\\', syntax: None };
    let mut seen = Vec::new();
    let mut start = if text.starts_with('\u{feff}') { 3 } else { 0 };
    for (number, line) in text[start..].split_inclusive('\n').enumerate() {
        let at = start;
        start += line.len();
        if number == 0 && line.starts_with("#!") {
            continue;
        }
        let Some((name, value)) = line.strip_prefix('#').and_then(|rest| rest.split_once('=')) else { break };
        let name = name.trim().to_ascii_lowercase();
        let value_at = at + line.len() - value.trim_start().len();
        let value = value.trim();
        if value.is_empty() || !["syntax", "escape", "check"].contains(&name.as_str()) || seen.contains(&name)
        {
            break;
        }
        match name.as_str() {
            "escape" if value == "`" => found.escape = '`',
            "syntax" => {
                let image = value.split(' ').next().unwrap_or(value);
                found.syntax = Some(value_at..value_at + image.len());
            }
            _ => {}
        }
        seen.push(name);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_comes_first_and_nothing_else() {
        for (text, escape, syntax) in [
            ("# syntax=docker/dockerfile:1\nFROM x", '\\', Some("docker/dockerfile:1")),
            ("#Syntax = a/b:1 --debug \r\n# escape=`\r\nFROM x", '`', Some("a/b:1")),
            ("\u{feff}# check=skip=all\n# syntax=a\n", '\\', Some("a")),
            ("#!/usr/bin/env x\n# syntax=a\n", '\\', Some("a")),
            ("# about\n# syntax=a\n", '\\', None),
            ("# unknown=1\n# syntax=a\n", '\\', None),
            ("\n# syntax=a\n", '\\', None),
            (" # syntax=a\n", '\\', None),
            ("# syntax=\n# escape=`\n", '\\', None),
            ("# syntax=a\n# syntax=b\n", '\\', Some("a")),
            ("FROM x\n# syntax=a\n", '\\', None),
            ("# syntax=a", '\\', Some("a")),
            ("", '\\', None),
        ] {
            let found = read(text);
            assert_eq!((found.escape, found.syntax.map(|span| &text[span])), (escape, syntax), "{text:?}");
        }
    }
}
