//! Names of builds, jobs, attempts, workers and callers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::{Invalid, Platform};

/// A build's name: a ULID, so names sort by the time they were made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BuildId(Ulid);

impl BuildId {
    /// The id made at `unix_ms` with 80 bits that the caller drew at random.
    pub const fn from_parts(unix_ms: u64, random: u128) -> Self {
        Self(Ulid::from_parts(unix_ms, random))
    }

    /// When it was made, in milliseconds since the epoch.
    pub const fn unix_ms(self) -> u64 {
        self.0.timestamp_ms()
    }

    /// The 128 bits, whose order is the order of names.
    pub const fn to_u128(self) -> u128 {
        self.0.0
    }

    /// The id with these 128 bits.
    pub const fn from_u128(bits: u128) -> Self {
        Self(Ulid(bits))
    }
}

impl FromStr for BuildId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Ulid::from_string(text).map(Self).map_err(|_| {
            Invalid::new(
                "build_id",
                text,
                "expected the 26 characters that `archyard build` or `archyard ps` printed",
            )
        })
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One platform's share of a build.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId {
    /// The build.
    pub build: BuildId,
    /// Position of its platform in the plan, from 0.
    pub index: u16,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.build, self.index)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A number that only grows per job: whoever holds the largest is the attempt that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FencingToken(pub u64);

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One try of a job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// The job.
    pub job: JobId,
    /// Its fencing token.
    pub token: FencingToken,
}

impl AttemptId {
    /// As a folder's name: `01J..-0-1`.
    pub fn file_name(&self) -> String {
        format!("{}-{}-{}", self.job.build, self.job.index, self.token)
    }

    /// The attempt whose [`file_name`](Self::file_name) this is.
    pub fn from_file_name(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let build = parts.next()?.parse().ok()?;
        let index = parts.next()?.parse().ok()?;
        let token = FencingToken(parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(Self { job: JobId { build, index }, token })
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.job, self.token)
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! name {
    ($name:ident, $field:literal, $max:literal, $first:expr, $rest:expr, $remedy:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let first: fn(char) -> bool = $first;
                let rest: fn(char) -> bool = $rest;
                if text.len() <= $max && text.chars().next().is_some_and(first) && text.chars().all(rest) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Invalid::new($field, text, $remedy))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    RequestId,
    "request_id",
    64,
    |c| c.is_ascii_alphanumeric(),
    |c| c.is_ascii_alphanumeric() || c == '-' || c == '_',
    "expected 1 to 64 letters, digits, '-' or '_'",
    "Chosen by a client so that a repeated submission is the same build."
);
name!(
    WorkerName,
    "worker",
    63,
    |c| c.is_ascii_lowercase() || c.is_ascii_digit(),
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.',
    "expected 1 to 63 lowercase letters, digits, '-' or '.', starting with a letter or digit; set it with --name",
    "A worker's name, unique in its farm."
);
name!(
    ProjectName,
    "project",
    128,
    |c| c.is_ascii_lowercase() || c.is_ascii_digit(),
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.' | '/'),
    "expected 1 to 128 lowercase letters, digits, '-', '_', '.' or '/', starting with a letter or digit; set it with --project",
    "The unit of fair share, quota, secrets, cache scope and permission."
);
name!(
    Principal,
    "principal",
    256,
    |c| !c.is_control(),
    |c| !c.is_control(),
    "expected 1 to 256 bytes without control characters",
    "Who calls. `local` for whoever reaches a Unix socket or loopback."
);

impl Principal {
    /// Whoever reaches the farm over a Unix socket or loopback.
    pub fn local() -> Self {
        Self("local".to_owned())
    }
}

impl Default for ProjectName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

/// How people name a job: its build and its platform.
pub fn job_label(build: BuildId, platform: &Platform) -> String {
    format!("{build} {platform}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time() {
        let early = BuildId::from_parts(1_000, u128::MAX >> 48);
        let late = BuildId::from_parts(1_001, 0);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(late.to_string().parse::<BuildId>().unwrap(), late);
    }

    #[test]
    fn attempts_round_trip_through_folder_names() {
        let attempt =
            AttemptId { job: JobId { build: BuildId::from_parts(5, 7), index: 3 }, token: FencingToken(9) };
        assert_eq!(AttemptId::from_file_name(&attempt.file_name()), Some(attempt));
        assert_eq!(AttemptId::from_file_name("lost+found"), None);
    }

    #[test]
    fn names_say_what_is_wrong() {
        let error = "Worker 1".parse::<WorkerName>().unwrap_err();
        assert_eq!(error.field, "worker");
        assert!(error.to_string().contains("--name"), "{error}");
        assert!("a/b_c".parse::<ProjectName>().is_ok());
        assert!("../x".parse::<ProjectName>().is_err());
    }
}
