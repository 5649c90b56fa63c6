//! Words and variables as BuildKit's Dockerfile frontend reads them: a shell's, without the shell.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use regex::Regex;

/// How long a word may become: arguments that hold each other twice would double without end.
const LENGTH: usize = 16 * 1024;
/// How deep `${a:-${b:-...}}` may go.
const DEPTH: usize = 32;

/// Splits at white space that is neither quoted nor escaped. Quotes and escapes stay.
pub(super) fn words(text: &str, escape: char) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(start.take().map(|start| &text[start..at]));
            continue;
        }
        start.get_or_insert(at);
        if c == escape && quote != Some('\'') {
            chars.next();
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '"' | '\'') {
            quote = Some(c);
        }
    }
    words.extend(start.map(|start| &text[start..]));
    words
}

/// A word without its quotes and backslashes; variables stay as written.
pub(super) fn unquote(word: &str) -> String {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quote != Some('\'') => out.extend(chars.next()),
            c if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            c => out.push(c),
        }
    }
    out
}

/// Puts variables in and takes quotes and escapes out. A variable that is not set is empty.
///
/// # Errors
/// What is wrong with the word, for a person.
pub(super) fn expand(
    word: &str,
    variables: &BTreeMap<String, String>,
    escape: char,
) -> Result<String, String> {
    Reader::new(word, variables, escape).until(None, false)
}

/// The variables of a word that are not set and have no default, in order, each once: they count as empty.
pub(super) fn unset(word: &str, variables: &BTreeMap<String, String>, escape: char) -> Vec<String> {
    let mut reader = Reader::new(word, variables, escape);
    // What is wrong with the word is the business of `expand`.
    reader.until(None, false).ok();
    reader.unset
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    variables: &'a BTreeMap<String, String>,
    escape: char,
    depth: usize,
    /// Variables that were read, are not set and have no default.
    unset: Vec<String>,
}

impl<'a> Reader<'a> {
    fn new(word: &'a str, variables: &'a BTreeMap<String, String>, escape: char) -> Self {
        Self { chars: word.chars().peekable(), variables, escape, depth: 0, unset: Vec::new() }
    }

    /// All up to and without `stop`. With `raw`, escapes stay, for a pattern to be read later.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<String, String> {
        let mut out = String::new();
        while let Some(c) = self.chars.next() {
            match c {
                c if Some(c) == stop => return Ok(out),
                '$' => self.variable_onto(&mut out)?,
                '\'' => out.push_str(&self.single_quoted()?),
                '"' => out.push_str(&self.double_quoted()?),
                c if c == self.escape => {
                    if raw {
                        out.push(c);
                    }
                    out.extend(self.chars.next());
                }
                c => out.push(c),
            }
        }
        match stop {
            None => Ok(out),
            Some(stop) => Err(format!("a '${{' is never closed: there is no '{stop}'")),
        }
    }

    fn single_quoted(&mut self) -> Result<String, String> {
        let mut out = String::new();
        loop {
            match self.chars.next() {
                None => return Err("a \"'\" is never closed".to_owned()),
                Some('\'') => return Ok(out),
                Some(c) => out.push(c),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<String, String> {
        let mut out = String::new();
        loop {
            match self.chars.next() {
                None => return Err("a '\"' is never closed".to_owned()),
                Some('"') => return Ok(out),
                Some('$') => self.variable_onto(&mut out)?,
                Some(c) if c == self.escape => {
                    let escape = self.escape;
                    match self.chars.next_if(|next| matches!(*next, '"' | '$') || *next == escape) {
                        Some(next) => out.push(next),
                        None => out.push(c),
                    }
                }
                Some(c) => out.push(c),
            }
        }
    }

    fn variable_onto(&mut self, out: &mut String) -> Result<(), String> {
        out.push_str(&self.variable()?);
        if out.len() > LENGTH {
            return Err(format!("it grows past {LENGTH} bytes"));
        }
        Ok(())
    }

    /// What follows a `$`.
    fn variable(&mut self) -> Result<String, String> {
        if self.chars.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.or_empty(&name) });
        }
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("'${{' is nested deeper than {DEPTH} times"));
        }
        let name = self.name();
        if name.is_empty() {
            return Err("'${' needs the name of a variable".to_owned());
        }
        let value = self.modified(&name)?;
        self.depth -= 1;
        Ok(value)
    }

    /// What follows `${name`.
    fn modified(&mut self, name: &str) -> Result<String, String> {
        let value = self.get(name);
        let mut modifier = self.chars.next();
        let empty_is_unset = modifier == Some(':');
        if empty_is_unset {
            modifier = self.chars.next();
        }
        let set = value.clone().filter(|value| !(empty_is_unset && value.is_empty()));
        match modifier {
            Some('}') if !empty_is_unset => Ok(self.or_empty(name)),
            Some('-') => {
                let other = self.until(Some('}'), false)?;
                Ok(set.unwrap_or(other))
            }
            Some('+') => {
                let other = self.until(Some('}'), false)?;
                Ok(set.map(|_| other).unwrap_or_default())
            }
            Some('?') => {
                let message = self.until(Some('}'), false)?;
                set.ok_or_else(|| {
                    let message = if message.is_empty() { "it must be set" } else { &message };
                    format!("{name}: {message}; pass --build-arg {name}=...")
                })
            }
            Some(side @ ('#' | '%')) => {
                let longest = self.chars.next_if_eq(&side).is_some();
                let pattern = to_regex(&self.until(Some('}'), true)?, true)?;
                Ok(trim(&self.or_empty(name), &pattern, side == '#', longest))
            }
            Some('/') if !empty_is_unset => {
                let all = self.chars.next_if_eq(&'/').is_some();
                let pattern = to_regex(&self.until(Some('/'), true)?, false)?;
                let other = self.until(Some('}'), true)?;
                let value = self.or_empty(name);
                let limit = usize::from(!all);
                Ok(pattern.replacen(&value, limit, regex::NoExpand(&other)).into_owned())
            }
            Some(other) => Err(format!("'${{{name}{other}' is no substitution that a Dockerfile has")),
            None => Err("a '${' is never closed: there is no '}'".to_owned()),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
        }
        name
    }

    fn get(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn or_empty(&mut self, name: &str) -> String {
        let value = self.get(name);
        if value.is_none() && !self.unset.iter().any(|known| known == name) {
            self.unset.push(name.to_owned());
        }
        value.unwrap_or_default()
    }
}

