//! What a worker offers the farm.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Invalid, Platform, WorkerName};

/// The version of what workers and schedulers say to each other. Raised when a worker of before would do less than a
/// job asks for without saying so: one of version 1 inspects nothing and runs no smoke test.
pub const PROTOCOL: u32 = 2;

/// A trust level: strangers' pull requests never meet trusted caches or secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// The organization's own builds.
    Trusted,
    /// Builds of strangers' changes.
    Untrusted,
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trusted => "trusted",
            Self::Untrusted => "untrusted",
        })
    }
}

impl FromStr for Pool {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "trusted" => Ok(Self::Trusted),
            "untrusted" => Ok(Self::Untrusted),
            _ => Err(Invalid::new("pool", text, "expected trusted or untrusted")),
        }
    }
}

/// What a worker says of itself when it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerOffer {
    /// Unique in the farm.
    pub name: WorkerName,
    /// Of the machine: runners of another boot are gone.
    pub boot_id: String,
    /// Of the agent process: a reconnect keeps it.
    pub session_id: String,
    /// Of the agent's data folder: a restart keeps it. Empty for agents of earlier versions.
    pub instance_id: String,
    /// What its CPU and kernel execute themselves, as measured.
    pub platforms: Vec<Platform>,
    /// Registered with binfmt_misc: told, never used.
    pub emulated: Vec<Platform>,
    /// Attempts at a time, at least 1.
    pub slots: u32,
    /// For people and for placement.
    pub labels: BTreeMap<String, String>,
    /// Its trust level.
    pub pool: Pool,
    /// Of archyard.
    pub version: String,
    /// `Docker Engine 20.10.24 (overlay2)`.
    pub engine: String,
    /// Wants no new lease.
    pub draining: bool,
    /// Counts its session's connections, from 1.
    pub dial: u64,
}
