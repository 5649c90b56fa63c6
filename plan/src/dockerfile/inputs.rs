//! Which paths of its context a build reads: those that BuildKit asks its client for.
//!
//! They follow from the stages that the target needs, with variables put in as BuildKit does. A base image may set
//! variables that the file does not show; a path that hangs on one of these, or on the machine that builds, is not
//! known, and then the answer is everything.

use std::collections::{BTreeMap, BTreeSet};

use archyard_model::Inputs;

use super::Start;
use super::command::Command;
use super::scope::Scope;
use super::shell;
use super::source::Source;

/// What one job's build reads. `needed` says which stages the target needs.
pub(super) fn of(
    source: &Source,
    scope: &Scope<'_>,
    passed: &BTreeMap<String, String>,
    starts: &[Start],
    needed: &[bool],
) -> Inputs {
    let mut reads = Reads::default();
    let mut stages: Vec<Variables> = Vec::with_capacity(source.stages.len());
    for (at, stage) in source.stages.iter().enumerate() {
        let mut left: &[Command] = &[];
        let mut variables = match &starts[at] {
            Start::Stage(base) => {
                left = &source.stages[*base].onbuild;
                stages[*base].clone()
            }
            Start::Image { .. } => Variables { open: true, known: BTreeMap::new() },
            // Only the search path is set there.
            Start::Scratch => Variables { open: false, known: [("PATH".to_owned(), None)].into() },
        };
        for command in left.iter().chain(&stage.commands) {
            match command {
                Command::Arg(arguments) => variables.declare(arguments, scope, passed, source.escape),
                Command::Env(pairs) => variables.set(pairs, source.escape),
                _ if !needed[at] => {}
                Command::Copy(words) => words.iter().for_each(|word| {
                    // What a URL names does not come from the context.
                    match variables.value(word, source.escape) {
                        Some(path) if path.starts_with("http://") || path.starts_with("https://") => {}
                        path => reads.add(path.as_deref()),
                    }
                }),
                // Old frontends take a variable here literally.
                Command::Mount(path) => reads.add((!path.contains('$')).then_some(path)),
                Command::Tmpfs => reads.widened = true,
            }
        }
        stages.push(variables);
    }
    reads.inputs()
}

#[derive(Debug, Default)]
struct Reads {
    paths: BTreeSet<String>,
    everything: bool,
    /// BuildKit asks for everything, if it asks at all.
    widened: bool,
}

impl Reads {
    /// A path as the Dockerfile has it; None where that is not known.
    fn add(&mut self, path: Option<&str>) {
        match path.map(clean) {
            Some(path) if !path.is_empty() => {
                self.paths.insert(path);
            }
            _ => self.everything = true,
        }
    }

    fn inputs(self) -> Inputs {
        if self.everything || (self.widened && !self.paths.is_empty()) {
            return Inputs::Everything;
        }
        // What is too much, or too odd, is everything.
        Inputs::of_paths(self.paths).unwrap_or_default()
    }
}