/// Takes the shortest or the longest piece that is the pattern off one end.
fn trim(value: &str, pattern: &Regex, from_start: bool, longest: bool) -> String {
    let mut cuts: Vec<usize> = (0..=value.len()).filter(|at| value.is_char_boundary(*at)).collect();
    if from_start == longest {
        cuts.reverse();
    }
    let fits = |at: &usize| pattern.is_match(if from_start { &value[..*at] } else { &value[*at..] });
    match cuts.into_iter().find(fits) {
        Some(at) if from_start => value[at..].to_owned(),
        Some(at) => value[..at].to_owned(),
        None => value.to_owned(),
    }
}

/// A shell's pattern, of which a Dockerfile has `*` and `?`.
fn to_regex(pattern: &str, whole: bool) -> Result<Regex, String> {
    let mut out = String::from(if whole { "(?s)^(?:" } else { "(?s)(?:" });
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '\\' => out.extend(chars.next().map(|c| regex::escape(&c.to_string()))),
            c => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    out.push_str(if whole { ")$" } else { ")" });
    Regex::new(&out).map_err(|_| format!("the pattern {pattern:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(word: &str) -> Result<String, String> {
        let variables = [("a", "1"), ("empty", ""), ("path", "x/y/z.tar.gz"), ("ä", "2")];
        expand(word, &variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into(), '\\')
    }

    #[test]
    fn expands_as_a_dockerfile_does() {
        #[rustfmt::skip]
        let table = [
            ("x", "x"), ("$a", "1"), ("${a}", "1"), ("$a:$a", "1:1"), ("${a}b", "1b"), ("$ab", ""), ("$", "$"),
            ("a$.b", "a$.b"), ("$ä", "2"),
            ("${a:-d}", "1"), ("${b:-d}", "d"), ("${empty:-d}", "d"), ("${empty-d}", ""), ("${b-d}", "d"),
            ("${a:+d}", "d"), ("${b:+d}", ""), ("${empty:+d}", ""), ("${empty+d}", "d"),
            ("${b:-${a}x}", "1x"), ("${b:-$c}", ""), ("${b:-\"q r\"}", "q r"), ("${a:?no}", "1"),
            ("'$a'", "$a"), ("\"$a\"", "1"), ("\\$a", "$a"), ("\"\\$a\\b\"", "$a\\b"), ("a'b'\"c\"", "abc"),
            ("${path#*/}", "y/z.tar.gz"), ("${path##*/}", "z.tar.gz"), ("${path%.*}", "x/y/z.tar"),
            ("${path%%.*}", "x/y/z"), ("${path%nope}", "x/y/z.tar.gz"), ("${path/y/w}", "x/w/z.tar.gz"),
            ("${path//\\//-}", "x-y-z.tar.gz"), ("${path/?/$a}", "1/y/z.tar.gz"),
        ];
        for (word, want) in table {
            assert_eq!(run(word).as_deref(), Ok(want), "{word}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (word, problem) in [
            ("${a", "never closed"),
            ("${a:-b", "never closed"),
            ("${}", "name of a variable"),
            ("${{a}", "name of a variable"),
            ("${a^^}", "no substitution"),
            ("${a:}", "no substitution"),
            ("'a", "never closed"),
            ("\"a", "never closed"),
            ("${b:?please}", "b: please; pass --build-arg b=..."),
            ("${empty:?}", "must be set"),
            (&"${a:-".repeat(100_000), "nested deeper"),
            (&"$path".repeat(100_000), "grows past"),
        ] {
            let error = run(word).unwrap_err();
            assert!(error.contains(problem), "{word:.20}: {error}");
        }
    }

    #[test]
    fn variables_without_a_value_and_a_default_are_listed() {
        let variables = [("a".to_owned(), String::new())].into();
        for (word, want) in [
            ("$a/$b:${c}-$b", &["b", "c"][..]),
            ("${b:-x}${b-x}${b:+x}", &[]),
            ("${b#x}${c/x/y}", &["b", "c"]),
            ("'$b'\\$c", &[]),
            ("${b:-$c}", &["c"]),
        ] {
            assert_eq!(unset(word, &variables, '\\'), want, "{word}");
        }
    }

    #[test]
    fn splits_words() {
        assert_eq!(words(" A=1  B='x y' C=\"a 'b\" D\\ E ", '\\'), ["A=1", "B='x y'", "C=\"a 'b\"", "D\\ E"]);
        assert_eq!(words("", '\\'), [""; 0]);
        assert_eq!(unquote("'a b'\"c\"\\d"), "a bcd");
    }
}
