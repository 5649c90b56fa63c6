//! Which part of its source a build reads.

use std::collections::BTreeSet;

use crate::{Invalid, limits};

/// The paths of a source that a build reads.
///
/// A path is relative and clean, and may be a pattern: it stands for what BuildKit sends when it asks its client for
/// that path, links on the way included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Inputs {
    /// All of it, or what is read is not known.
    #[default]
    Everything,
    /// What these paths lead to, and nothing else.
    Paths(BTreeSet<String>),
}

impl Inputs {
    /// Paths as BuildKit asks for them.
    ///
    /// # Errors
    /// A path that is absolute, climbs or is not clean, and more than the limit.
    pub fn of_paths(paths: impl IntoIterator<Item = String>) -> Result<Self, Invalid> {
        let paths: BTreeSet<String> = paths.into_iter().collect();
        if paths.len() > limits::CONTEXT_INPUTS {
            let problem = format!("a context has at most {} inputs; send all of it", limits::CONTEXT_INPUTS);
            return Err(Invalid::new("context.inputs", paths.len(), problem));
        }
        let is_clean = |path: &str| {
            path.len() <= limits::CONTEXT_PATH_BYTES
                && !path.contains('\0')
                && path.split('/').all(|name| !matches!(name, "" | "." | ".."))
        };
        match paths.iter().find(|path| !is_clean(path)) {
            Some(path) => {
                let problem = "an input is a relative path without empty, '.' or '..' names";
                Err(Invalid::new("context.inputs", path, problem))
            }
            None => Ok(Self::Paths(paths)),
        }
    }

    /// What is in one of them or the other.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Paths(mut paths), Self::Paths(others)) => {
                paths.extend(others);
                if paths.len() > limits::CONTEXT_INPUTS { Self::Everything } else { Self::Paths(paths) }
            }
            _ => Self::Everything,
        }
    }

    /// Whether a context of this part answers a question for `path`, which is relative and may be a pattern.
    pub fn covers(&self, path: &str) -> bool {
        let Self::Paths(paths) = self else { return true };
        let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
        !names.contains(&"..")
            && (1..=names.len()).any(|count| paths.contains(names[..count].join("/").as_str()))
    }

    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::Everything)
    }

    /// The paths in byte order; none of everything.
    pub fn paths(&self) -> impl Iterator<Item = &String> {
        let paths = match self {
            Self::Everything => None,
            Self::Paths(paths) => Some(paths),
        };
        paths.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(paths: &[&str]) -> Inputs {
        Inputs::of_paths(paths.iter().map(|path| (*path).to_owned())).unwrap()
    }

    #[test]
    fn a_path_covers_itself_and_what_it_holds() {
        let part = inputs(&["a/b", "*.go"]);
        for path in ["a/b", "a/b/c", "/a/b/", "./a//b", "*.go"] {
            assert!(part.covers(path), "{path}");
        }
        for path in ["", "/", "a", "a/bc", "x.go", "a/b/../c", ".."] {
            assert!(!part.covers(path), "{path}");
        }
        assert!(Inputs::Everything.covers("/"));
    }

    #[test]
    fn everything_absorbs_and_paths_add_up() {
        assert_eq!(inputs(&["a"]).or(inputs(&["b"])), inputs(&["a", "b"]));
        assert!(inputs(&["a"]).or(Inputs::Everything).is_everything());
        let many =
            |from: usize| inputs(&[]).or(Inputs::Paths((from..from + 3000).map(|n| n.to_string()).collect()));
        assert!(many(0).or(many(3000)).is_everything());
    }

    #[test]
    fn a_path_that_is_not_clean_is_refused() {
        for path in ["", "/a", "a/", "a//b", "./a", "a/../b", "a\0b"] {
            let error = Inputs::of_paths([path.to_owned()]).unwrap_err();
            assert!(error.to_string().contains("an input is a relative path"), "{path:?}: {error}");
        }
        let many = (0..=limits::CONTEXT_INPUTS).map(|at| at.to_string());
        assert!(Inputs::of_paths(many).unwrap_err().to_string().contains("at most 4096 inputs"));
    }
}
