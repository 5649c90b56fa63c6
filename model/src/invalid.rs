//! The one shape of "this input is wrong": field, value, remedy.

use std::fmt;

use crate::limits;

/// A value that cannot be taken, said so that whoever sent it can mend it.
///
/// Reads as `platform "linux/amd46": unknown architecture; did you mean linux/amd64?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// What was being set, by the name its sender knows: `platforms[1]`, `--tag`.
    pub field: String,
    /// What was given, cut to [`limits::ERROR_VALUE_BYTES`].
    pub value: String,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl Invalid {
    /// An error about `field`, whose value was `value`.
    pub fn new(field: impl Into<String>, value: impl fmt::Display, problem: impl Into<String>) -> Self {
        let mut value = value.to_string();
        if value.len() > limits::ERROR_VALUE_BYTES {
            let mut cut = limits::ERROR_VALUE_BYTES;
            while !value.is_char_boundary(cut) {
                cut -= 1;
            }
            value.truncate(cut);
            value.push('…');
        }
        Self { field: field.into(), value, problem: problem.into() }
    }

    /// The same problem, said of another field: a list's element instead of "platform", a flag instead of a
    /// message's field.
    #[must_use]
    pub fn of(mut self, field: impl Into<String>) -> Self {
        self.field = field.into();
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.field, self.value, self.problem)
    }
}

impl std::error::Error for Invalid {}
