//! A copy of a Dockerfile, byte for byte as long, in which the parser sees only what it understands.
//!
//! The parser knows a here-document only as a RUN's first argument, takes `\\` at a line's end for a
//! continuation, wants UTF-8, and something in every list. BuildKit knows them anywhere in RUN, COPY and ADD,
//! does not, and does not care; with an empty list one takes back a base's command. So their bodies become blank
//! lines and the odd bytes become harmless ones; no place moves.

use super::shell;

/// A here-document that never ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unterminated {
    /// Of the instruction, from 1.
    pub(super) line: u32,
    /// What should end it.
    pub(super) name: String,
}

/// Makes the bytes text. Every byte that is not UTF-8 becomes `?`.
pub(super) fn to_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

/// Masks what the parser would misread.
pub(super) fn mask(text: &str, escape: char) -> Result<String, Unterminated> {
    let mut masked = String::with_capacity(text.len());
    let mut lines = text.split_inclusive('\n');
    let mut number = 0;
    while let Some(first) = lines.next() {
        number += 1;
        let start = number;
        // One instruction: a line and what continues it, as it is and as one line.
        let mut whole = String::from(first);
        let mut joined = String::new();
        let mut more = !is_comment(first) && !first.trim().is_empty() && append(&mut joined, first, escape);
        while more && let Some(line) = lines.next() {
            number += 1;
            whole.push_str(line);
            more = is_comment(line) || line.trim().is_empty() || append(&mut joined, line, escape);
        }
        let names = here_documents(&joined, escape);
        let whole = if is_empty_command(&joined) { whole.replace(['[', ']'], "_") } else { whole };
        masked.push_str(&defuse(&whole, escape, !names.is_empty() || may_hold_documents(&joined)));
        for (name, strips_tabs) in names {
            loop {
                let Some(line) = lines.next() else { return Err(Unterminated { line: start, name }) };
                number += 1;
                let content = line.trim_end_matches(['\n', '\r']);
                masked.extend(content.bytes().map(|_| ' '));
                masked.push_str(&line[content.len()..]);
                let content = if strips_tabs { content.trim_start_matches('\t') } else { content };
                if content == name {
                    break;
                }
            }
        }
    }
    Ok(masked)
}

/// Adds a line to its instruction, without the character that continues it; whether there was one.
fn append(joined: &mut String, line: &str, escape: char) -> bool {
    let content = line.trim_end_matches(['\n', '\r']);
    match content.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => {
            joined.push_str(before);
            true
        }
        _ => {
            joined.push_str(content);
            false
        }
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// Whether BuildKit looks for here-documents in this instruction.
fn may_hold_documents(joined: &str) -> bool {
    let mut words = joined.split_ascii_whitespace().map(str::to_ascii_lowercase);
    let mut word = words.next();
    if word.as_deref() == Some("onbuild") {
        word = words.next();
    }
    matches!(word.as_deref(), Some("run" | "copy" | "add"))
}

/// The documents an instruction announces: what ends each, and whether tabs before it do not count.
fn here_documents(joined: &str, escape: char) -> Vec<(String, bool)> {
    if !joined.contains("<<") || !may_hold_documents(joined) || is_json(joined) {
        return Vec::new();
    }
    shell::words(joined, escape).into_iter().filter_map(here_document).collect()
}

/// The document that a word announces, as in `<<EOF`, `3<<"EOF"` or `<<-EOF`: what ends it, and whether tabs before that
/// do not count.
pub(super) fn here_document(word: &str) -> Option<(String, bool)> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (rest, strips_tabs) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let name = shell::unquote(rest);
    (!name.is_empty() && !rest.contains('<')).then_some((name, strips_tabs))
}

/// `ENTRYPOINT []` or `CMD []`, after ONBUILD too.
fn is_empty_command(joined: &str) -> bool {
    let mut words = joined.split_ascii_whitespace();
    let mut word = words.next();
    if word.is_some_and(|word| word.eq_ignore_ascii_case("onbuild")) {
        word = words.next();
    }
    let is_command =
        word.is_some_and(|word| ["cmd", "entrypoint"].iter().any(|known| word.eq_ignore_ascii_case(known)));
    is_command && words.collect::<String>() == "[]"
}

