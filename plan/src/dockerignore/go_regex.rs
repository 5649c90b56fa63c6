//! A regular expression in Go's syntax, written in that of the `regex` crate.
//!
//! Docker's clients turn a pattern into an expression for Go's `regexp` and escape only some characters. So `|`,
//! `{`, `}` and `^` keep a meaning, `[*]` is no class with a star in it, and `\d` is a digit. Whoever ignores what
//! they ignore must read those expressions as Go does.

use std::iter::Peekable;
use std::str::Chars;

/// Go refuses to repeat anything more often.
const REPEATS: u32 = 1000;

/// What a quantifier would apply to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Atom,
    Quantified,
}

struct Translation<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
    last: Last,
}

/// The same expression, or why Go refuses it.
pub(super) fn translate(go: &str) -> Result<String, String> {
    let mut translation =
        Translation { rest: go.chars().peekable(), out: String::new(), last: Last::Nothing };
    while let Some(c) = translation.rest.next() {
        translation.one(c)?;
    }
    Ok(translation.out)
}

impl Translation<'_> {
    fn one(&mut self, c: char) -> Result<(), String> {
        let next = match c {
            '\\' => return self.escape(),
            '[' => {
                self.class()?;
                Last::Atom
            }
            '{' => return self.braces(),
            '*' | '+' | '?' => {
                self.out.push(c);
                Last::Quantified
            }
            '(' | '|' => {
                self.out.push(c);
                Last::Nothing
            }
            ')' | '.' | '^' | '$' => {
                self.out.push(c);
                Last::Atom
            }
            c => {
                self.literal(c);
                Last::Atom
            }
        };
        self.last = next;
        Ok(())
    }

    fn literal(&mut self, c: char) {
        self.out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }

    /// What follows a `\` outside of a class.
    fn escape(&mut self) -> Result<(), String> {
        match self.rest.peek() {
            Some('Q') => {
                self.rest.next();
                self.quoted();
                return Ok(());
            }
            Some('A' | 'z') => {
                self.out.push('\\');
                self.out.extend(self.rest.next());
            }
            Some('b' | 'B') => {
                self.out.push_str(if self.rest.next() == Some('b') { r"(?-u:\b)" } else { r"(?-u:\B)" });
            }
            _ => match self.set()? {
                Some(set) => self.out.push_str(&format!("[{set}]")),
                None => {
                    let c = self.escaped()?;
                    self.literal(c);
                }
            },
        }
        self.last = Last::Atom;
        Ok(())
    }

    /// `\Q...\E`: text.
    fn quoted(&mut self) {
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.next_if_eq(&'E').is_some() {
                return;
            }
            self.literal(c);
            self.last = Last::Atom;
        }
    }

    /// An escape that stands for a set, in the form that it has within brackets.
    fn set(&mut self) -> Result<Option<String>, String> {
        let set = match self.rest.peek() {
            Some('d') => "0-9",
            Some('D') => r"\x00-/:-\x{10FFFF}",
            Some('s') => r"\t\n\f\r ",
            Some('S') => r"\x00-\x08\x0B\x0E-\x1F!-\x{10FFFF}",
            Some('w') => "0-9A-Za-z_",
            Some('W') => r"\x00-/:-@\x5B-\x5E`\x7B-\x{10FFFF}",
            Some('p' | 'P') => return self.property().map(Some),
            _ => return Ok(None),
        };
        self.rest.next();
        Ok(Some(set.to_owned()))
    }

    /// `\pL`, `\p{Greek}`.
    fn property(&mut self) -> Result<String, String> {
        let mut out = String::from('\\');
        out.extend(self.rest.next());
        match self.rest.next() {
            Some('{') => {
                out.push('{');
                loop {
                    let c = self.rest.next().ok_or("the '{' after '\\p' is never closed")?;
                    out.push(c);
                    if c == '}' {
                        return Ok(out);
                    }
                }
            }
            Some(c) => {
                out.push(c);
                Ok(out)
            }
            None => Err(unknown('p')),
        }
    }

    /// An escape that stands for one character.
    fn escaped(&mut self) -> Result<char, String> {
        let c = self.rest.next().ok_or("a '\\' at the end escapes nothing; write '\\\\' for a backslash")?;
        match c {
            '1'..='7' if !matches!(self.rest.peek(), Some('0'..='7')) => Err(unknown(c)),
            '0'..='7' => {
                let mut value = digit(c, 8).unwrap_or_default();
                for _ in 0..2 {
                    let Some(more) = self.rest.next_if(|c| c.is_digit(8)) else { break };
                    value = value * 8 + digit(more, 8).unwrap_or_default();
                }
                char::from_u32(value).ok_or_else(|| unknown(c))
            }
            'x' => self.hexadecimal().ok_or_else(|| unknown(c)),
            'a' => Ok('\x07'),
            'f' => Ok('\x0C'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\x0B'),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
            c => Err(unknown(c)),
        }
    }

    fn hexadecimal(&mut self) -> Option<char> {
        let first = self.rest.next()?;
        if first != '{' {
            return char::from_u32(digit(first, 16)? * 16 + digit(self.rest.next()?, 16)?);
        }
        let mut value = digit(self.rest.next()?, 16)?;
        loop {
            match self.rest.next()? {
                '}' => return char::from_u32(value),
                c => value = (value * 16).checked_add(digit(c, 16)?).filter(|value| *value <= 0x10_FFFF)?,
            }
        }
    }

    /// What follows a `[`.
    fn class(&mut self) -> Result<(), String> {
        let mut class = String::from(if self.rest.next_if_eq(&'^').is_some() { "[^" } else { "[" });
        let mut first = true;
        while first || self.rest.peek() != Some(&']') {
            first = false;
            if let Some(named) = self.named()? {
                class.push_str(&named);
                continue;
            }
            if self.rest.peek() == Some(&'\\') {
                let mut ahead = self.rest.clone();
                ahead.next();
                if matches!(ahead.peek(), Some('d' | 'D' | 's' | 'S' | 'w' | 'W' | 'p' | 'P')) {
                    self.rest.next();
                    class.push_str(&self.set()?.unwrap_or_default());
                    continue;
                }
            }
            let low = self.member()?;
            let mut ahead = self.rest.clone();
            let range = ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']');
            let high = if range {
                self.rest.next();
                self.member()?
            } else {
                low
            };
            if low > high {
                return Err(format!("the range '{low}-{high}' runs backwards; write '{high}-{low}'"));
            }
            class.push_str(&format!("\\x{{{:X}}}-\\x{{{:X}}}", u32::from(low), u32::from(high)));
        }
        self.rest.next();
        self.out.push_str(&class);
        self.out.push(']');
        Ok(())
    }

    /// One character of a class.
    fn member(&mut self) -> Result<char, String> {
        match self.rest.next() {
            None => {
                Err("the '[' is never closed; add a ']', or write '\\[' for the character itself".to_owned())
            }
            Some('\\') => self.escaped(),
            Some(c) => Ok(c),
        }
    }

    /// `[:alpha:]` in a class.
    fn named(&mut self) -> Result<Option<String>, String> {
        let rest: String = self.rest.clone().collect();
        let Some((name, _)) = rest.strip_prefix("[:").and_then(|rest| rest.split_once(":]")) else {
            return Ok(None);
        };
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
            "space", "upper", "word", "xdigit",
        ];
        if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(format!("'[:{name}:]' is no class of characters; write '\\[' for the character '['"));
        }
        self.rest.nth(name.chars().count() + 3);
        Ok(Some(format!("[:{name}:]")))
    }

    /// `{2}`, `{2,}` and `{2,3}` repeat; any other `{` is itself.
    fn braces(&mut self) -> Result<(), String> {
        let rest: String = self.rest.clone().collect();
        let Some((counts, low, high)) = rest
            .split_once('}')
            .and_then(|(counts, _)| counts_of(counts).map(|(low, high)| (counts, low, high)))
        else {
            self.literal('{');
            self.last = Last::Atom;
            return Ok(());
        };
        let sane = low <= REPEATS && high.is_none_or(|high| low <= high && high <= REPEATS);
        if !sane || self.last != Last::Atom {
            return Err(format!(
                "'{{{counts}}}' repeats what is before it, and cannot here; write '\\{{' for the character '{{'"
            ));
        }
        self.out.push_str(&format!("{{{counts}}}"));
        self.rest.nth(counts.chars().count());
        self.last = Last::Quantified;
        Ok(())
    }
}

