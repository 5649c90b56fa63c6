//! A script's first line, read as Linux reads it; and what `env`, where that is the interpreter, would run.

/// What a first line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interpreter<'a> {
    pub(super) path: &'a [u8],
    /// All the rest, which Linux passes on as one word.
    pub(super) argument: Option<&'a [u8]>,
}

/// What follows `#!`. `is_whole`: as far as the line goes, not only as far as Linux looks. None: Linux does not
/// take it for a script.
pub(super) fn interpreter(line: &[u8], is_whole: bool) -> Option<Interpreter<'_>> {
    let blank = |byte: &u8| matches!(*byte, b' ' | b'\t');
    let line = &line[line.iter().position(|byte| !blank(byte))?..];
    let end = line.iter().position(|byte| blank(byte) || *byte == 0);
    let end = match end {
        Some(end) => end,
        // The name itself may have been cut off.
        None if is_whole => line.len(),
        None => return None,
    };
    let (path, rest) = line.split_at(end);
    let first = rest.iter().position(|byte| !blank(byte));
    let last = rest.iter().rposition(|byte| !blank(byte));
    let argument = first.zip(last).map(|(first, last)| &rest[first..=last]);
    (!path.is_empty()).then_some(Interpreter { path, argument })
}

impl Interpreter<'_> {
    /// Whether it is given a word that ends in a carriage return and stumbles over it. Linux takes none away. `env -S`
    /// splits words at one; perl and ruby ignore one at the end of their options.
    pub(super) fn ends_in_carriage_return(&self) -> bool {
        let Some(argument) = self.argument.filter(|argument| argument.ends_with(b"\r")) else { return false };
        let name = self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let splits = argument.starts_with(b"-S") || argument.starts_with(b"--split-string=");
        let ignores = name.starts_with(b"perl") || name.starts_with(b"ruby");
        !(name == b"env" && splits || ignores && argument.starts_with(b"-"))
    }
}

/// What `env` is asked to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Env<'a> {
    /// This program, looked up in the `PATH` that there is.
    Program(&'a [u8]),
    /// Something that is not told from here.
    Unknown,
}

/// What `env` runs with this one argument, as GNU's and busybox' do.
pub(super) fn env(argument: &[u8]) -> Env<'_> {
    let split = argument.strip_prefix(b"-S").or_else(|| argument.strip_prefix(b"--split-string="));
    let Some(words) = split else {
        // One word, blanks and all.
        let is_option = argument.starts_with(b"-") || argument.contains(&b'=');
        return if is_option { Env::Unknown } else { Env::Program(argument) };
    };
    if words.iter().any(|byte| matches!(byte, b'"' | b'\'' | b'\\' | b'$' | b'#')) {
        return Env::Unknown;
    }
    let mut words = words.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    // Assignments come first; one of PATH changes where it looks.
    let program = words.find(|word| !word.contains(&b'=') || word.starts_with(b"PATH=") || word[0] == b'-');
    match program {
        Some(word) if word[0] != b'-' && !word.contains(&b'=') => Env::Program(word),
        _ => Env::Unknown,
    }
}

/// What a shell runs first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct First<'a> {
    pub(super) word: &'a str,
    /// Nothing else is run after it, or instead of it.
    pub(super) is_all: bool,
}

/// What a shell that is given this would run first, where that is plain: no word of its own, nothing put in.
pub(super) fn first_word(script: &str) -> Option<First<'_>> {
    let mut words = script.split_ascii_whitespace();
    let mut word = words.next()?;
    let takes_over = word == "exec";
    if takes_over {
        word = words.next()?;
    }
    let is_all = takes_over || !script.trim().contains([';', '&', '|', '(', ')', '`', '\n']);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./+-".contains(c);
    let trimmed = word.strip_suffix(';').unwrap_or(word);
    let is_plain = trimmed.chars().all(plain) && trimmed.starts_with(|c: char| c != '-');
    let is_told = is_plain && !trimmed.is_empty() && !SHELL_WORDS.contains(&trimmed);
    is_told.then_some(First { word: trimmed, is_all })
}

