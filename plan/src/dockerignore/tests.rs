//! The documented rules, one by one and together.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::oracle::{self, Tree};
use super::{Ignore, Trail, clean};

fn ignore(lines: &[&str]) -> Ignore {
    Ignore::parse(".dockerignore", lines.join("\n").as_bytes()).unwrap()
}

/// As a walk asks: every directory above first.
fn excluded(ignore: &Ignore, path: &str) -> bool {
    let mut trail = Trail::default();
    for (at, _) in path.match_indices('/') {
        trail = ignore.enter(&path[..at], &trail).1;
    }
    ignore.excludes(path, &trail)
}

/// What a walk that asks as `context::walk` does finds in a tree.
fn walked(ignore: &Ignore, tree: &Tree) -> BTreeSet<String> {
    fn list(ignore: &Ignore, tree: &Tree, directory: &str, above: &Trail, found: &mut BTreeSet<String>) {
        for entry in tree {
            let Some(name) = entry.strip_prefix(directory).filter(|name| !name.is_empty()) else { continue };
            match name.split_once('/') {
                None if !ignore.excludes(entry, above) => drop(found.insert(entry.clone())),
                Some((name, "")) => {
                    let path = format!("{directory}{name}");
                    let (excluded, trail) = ignore.enter(&path, above);
                    if excluded && !ignore.may_bring_back_below(&path) {
                        continue;
                    }
                    let before = found.len();
                    list(ignore, tree, entry, &trail, found);
                    if !excluded || found.len() > before {
                        found.insert(path);
                    }
                }
                _ => {}
            }
        }
    }
    let mut found = BTreeSet::new();
    list(ignore, tree, "", &Trail::default(), &mut found);
    found
}

/// A clean line of plain characters and wildcards.
fn line() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        4 => "[ab]{1,2}",
        2 => Just("*".to_owned()),
        2 => Just("**".to_owned()),
        1 => "[ab]\\*|\\*[ab]|\\?|[ab]\\*\\*|\\*\\*[ab]",
    ];
    let path = proptest::collection::vec(segment, 1..5).prop_map(|segments| segments.join("/"));
    (prop_oneof![3 => Just(""), 2 => Just("!")], path).prop_map(|(sign, path)| format!("{sign}{path}"))
}

/// Files and directories up to four deep; a name is never both.
fn tree() -> impl Strategy<Value = Tree> {
    let path = proptest::collection::vec("[ab]{1,2}", 1..5);
    proptest::collection::vec(path, 1..12).prop_map(|paths| {
        let mut tree = Tree::new();
        for path in paths {
            let mut directory = String::new();
            for (at, name) in path.iter().enumerate() {
                if tree.contains(&format!("{directory}{name}")) {
                    break;
                }
                if at + 1 == path.len() && !tree.contains(&format!("{directory}{name}/")) {
                    tree.insert(format!("{directory}{name}"));
                    break;
                }
                directory.push_str(name);
                directory.push('/');
                tree.insert(directory.clone());
            }
        }
        tree
    })
}

/// One case of the corpus: an ignore file, a tree, and what of the tree buildx sent, if it sent anything.
#[derive(serde::Deserialize)]
struct Recorded {
    ignore: String,
    tree: Tree,
    kept: Option<BTreeSet<String>>,
}