/// A path beneath the root, whose `..` lead no higher.
fn clean(path: &str) -> String {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

/// The variables of a stage at one of its instructions.
#[derive(Debug, Clone)]
struct Variables {
    /// Its base image may have set more.
    open: bool,
    /// None: set to what is not known here.
    known: BTreeMap<String, Option<String>>,
}

impl Variables {
    fn declare(
        &mut self,
        arguments: &[(String, Option<String>)],
        scope: &Scope<'_>,
        passed: &BTreeMap<String, String>,
        escape: char,
    ) {
        let before = self.clone();
        for (name, default) in arguments {
            let value = match (passed.get(name), default) {
                (Some(passed), _) => Some(passed.clone()),
                // Newer frontends put in what stands earlier on the same line, older ones do not.
                (None, Some(default)) => {
                    let value = self.value(default, escape);
                    value.filter(|value| before.value(default, escape).as_ref() == Some(value))
                }
                (None, None) => match scope.global(name) {
                    None => continue,
                    Some(value) => value.map(str::to_owned),
                },
            };
            self.known.insert(name.clone(), value);
        }
    }

    fn set(&mut self, pairs: &[(String, String)], escape: char) {
        let before = self.clone();
        for (name, value) in pairs {
            let value = before.value(value, escape);
            match before.value(name, escape) {
                Some(name) => {
                    self.known.insert(name, value);
                }
                // Any variable may be another now.
                None => *self = Self { open: true, known: BTreeMap::new() },
            }
        }
    }

    /// A word with its variables put in; None where it depends on what is not known, or is wrong.
    fn value(&self, word: &str, escape: char) -> Option<String> {
        let mut known = BTreeMap::new();
        for name in names(word)? {
            match self.known.get(name) {
                Some(value) => {
                    known.insert(name.to_owned(), value.clone()?);
                }
                None if self.open => return None,
                None => {}
            }
        }
        shell::expand(word, &known, escape).ok()
    }
}

/// All that may name a variable in a word, quoted or not; None where that is unclear.
fn names(word: &str) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    for (at, _) in word.match_indices('$') {
        let rest = &word[at + 1..];
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if !rest.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return None;
        }
        names.push(&rest[..end]);
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::KUBO;
    use super::super::{Question, bases};
    use super::*;

    /// What a build of the last stage for these platforms reads, joined by spaces; `*ALL*` is everything.
    fn reads(text: &str, platforms: &[&str], args: &[(&str, &str)]) -> String {
        let platforms: Vec<_> = platforms.iter().map(|name| name.parse().unwrap()).collect();
        let build_args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let question = Question {
            name: "Dockerfile",
            platforms: &platforms,
            cross: &BTreeSet::new(),
            target: None,
            build_args: &build_args,
        };
        match bases(text.as_bytes(), &question).unwrap().inputs {
            Inputs::Everything => "*ALL*".to_owned(),
            Inputs::Paths(paths) => paths.into_iter().collect::<Vec<_>>().join(" "),
        }
    }

    #[test]
    fn what_a_stage_copies_is_read() {
        for (text, want) in [
            ("FROM scratch\nCOPY a b/ ./c//d ../e /f/../g /x/\n", "a b c/d e g"),
            ("FROM scratch\nCOPY [\"a b\", \"c\", \"/x/\"]\n", "a b c"),
            ("FROM scratch\nADD a https://x.example/b http://c.example/d /x/\n", "a"),
            ("FROM scratch\nADD https://x.example/b /x/\n", ""),
            ("FROM scratch\nCOPY *.go src/**/x [ab]? /x/\n", "*.go [ab]? src/**/x"),
            ("FROM scratch\nCOPY --parents a/./b/*.c /x/\n", "a/b/*.c"),
            ("FROM scratch\nCOPY --chown=1 --exclude=*.md docs /x/\n", "docs"),
            ("FROM scratch\nCOPY <<EOF a <<-\"B\" /x/\n1\nEOF\n2\nB\n", "a"),
            ("FROM scratch\nCOPY <<EOF /x\nCOPY b /\nEOF\n", ""),
            ("FROM scratch\nCOPY . /\n", "*ALL*"),
            ("FROM scratch\nCOPY a .. /\n", "*ALL*"),
            ("FROM a\nRUN x\n", ""),
            ("FROM scratch\nCOPY \\\n  a \\\n# no\n  b /x/\n", "a b"),
            ("# escape=`\nFROM scratch\nCOPY a`$b c /x/\n", "a$b c"),
        ] {
            assert_eq!(reads(text, &["linux/amd64"], &[]), want, "{text}");
        }
    }

    #[test]
    fn only_stages_that_the_target_needs_are_read() {
        let text = "FROM scratch AS a\nCOPY a /\nFROM scratch AS b\nCOPY b /\nFROM a AS c\nCOPY --from=b / /\n\
                    FROM scratch AS d\nCOPY d /\nFROM c\nCOPY e /\n";
        assert_eq!(reads(text, &["linux/amd64"], &[]), "a b e");
        assert_eq!(reads(KUBO, &["linux/amd64"], &[]), "*ALL*");
    }

    #[test]
    fn mounts_are_read() {
        for (mount, want) in [
            ("type=bind,source=a,target=/x", "a"),
            ("src=/a/b/,dst=/x", "a/b"),
            ("target=/x", "*ALL*"),
            ("type=bind,from=b,target=/x", ""),
            ("type=cache,target=/x", ""),
            ("type=secret,id=s", ""),
            ("type=ssh", ""),
            ("type=tmpfs,target=/x", ""),
            ("type=$t,source=a,target=/x", "*ALL*"),
            ("source=$a,target=/x", "*ALL*"),
            ("\"source=a,b\",target=/x", "a,b"),
        ] {
            let text = format!("FROM x\nRUN --mount={mount} make\n");
            assert_eq!(reads(&text, &["linux/amd64"], &[]), want, "{mount}");
        }
        // BuildKit itself asks for everything then.
        assert_eq!(
            reads("FROM x\nCOPY a /\nRUN --mount=type=tmpfs,target=/x y\n", &["linux/amd64"], &[]),
            "*ALL*"
        );
    }

    #[test]
    fn variables_are_put_in_where_they_are_known() {
        for (text, want) in [
            ("FROM x\nARG V=1\nCOPY a-$V /\n", "a-1"),
            ("FROM x\nARG V\nCOPY a-$V /\n", "*ALL*"),
            ("FROM scratch\nARG V\nCOPY a-$V /\n", "a-"),
            ("FROM scratch\nCOPY a-$V /\n", "a-"),
            ("FROM x\nCOPY a-$V /\n", "*ALL*"),
            ("FROM x\nENV V=1 W=$V\nCOPY a-$V b-$W /\n", "*ALL*"),
            ("FROM x\nENV V=1\nENV W=$V-2\nCOPY a-$V b-${W} /\n", "a-1 b-1-2"),
            ("FROM x\nENV V 1 2\nCOPY a-$V /\n", "a-1 2"),
            ("ARG V=1\nFROM x\nARG V\nCOPY a-$V /\n", "a-1"),
            ("ARG V=1\nFROM x\nCOPY a-$V /\n", "*ALL*"),
            ("FROM x\nARG V=1\nENV V=2\nCOPY a-$V /\n", "a-2"),
            ("FROM x AS y\nARG V=1\nFROM y\nCOPY a-$V /\n", "a-1"),
            ("FROM x\nARG TARGETARCH\nCOPY a-$TARGETARCH /\n", "a-amd64 a-arm64"),
            ("FROM x\nARG BUILDARCH\nCOPY a-$BUILDARCH /\n", "*ALL*"),
            ("FROM x\nARG P=passed\nCOPY a-$P /\n", "a-yes"),
            ("FROM x\nARG A=1 B=$A\nCOPY b-$B /\n", "*ALL*"),
            ("FROM x\nCOPY a-${V:-1} /\n", "*ALL*"),
            ("FROM scratch\nCOPY a-${V:-1} /\n", "a-1"),
            ("FROM scratch\nCOPY ${V} /\n", "*ALL*"),
            ("FROM scratch\nCOPY a$PATH /\n", "*ALL*"),
            ("FROM scratch\nCOPY a$1 /\n", "*ALL*"),
            ("FROM scratch\nARG U=https://x.example\nADD $U/a /\n", ""),
        ] {
            assert_eq!(reads(text, &["linux/amd64", "linux/arm64"], &[("P", "yes")]), want, "{text}");
        }
    }

    #[test]
    fn triggers_of_a_stage_read_in_the_stage_that_starts_from_it() {
        let base = "FROM scratch AS b\nONBUILD COPY a /\nONBUILD ARG V=1\nONBUILD RUN --mount=source=m,target=/x y\n";
        assert_eq!(reads(base, &["linux/amd64"], &[]), "");
        assert_eq!(reads(&format!("{base}FROM b\nCOPY c-$V /\n"), &["linux/amd64"], &[]), "a c-1 m");
        assert_eq!(reads(&format!("{base}FROM b AS c\nFROM c\n"), &["linux/amd64"], &[]), "a m");
        assert_eq!(reads(&format!("{base}FROM scratch\nCOPY --from=b / /\n"), &["linux/amd64"], &[]), "");
    }

    #[test]
    fn another_frontend_reads_everything() {
        let text = "# syntax=example.com/own:1\nFROM scratch\nCOPY a /\n";
        assert_eq!(reads(text, &["linux/amd64"], &[]), "*ALL*");
        let args = [("BUILDKIT_SYNTAX", "x")];
        assert_eq!(reads("FROM scratch\nCOPY a /\n", &["linux/amd64"], &args), "*ALL*");
        assert_eq!(
            reads("# syntax=docker/dockerfile:1\nFROM scratch\nCOPY a /\n", &["linux/amd64"], &[]),
            "a"
        );
    }
}