/// What shells do by themselves.
const SHELL_WORDS: &[&str] = &[
    ".",
    "alias",
    "bg",
    "break",
    "builtin",
    "caller",
    "case",
    "cd",
    "command",
    "continue",
    "declare",
    "dirs",
    "disown",
    "do",
    "done",
    "echo",
    "elif",
    "else",
    "enable",
    "esac",
    "eval",
    "exec",
    "exit",
    "export",
    "false",
    "fg",
    "fi",
    "for",
    "function",
    "getopts",
    "hash",
    "help",
    "history",
    "if",
    "in",
    "jobs",
    "kill",
    "let",
    "local",
    "logout",
    "mapfile",
    "popd",
    "printf",
    "pushd",
    "pwd",
    "read",
    "readarray",
    "readonly",
    "return",
    "select",
    "set",
    "shift",
    "shopt",
    "source",
    "suspend",
    "test",
    "then",
    "time",
    "times",
    "trap",
    "true",
    "type",
    "typeset",
    "ulimit",
    "umask",
    "unalias",
    "unset",
    "until",
    "wait",
    "while",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_are_read_as_linux_does() {
        let read = |line: &'static str, is_whole| {
            interpreter(line.as_bytes(), is_whole).map(|found| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                (text(found.path), found.argument.map(text))
            })
        };
        let some = |path: &str, argument: Option<&str>| Some((path.to_owned(), argument.map(str::to_owned)));
        assert_eq!(read("/bin/sh", true), some("/bin/sh", None));
        assert_eq!(read(" \t/bin/sh  -e -x \t", true), some("/bin/sh", Some("-e -x")));
        assert_eq!(read("/bin/sh\r", true), some("/bin/sh\r", None));
        assert_eq!(read("", true), None);
        assert_eq!(read("   ", true), None);
        assert_eq!(read("/a/long/name", false), None);
        assert_eq!(read("/a/name with", false), some("/a/name", Some("with")));
    }

    #[test]
    fn a_word_that_ends_in_a_carriage_return_is_seen() {
        for (line, seen) in [
            ("/bin/sh -e\r", true),
            ("/bin/sh \r", true),
            ("/bin/sh\t-e -x\r", true),
            ("/usr/bin/python3 -u\r", true),
            ("/usr/bin/env bash\r", true),
            ("/usr/bin/env -i\r", true),
            ("/usr/bin/perl \r", true),
            ("/bin/sh -e", false),
            ("/bin/sh\r", false),
            ("/usr/bin/env -S bash -e\r", false),
            ("/usr/bin/perl -w\r", false),
            ("/usr/bin/perl5.36.0 -w\r", false),
        ] {
            let found = interpreter(line.as_bytes(), true).unwrap();
            assert_eq!(found.ends_in_carriage_return(), seen, "{line:?}");
        }
    }

    #[test]
    fn env_finds_its_program_where_that_is_plain() {
        for (argument, want) in [
            ("bash", Some("bash")),
            ("bash -e", Some("bash -e")),
            ("-S bash -e", Some("bash")),
            ("-Spython3 -u", Some("python3")),
            ("-S A=b C=d node", Some("node")),
            ("-S PATH=/x node", None),
            ("-S -i node", None),
            ("-S \"a b\"", None),
            ("-i", None),
            ("A=b", None),
        ] {
            let want = want.map_or(Env::Unknown, |word| Env::Program(word.as_bytes()));
            assert_eq!(env(argument.as_bytes()), want, "{argument}");
        }
    }

    #[test]
    fn only_plain_first_words_are_told() {
        for (script, want) in [
            ("/app --serve $PORT", Some(("/app", true))),
            ("exec ./run.sh \"$@\"", Some(("./run.sh", true))),
            ("exec app || true", Some(("app", true))),
            ("node; true", Some(("node", false))),
            ("/app --check || /app --help", Some(("/app", false))),
            ("app $(id -u)", Some(("app", false))),
            ("cd /x && ./y", None),
            ("A=b node", None),
            ("$CMD", None),
            ("(sleep 1)", None),
            ("exec", None),
            ("", None),
            ("-x", None),
        ] {
            let want = want.map(|(word, is_all)| First { word, is_all });
            assert_eq!(first_word(script), want, "{script}");
        }
    }
}