/// `buildx.jsonl` was recorded from buildx 0.29.1: `FROM scratch`, `COPY . /`, `-o type=local`.
#[test]
fn selects_what_buildx_sent() {
    let mut different = Vec::new();
    for (number, line) in (1..).zip(include_str!("buildx.jsonl").lines()) {
        let case: Recorded = serde_json::from_str(line).unwrap();
        let found = Ignore::parse("x", case.ignore.as_bytes()).ok().map(|ignore| walked(&ignore, &case.tree));
        if found != case.kept {
            different.push(format!(
                "line {number}: {:?}\n  found {found:?}\n  sent  {:?}",
                case.ignore, case.kept
            ));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

#[test]
fn one_pattern() {
    #[rustfmt::skip]
    let table: &[(&str, &[&str], &[&str])] = &[
        // plain names match themselves and all they hold, at the root only
        ("target", &["target", "target/x", "target/x/y"], &["targets", "a/target"]),
        ("/target/", &["target", "target/x"], &["a/target"]),
        ("a/b", &["a/b", "a/b/c"], &["a", "a/bc", "x/a/b"]),
        ("./a//b/../c/", &["a/c", "a/c/d"], &["a/b"]),
        // '*' stays within a name, '?' is one character of one
        ("*", &["a", "a/b", ".a"], &[]),
        ("*.md", &["a.md", ".md", "a.md/b"], &["a/b.md", "a.mdx"]),
        ("*/temp*", &["a/temporary.txt", "a/temp", "a/temp/x"], &["temp", "a/b/temp"]),
        ("*/*/temp*", &["a/b/temp.txt"], &["a/temp.txt"]),
        ("temp?", &["tempa", "temp☺", "tempb/x"], &["temp", "temp/", "tempab"]),
        ("a*/b", &["a/b", "abc/b"], &["a/c/b"]),
        ("a*b?c*x", &["abxbbxdbxebxczzx"], &["abxbbxdbxebxczzy"]),
        // '**' crosses directories, none included
        ("**", &["a", "a/b", "a/b/c"], &[]),
        ("**/", &["a", "a/b"], &[]),
        ("**/**", &["a", "a/b"], &[]),
        ("***", &["a", "a/b"], &[]),
        ("**/*.go", &["a.go", "a/b.go", "a/b/c.go"], &["a.goo"]),
        ("**/dir", &["dir", "a/dir", "a/b/dir", "a/dir/f"], &["adir", "dirs"]),
        ("**/a/b", &["a/b", "x/a/b", "x/y/a/b"], &["xa/b"]),
        ("**file", &["file", "a/file", "afile", "a/bfile"], &["filea"]),
        ("**/.git", &[".git", "a/.git", ".git/x"], &["x.git"]),
        ("**/*_test?.go", &["a_test1.go", "x/y/a_testx.go"], &["a_test.go"]),
        ("**/dir2/*", &["dir2/f", "a/dir2/f", "a/dir2/f/g"], &["dir2", "a/dir2"]),
        ("**/**/*.txt", &["a.txt", "a/b/c.txt"], &["a.txt2"]),
        // 'a/**' is what 'a' holds, not 'a'
        ("abc/**", &["abc/d", "abc/d/e"], &["abc", "abcd"]),
        ("abc**", &["abc", "abcd", "abcd/e"], &["ab"]),
        ("a**/*.txt", &["a/f.txt", "a/b/c/f.txt", "af.txt"], &["b/f.txt"]),
        ("a/*.txt**", &["a/f.txt", "a/f.txtx/y"], &["a/b/f.txt"]),
        ("a/**/z", &["a/z", "a/b/z", "a/b/c/z"], &["az", "a/bz"]),
        // classes, as Go has them: '^' negates, '!' does not
        ("a[b-d]e", &["ace", "ade"], &["ae", "aae", "aee"]),
        ("a[^b-d]e", &["aze", "a☺e"], &["ace"]),
        ("a[!b]e", &["a!e", "abe"], &["aze"]),
        ("[a-ζ]*", &["α", "bcd"], &["A"]),
        ("a[\\]\\-]b", &["a]b", "a-b"], &["a\\b"]),
        // escapes, and what only a regular expression would find special
        ("a\\*b", &["a*b"], &["axb"]),
        ("a\\\\", &["a\\"], &["a"]),
        ("\\!a", &["!a"], &["a"]),
        ("a.b", &["a.b"], &["axb"]),
        ("a(b)|{c}+$^*", &["a(b)|{c}+$^", "a(b)|{c}+$^x"], &["a"]),
        ("a]", &["a]"], &["a"]),
        // climbs out of the context: matches nothing
        ("../a", &[], &["a", "b/a"]),
        (".", &[], &["a"]),
        ("/", &[], &["a"]),
        ("a\nb", &["a", "b"], &["a b"]),
    ];
    for (pattern, yes, no) in table {
        let ignore = ignore(&[pattern]);
        for path in *yes {
            assert!(excluded(&ignore, path), "{pattern:?} leaves {path:?} in");
        }
        for path in *no {
            assert!(!excluded(&ignore, path), "{pattern:?} leaves {path:?} out");
        }
    }
}

#[test]
fn several_lines() {
    #[rustfmt::skip]
    let table: &[(&[&str], &[&str], &[&str])] = &[
        // the last line that matches decides
        (&["*.md", "!README.md"], &["a.md"], &["README.md"]),
        (&["*.md", "!README*.md", "README-secret.md"], &["README-secret.md"], &["README.md", "README-x.md"]),
        (&["*.md", "README-secret.md", "!README*.md"], &["a.md"], &["README-secret.md"]),
        (&["!a.go", "*.go"], &["a.go"], &[]),
        // what an excluded directory holds can be brought back, the directory itself, or by wildcards
        (&["docs", "!docs/README.md"], &["docs", "docs/x"], &["docs/README.md"]),
        (&["docs/", "! /docs/README.md "], &["docs/x"], &["docs/README.md"]),
        (&["docs/*", "!docs/README.md"], &["docs/x"], &["docs", "docs/README.md"]),
        (&["**", "!a/b"], &["a", "a/c"], &["a/b", "a/b/c"]),
        (&["**", "!a/b", "a/b/c"], &["a/b/c", "a/b/c/d"], &["a/b", "a/b/x"]),
        (&["*", "!**/*.rs"], &["a", "a/b.c"], &["a/b.rs", "a/x/b.rs", "b.rs"]),
        (&["*", "!src/**"], &["src"], &["src/a", "src/a/b"]),
        // a line that would change nothing for a directory is not evaluated there, nor for what it holds
        (&["**/node_modules", "!packages/*"], &["packages/app/node_modules", "packages/app/node_modules/x"], &["packages/app", "packages/app/x"]),
        (&["a", "!a/b", "a"], &["a", "a/c"], &["a/b", "a/b/c"]),
        (&["[ab]/b/.a", "!**/[ab]"], &["a/b/.a"], &["a", "a/b"]),
        (&["**/?a", "!*"], &["a/.a", "a/.a/b"], &["a"]),
        (&["a", "!a/b", "a/*"], &["a", "a/b", "a/c"], &[]),
        (&["!a", "*/b", "!a/b/c"], &["a/b", "a/b/d"], &["a", "a/b/c"]),
        // what a client sees twice: the '!' after a '/' counts
        (&["*", "/!a"], &["b"], &["a"]),
        (&["*", "!!a"], &["a"], &["!a"]),
    ];
    for (lines, yes, no) in table {
        let ignore = ignore(lines);
        for path in *yes {
            assert!(excluded(&ignore, path), "{lines:?} leave {path:?} in");
        }
        for path in *no {
            assert!(!excluded(&ignore, path), "{lines:?} leave {path:?} out");
        }
    }
}

#[test]
fn what_is_no_pattern() {
    let file = b"\xEF\xBB\xBF# comment\r\n\r\n  a  \r\n #b\n!  c\n\t\n";
    let ignore = Ignore::parse("x", file).unwrap();
    assert_eq!(ignore.lines.len(), 3);
    assert!(excluded(&ignore, "a") && excluded(&ignore, "#b") && !excluded(&ignore, "c"));
    assert!(Ignore::parse("x", b"# only\n\n").unwrap().is_empty());
}

#[test]
fn a_malformed_pattern_names_its_line() {
    #[rustfmt::skip]
    let table = [
        ("[", "never closed"), ("[a", "never closed"), ("a[", "never closed"), ("[]a]", "'\\]'"), ("[a-]", "'\\]'"),
        ("[-x]", "'\\-'"), ("[x-]", "'\\]'"), ("[a-b-c]", "'\\-'"), ("[z-a]", "backwards"), ("[^]", "'\\]'"),
        ("[\\", "never closed"), ("a\\", "'\\\\'"), ("!", "no pattern"), ("!  ", "no pattern"), ("! /..", "'!**'"), ("![", "never closed"),
    ];
    for (pattern, remedy) in table {
        let error = Ignore::parse("sub/.dockerignore", format!("ok\n{pattern}\n").as_bytes()).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("sub/.dockerignore:2: pattern "), "{text}");
        assert!(text.contains(remedy), "{pattern}: {text}");
        assert_eq!(error.code(), "ignore_file_invalid");
    }
}

#[test]
fn looks_into_an_excluded_directory_only_when_it_must() {
    for (line, yes, no) in [
        ("!a/b/c", &["a", "a/b"][..], &["a/b/c", "x", "a/bc"][..]),
        ("!a/**", &["a"], &["a/b", "b", "ab"]),
        // Docker's clients enter 'a' for it, and nothing in there.
        ("!a/*/**", &["a"], &["a/b", "b"]),
        ("!a/*/z", &["a", "a/b", "a/b/c"], &["b"]),
        ("!**/z", &["a", "a/b"], &[]),
        ("!**/*.rs", &["a", "a/b"], &[]),
        ("!*.rs", &[], &["a", "a/b"]),
        ("!ab*", &["abc"], &["b", "a/b"]),
        ("a/b", &[], &["a"]),
    ] {
        let ignore = ignore(&["*", line]);
        for directory in yes {
            assert!(ignore.may_bring_back_below(directory), "{line} {directory}");
        }
        for directory in no {
            assert!(!ignore.may_bring_back_below(directory), "{line} {directory}");
        }
    }
}

#[test]
fn cleans_as_text() {
    for (given, want) in [
        ("a/./b//c/..", "a/b"),
        ("/../a", "/a"),
        ("../../a", "../../a"),
        ("a/..", "."),
        ("/", "/"),
        ("", "."),
    ] {
        assert_eq!(clean(given), want);
    }
}

proptest! {
    /// Pruning is an optimisation: where it says there is nothing, there is nothing.
    #[test]
    fn pruning_changes_nothing(
        lines in proptest::collection::vec("!?[ab*?/]{1,6}", 1..6),
        path in "[ab]{1,2}(/[ab]{1,2}){1,3}",
    ) {
        let Ok(ignore) = Ignore::parse("x", lines.join("\n").as_bytes()) else { return Ok(()) };
        let mut trail = Trail::default();
        for (at, _) in path.match_indices('/') {
            let (out, next) = ignore.enter(&path[..at], &trail);
            trail = next;
            if out && !ignore.may_bring_back_below(&path[..at]) {
                prop_assert!(excluded(&ignore, &path), "{lines:?} {path}");
            }
        }
    }

    /// The shapes that are compared as text agree with the expression.
    #[test]
    fn shortcuts_agree_with_the_expression(pattern in "[ab.*?/]{1,7}", path in "[ab.]{1,2}(/[ab.]{1,2}){0,3}") {
        let quick = super::pattern::Pattern::parse(&pattern).unwrap();
        let slow = super::pattern::expression(&pattern).unwrap();
        // '**tail' takes a tail within a name; its expression takes whole names, and is not used.
        let tail = pattern.strip_prefix("**").is_some_and(|tail| !tail.contains(['*', '?']));
        // 'a**' is all that begins so; its expression is not used.
        let head = pattern.strip_suffix("**").or(pattern.strip_suffix("**/"));
        let head = head.is_some_and(|head| !head.contains(['*', '?']));
        if !tail && !head {
            prop_assert_eq!(quick.matches(&path), slow.is_match(path.as_bytes()), "{} {}", pattern, path);
        }
    }

    /// What a walk by this finds is what the transcribed rules of Docker's clients select.
    #[test]
    fn selects_what_the_oracle_selects(
        lines in proptest::collection::vec(line(), 1..7),
        tree in tree(),
    ) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        prop_assert_eq!(walked(&ignore(&lines), &tree), oracle::selected(&lines, &tree), "{:?} {:?}", lines, tree);
    }

    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), path in ".{0,20}") {
        if let Ok(ignore) = Ignore::parse("x", &bytes) {
            let _ = excluded(&ignore, &path);
        }
    }
}
