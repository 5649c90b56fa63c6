//! What Docker's clients select, transcribed from the rules of moby/patternmatcher (`MatchesUsingParentResults`) and
//! of the walk of tonistiigi/fsutil, as naively as can be. It shares no code with what it judges.
//!
//! It understands clean patterns of plain characters, `*`, `**`, `?` and `/`.

use std::collections::BTreeSet;

/// A tree: the paths of its directories end with a `/`, and every directory is in it.
pub(super) type Tree = BTreeSet<String>;

struct Rule<'a> {
    exception: bool,
    pattern: &'a str,
}

/// Paths of the tree that are sent, the directories without their `/`.
pub(super) fn selected(lines: &[&str], tree: &Tree) -> BTreeSet<String> {
    let rules: Vec<Rule<'_>> = lines
        .iter()
        .map(|line| match line.strip_prefix('!') {
            Some(pattern) => Rule { exception: true, pattern },
            None => Rule { exception: false, pattern: line },
        })
        .collect();
    let mut sent = BTreeSet::new();
    walk(&rules, tree, "", &[], &mut Vec::new(), &mut sent);
    sent
}

fn walk(
    rules: &[Rule<'_>],
    tree: &Tree,
    directory: &str,
    parent_matched: &[bool],
    parents: &mut Vec<String>,
    sent: &mut BTreeSet<String>,
) {
    for entry in tree {
        let Some(name) = entry.strip_prefix(directory) else { continue };
        let is_directory = name.ends_with('/');
        let name = name.trim_end_matches('/');
        if name.is_empty() || name.contains('/') {
            continue;
        }
        let path = format!("{directory}{name}");
        let (excluded, matched) = evaluate(rules, &path, parent_matched);
        if excluded && is_directory && skips(rules, &path) {
            continue;
        }
        if !excluded {
            sent.extend(parents.iter().cloned());
            sent.insert(path.clone());
        }
        if is_directory {
            parents.push(path.clone());
            walk(rules, tree, &format!("{path}/"), &matched, parents, sent);
            parents.pop();
        }
    }
}

fn evaluate(rules: &[Rule<'_>], path: &str, parent_matched: &[bool]) -> (bool, Vec<bool>) {
    let mut excluded = false;
    let mut matched = vec![false; rules.len()];
    for (i, rule) in rules.iter().enumerate() {
        let mut matches = parent_matched.get(i).copied().unwrap_or(false);
        if !matches {
            if rule.exception != excluded {
                continue;
            }
            matches = glob(rule.pattern, path);
        }
        matched[i] = matches;
        if matches {
            excluded = !rule.exception;
        }
    }
    (excluded, matched)
}

/// Whether the walk passes by a directory that is excluded.
fn skips(rules: &[Rule<'_>], path: &str) -> bool {
    let root = |pattern: &str| {
        let pattern = pattern.strip_suffix("/**").unwrap_or(pattern);
        pattern.strip_suffix("/*").unwrap_or(pattern).to_owned()
    };
    let exceptions: Vec<String> =
        rules.iter().filter(|rule| rule.exception).map(|rule| root(rule.pattern)).collect();
    if exceptions.iter().any(|root| root.contains(['*', '?'])) {
        return false;
    }
    !exceptions.iter().any(|root| format!("{root}/").starts_with(&format!("{path}/")))
}

fn glob(pattern: &str, path: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("**")
        && !rest.contains(['*', '?'])
    {
        return path.ends_with(rest) || rest.strip_prefix('/') == Some(path);
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let path: Vec<char> = path.chars().collect();
    glob_from(&pattern, &path)
}

fn glob_from(pattern: &[char], path: &[char]) -> bool {
    match pattern {
        [] => path.is_empty(),
        ['*', '*', '/'] | ['*', '*'] => true,
        ['*', '*', '/', rest @ ..] | ['*', '*', rest @ ..] => {
            let deeper = (0..path.len()).filter(|at| path[*at] == '/').map(|at| at + 1);
            std::iter::once(0).chain(deeper).any(|from| glob_from(rest, &path[from..]))
        }
        ['*', rest @ ..] => {
            let name = path.iter().take_while(|c| **c != '/').count();
            (0..=name).any(|from| glob_from(rest, &path[from..]))
        }
        ['?', rest @ ..] => path.first().is_some_and(|c| *c != '/') && glob_from(rest, &path[1..]),
        [c, rest @ ..] => path.first() == Some(c) && glob_from(rest, &path[1..]),
    }
}
