//! What a page of the documentation asks its reader to type, and what it shows.
//!
//! A fenced block in `sh` is a list of commands. An HTML comment on the line before it, which no reader sees, says where
//! they are run, or why they cannot be:
//!
//! ```text
//! <!-- run: host=farm background until="scheduler listens" -->
//! <!-- skip: it starts a virtual machine -->
//! ```
//!
//! `host` is the machine; `background` leaves the command running, and `until` is what it has to say before the reader
//! goes on; `exit` is the exit code where that is not 0. A `text` block after `<!-- shows -->` is what the commands before
//! it print, on either stream: each of its lines, in that order, with `...` for anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// `docs/cli.md:12`, where its first line stands.
    pub place: String,
    /// After the fence's backticks.
    pub language: String,
    pub lines: Vec<String>,
    /// The comment before it.
    pub note: Option<Note>,
}

/// What a comment says of the block after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    Run(Run),
    Skip(String),
    Shows,
}

/// How a block is run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Run {
    pub host: String,
    /// What a command that is left running has to say. None: each is waited for.
    pub until: Option<String>,
    pub exit: i32,
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every page, as a path in the repository.
pub fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    let docs = std::fs::read_dir(root().join("docs")).unwrap();
    let names = docs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    pages.extend(names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")));
    pages.sort();
    pages
}

/// The blocks of a page.
pub fn blocks(page: &str) -> Vec<Block> {
    parse(page, &std::fs::read_to_string(root().join(page)).unwrap())
}

/// Panics, with the place, on what is not understood.
pub fn parse(page: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut note = None;
    let mut open: Option<Block> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let place = format!("{page}:{number}");
        let trimmed = line.trim();
        if let Some(block) = &mut open {
            if trimmed == "```" {
                blocks.extend(open.take());
            } else {
                block.lines.push(line.to_owned());
            }
        } else if let Some(language) = trimmed.strip_prefix("```") {
            let language = language.to_owned();
            open = Some(Block { place, language, lines: Vec::new(), note: note.take() });
        } else if let Some(comment) = trimmed.strip_prefix("<!--") {
            let comment = comment.strip_suffix("-->").unwrap_or_else(|| panic!("{place}: no end of comment"));
            assert!(note.is_none(), "{place}: the comment before it belongs to no block");
            note = Some(read_note(&place, comment.trim()));
        } else {
            assert!(trimmed.is_empty() || note.is_none(), "{place}: text between a comment and its block");
        }
    }
    assert!(open.is_none() && note.is_none(), "{page}: its end comes too early");
    blocks
}

fn read_note(place: &str, text: &str) -> Note {
    if text == "shows" {
        return Note::Shows;
    }
    if let Some(reason) = text.strip_prefix("skip:") {
        return Note::Skip(reason.trim().to_owned());
    }
    let words = text
        .strip_prefix("run:")
        .unwrap_or_else(|| panic!("{place}: {text:?} is neither run, skip nor shows"));
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for word in split(words) {
        let (name, value) = word.split_once('=').unwrap_or((&word, ""));
        values.insert(name.to_owned(), value.to_owned());
    }
    let host = values.remove("host").unwrap_or_else(|| panic!("{place}: run: on which host?"));
    let background = values.remove("background").is_some();
    let until = values.remove("until");
    assert_eq!(background, until.is_some(), "{place}: background and until belong together");
    let exit = values.remove("exit").map_or(0, |code| code.parse().unwrap());
    assert!(values.is_empty(), "{place}: unknown: {values:?}");
    Note::Run(Run { host, until, exit })
}

/// Words, of which one part may stand in double quotes.
fn split(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

impl Block {
    /// What is typed, command by command: lines that end in a backslash go on, and here-documents reach to their end.
    pub fn commands(&self) -> Vec<String> {
        let mut commands = Vec::new();
        let mut command = String::new();
        let mut end: Option<String> = None;
        for line in &self.lines {
            command.push_str(line);
            command.push('\n');
            match &end {
                Some(word) if line == word => end = None,
                Some(_) => continue,
                None if line.ends_with('\\') => continue,
                None => {
                    end = line.split_once("<<").map(|(_, word)| {
                        word.split_whitespace().next().unwrap().trim_matches('\'').to_owned()
                    });
                    if end.is_some() {
                        continue;
                    }
                }
            }
            let whole = std::mem::take(&mut command);
            if !whole.trim().is_empty() {
                commands.push(whole);
            }
        }
        assert!(command.is_empty(), "{}: the last command has no end", self.place);
        commands
    }

    /// Whether what was printed has each of this block's lines, in their order. The first that it lacks, if not.
    pub fn missing_in(&self, printed: &str) -> Option<&str> {
        let mut lines = printed.lines();
        self.lines
            .iter()
            .map(String::as_str)
            .find(|want| !lines.any(|line| fits(line.trim_end(), want.trim_end())))
    }
}

/// Whether a line is what the page shows, where `...` stands for anything.
pub fn fits(line: &str, shown: &str) -> bool {
    let mut parts = shown.split("...");
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# Title

<!-- run: host=farm background until=\"it listens\" -->

```sh
archyard scheduler \\
  --tls
```

<!-- run: host=laptop exit=2 -->
```sh
cat >a <<'EOF'
one
EOF
archyard ps
```

<!-- shows -->
```text
index: ...@sha256:...
```
";

    #[test]
    fn a_page_is_read() {
        let blocks = parse("p.md", PAGE);
        let run = |host: &str, until: Option<&str>, exit| {
            Some(Note::Run(Run { host: host.to_owned(), until: until.map(str::to_owned), exit }))
        };
        assert_eq!(blocks[0].note, run("farm", Some("it listens"), 0));
        assert_eq!(blocks[0].commands(), ["archyard scheduler \\\n  --tls\n"]);
        assert_eq!(blocks[0].place, "p.md:5");
        assert_eq!(blocks[1].note, run("laptop", None, 2));
        assert_eq!(blocks[1].commands(), ["cat >a <<'EOF'\none\nEOF\n", "archyard ps\n"]);
        assert_eq!(blocks[2].note, Some(Note::Shows));
        assert_eq!(blocks[2].missing_in("note\nindex: r/app@sha256:12\n"), None);
        assert_eq!(blocks[2].missing_in("index: r/app\n"), Some("index: ...@sha256:..."));
    }

    #[test]
    fn shown_lines_fit() {
        for (line, shown, want) in [
            ("a b", "a b", true),
            ("a b c", "a b", false),
            ("amd-1  ready  0/2", "amd-1...ready...", true),
            ("amd-1  lost  0/2", "amd-1...ready...", false),
            ("x", "...", true),
            ("ready", "...ready", true),
        ] {
            assert_eq!(fits(line, shown), want, "{line:?} {shown:?}");
        }
    }

    #[test]
    #[should_panic(expected = "p.md:2: text between a comment and its block")]
    fn a_comment_without_its_block_is_a_mistake() {
        parse("p.md", "<!-- skip: x -->\ntext\n");
    }
}
