//! How tests find the environment that `cargo xtask test` brought up for all of
//! them: one JSON file, named by one variable. A test without it fails; it never
//! skips itself.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::busybox::{self, Busybox};
use crate::engine::{Engine, Kind};
use crate::env::Env;
use crate::images::{Platform, foreign, native};
use crate::mixed::Mixed;
use crate::state::Base;
use crate::workspace;

/// Names the file.
pub const VARIABLE: &str = "ARCHYARD_TEST_ENV";

/// An Engine that tests share. Do not stop it: take a [`crate::env::Scratch`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedEngine {
    /// `engine-1`.
    pub name: String,
    /// Which it is.
    #[serde(default)]
    pub kind: Kind,
    /// Path of its socket.
    pub socket: PathBuf,
    /// The same as `unix:///path`.
    pub address: String,
    /// Process of its daemon.
    pub pid: u32,
    /// The daemon's log.
    pub log: PathBuf,
}

/// Where everything is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinates {
    /// The host's own: two, as the tests have them.
    pub engines: Vec<SharedEngine>,
    /// Those of other kinds: see [`Coordinates::engine`].
    #[serde(default)]
    pub more_engines: Vec<SharedEngine>,
    /// `127.0.0.1:PORT`.
    pub registry: String,
    /// The base image.
    pub base: Base,
    /// What this machine runs natively.
    pub native: [Platform; 2],
    /// What it does not.
    pub foreign: [Platform; 2],
    /// A program of every architecture that could be had: see [`busybox::every`].
    #[serde(default)]
    pub busybox: Vec<Busybox>,
    /// The program under test, as cargo builds it.
    pub archyard: PathBuf,
    /// A farm over two kinds of machine, for the tests of that alone.
    #[serde(default)]
    pub mixed: Option<Mixed>,
}

impl Coordinates {
    /// Of an environment with Engines, registry and base images.
    ///
    /// # Errors
    /// When it lacks one of them.
    pub fn of(env: &Env, profile: &str) -> Result<Self> {
        let engine = |engine: &Engine| {
            Ok(SharedEngine {
                name: engine.name.clone(),
                kind: engine.kind,
                socket: engine.socket(),
                address: engine.address(),
                pid: engine.dockerd.context("the Engine does not run")?.pid,
                log: engine.log(),
            })
        };
        let engines = env.state.engines.iter().map(engine).collect::<Result<Vec<_>>>()?;
        let (engines, more_engines) = engines.into_iter().partition(|engine| engine.kind == Kind::Host);
        Ok(Self {
            engines,
            more_engines,
            registry: env.registry()?.address(),
            base: env.base()?.clone(),
            native: native()?,
            foreign: foreign()?,
            busybox: busybox::every()?,
            archyard: workspace::binary(profile),
            mixed: None,
        })
    }

    /// The first Engine of a kind.
    ///
    /// # Errors
    /// When the environment has none: a test that needs it fails.
    pub fn engine(&self, kind: Kind) -> Result<&SharedEngine> {
        let mut engines = self.engines.iter().chain(&self.more_engines);
        engines.find(|engine| engine.kind == kind).with_context(|| {
            format!(
                "this environment has no Engine of the kind {}; one without --engine has all of them: \
                 cargo xtask env up --name every",
                kind.name()
            )
        })
    }

    /// Of the environment that the tests were started with.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_env() -> Result<Self> {
        let path = env::var_os(VARIABLE).with_context(|| {
            format!(
                "{VARIABLE} is not set: run `cargo xtask test`, or `eval \"$(cargo xtask env up)\"` first"
            )
        })?;
        Self::read(Path::new(&path))
    }

    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("{VARIABLE}: cannot read {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{VARIABLE}: {} is of another version", path.display()))
    }

    /// Writes the file into the environment's folder; returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, env: &Env) -> Result<PathBuf> {
        let path = env.place.dir.join("coordinates.json");
        let text = serde_json::to_string_pretty(self)?;
        fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}