/// Whether the arguments are in exec form.
fn is_json(joined: &str) -> bool {
    let arguments = joined.split_ascii_whitespace().skip(1).find(|word| !word.starts_with("--"));
    arguments.is_some_and(|word| word.starts_with('[')) && joined.trim_end().ends_with(']')
}

/// An instruction without `<<`, and without a doubled escape at its end.
fn defuse(whole: &str, escape: char, documents: bool) -> String {
    let mut whole = if documents { whole.replace("<<", "__") } else { whole.to_owned() };
    let end = whole.trim_end_matches([' ', '\t', '\n', '\r']).len();
    if whole[..end].ends_with(&[escape, escape].iter().collect::<String>()) {
        whole.replace_range(end - 1..end, "_");
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let masked = mask(text, '\\').unwrap();
        assert_eq!(masked.len(), text.len());
        assert_eq!(masked.matches('\n').count(), text.matches('\n').count());
        masked
    }

    #[test]
    fn bodies_become_blank_lines() {
        for (text, want) in [
            ("RUN cat <<EOF\nFROM x\nEOF\nFROM y\n", "RUN cat __EOF\n      \n   \nFROM y\n"),
            ("RUN <<'E' cat >a\nx\nE\n", "RUN __'E' cat >a\n \n \n"),
            ("COPY <<a <<-b /d/\n1\na\n\tb\nRUN x", "COPY __a __-b /d/\n \n \n  \nRUN x"),
            ("run 3<<E\n\tE\nE\n", "run 3__E\n  \n \n"),
            ("ONBUILD RUN <<E\nx\nE\n", "ONBUILD RUN __E\n \n \n"),
            ("RUN a \\\n# c\n\n <<E\nx\nE", "RUN a \\\n# c\n\n __E\n \n "),
            ("RUN a <<E\r\nx\r\nE\r\n", "RUN a __E\r\n \r\n \r\n"),
        ] {
            assert_eq!(masked(text), want);
        }
    }

    #[test]
    fn what_only_looks_like_one_stays() {
        for text in [
            "RUN echo \"<<EOF\"\nRUN y\n",
            "RUN cat <<<EOF\nRUN y\n",
            "RUN x=$((1<<2)) << \nRUN y\n",
            "RUN [\"a\", \"<<E\"]\nRUN y\n",
            "LABEL a=<<E\nRUN y\n",
            "# RUN <<E\nRUN y\n",
        ] {
            assert!(masked(text).ends_with("RUN y\n"), "{text}");
        }
    }

    #[test]
    fn a_doubled_escape_ends_its_line() {
        assert_eq!(masked("ENV a=C:\\\\\nFROM x\n"), "ENV a=C:\\_\nFROM x\n");
        assert_eq!(masked("ENV a=C:\\\nFROM x\n"), "ENV a=C:\\\nFROM x\n");
    }

    #[test]
    fn a_command_that_is_taken_back_is_no_empty_one() {
        assert_eq!(masked("ENTRYPOINT []\nFROM x\n"), "ENTRYPOINT __\nFROM x\n");
        assert_eq!(masked("onbuild cmd [ \\\n ]\r\n"), "onbuild cmd _ \\\n _\r\n");
        for text in ["RUN []\n", "CMD [\"\"]\n", "CMD x []\n", "SHELL []\n"] {
            assert_eq!(masked(text), text);
        }
    }

    #[test]
    fn an_end_that_is_missing_is_named() {
        let error = mask("FROM x\n\nRUN \\\n <<EOF\nEOF2\n", '\\').unwrap_err();
        assert_eq!(error, Unterminated { line: 3, name: "EOF".to_owned() });
    }

    #[test]
    fn odd_bytes_keep_their_place() {
        assert_eq!(to_text(b"a\xFF\xC3b\xE2\x98\xBA"), "a??b\u{263a}");
    }
}