/// The least and the most of `2`, `2,` and `2,3`.
fn counts_of(text: &str) -> Option<(u32, Option<u32>)> {
    let number = |text: &str| -> Option<u32> {
        let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        (plain && (text.len() == 1 || !text.starts_with('0'))).then(|| text.parse().unwrap_or(u32::MAX))
    };
    match text.split_once(',') {
        None => number(text).map(|count| (count, Some(count))),
        Some((low, "")) => Some((number(low)?, None)),
        Some((low, high)) => Some((number(low)?, Some(number(high)?))),
    }
}

fn digit(c: char, radix: u32) -> Option<u32> {
    c.to_digit(radix)
}

fn unknown(c: char) -> String {
    format!("'\\{c}' means nothing here; write '{c}' for the character, or '\\\\' for a backslash")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What matches, and what does not: each by the rules of Go's `regexp/syntax`.
    #[test]
    fn expressions_mean_what_they_mean_to_go() {
        #[rustfmt::skip]
        let table: &[(&str, &[&str], &[&str])] = &[
            ("^a|b$", &["ax", "xb"], &["xay"]),
            ("^a{2}$", &["aa"], &["a", "a{2}"]),
            ("^a{2,}$", &["aaa"], &["a"]),
            ("^a{1,2}$", &["a", "aa"], &["aaa"]),
            ("^a{x}$", &["a{x}"], &["a"]),
            ("^a{,2}$", &["a{,2}"], &["aa"]),
            ("^a{02}$", &["a{02}"], &["aa"]),
            ("^{x}]$", &["{x}]"], &[]),
            ("^a^$", &[], &["a^", "a"]),
            (r"^\d\D$", &["1a", "1é"], &["a1", "11"]),
            (r"^\w\W$", &["_-", "z["], &["-_", "aa"]),
            (r"^\s\S$", &[" a", "\té"], &["a ", "  "]),
            (r"^a\bb|a\b-$", &["a-"], &["ab"]),
            (r"^a\Bb$", &["ab"], &["a"]),
            (r"^\x41\x{42}\103\_$", &["ABC_"], &[]),
            (r"^\t\n$", &["\t\n"], &[]),
            (r"^\Qa*.\Eb$", &["a*.b"], &["aa.b"]),
            (r"^\pL\p{Greek}$", &["aα"], &["αa"]),
            ("^[[^/]*]$", &["[]", "^/]", "]"], &["*", "a]"]),
            ("^[a[]$", &["a", "["], &["b"]),
            ("^[a&&b~~-]$", &["&", "~", "-"], &["c"]),
            ("^[^a]$", &["b", "\n", "é"], &["a"]),
            ("^[[:digit:]x]$", &["1", "x"], &[":", "d"]),
            (r"^[\d\]]$", &["1", "]"], &["d"]),
            (r"^[\W]$", &["[", "^", "]", "é"], &["a", "_"]),
            ("^(.*/)?a$", &["a", "b/a", "b/c/a"], &["ba", "b\n/a"]),
        ];
        for (go, yes, no) in table {
            let expression = regex::bytes::Regex::new(&translate(go).unwrap()).unwrap();
            for text in *yes {
                assert!(expression.is_match(text.as_bytes()), "{go} does not match {text:?}");
            }
            for text in *no {
                assert!(!expression.is_match(text.as_bytes()), "{go} matches {text:?}");
            }
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for go in [
            "^{2}|{3}",
            "a{2}{3}",
            "a*{2}",
            "a{1001}",
            "a{3,2}",
            r"\q",
            r"\é",
            r"\8",
            r"\1",
            r"\xg",
            "[b-a]",
            "[a",
            r"\",
            "[[:nothing:]]",
            "(a|{2})",
        ] {
            assert!(translate(go).is_err(), "{go} becomes {:?}", translate(go));
        }
    }
}
