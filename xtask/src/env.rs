//! An environment: Engines, a registry and base images, all our own, brought up
//! and taken down as one. Everything is written to the state file before it is
//! started, and a failure on the way up takes down what was up.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::busybox;
use crate::engine::{Engine, Kind};
use crate::farm;
use crate::images::{Image, foreign, native};
use crate::interrupt;
use crate::network::Bridge;
use crate::oci;
use crate::packages;
use crate::registry::Registry;
use crate::root::Root;
use crate::state::{Base, Lock, Place, State};

/// Repository and tag of the base image.
pub const BASE: (&str, &str) = ("base/busybox", "1");

/// Which base images to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bases {
    /// None.
    #[default]
    None,
    /// The two platforms that this machine runs.
    Native,
    /// And, where the host's sources have them, two that it does not.
    All,
}

/// What an environment has; by default nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// How many Engines of the host's own kind.
    pub engines: usize,
    /// Engines beside them, each of its kind.
    pub more: Vec<Kind>,
    /// Whether a registry; base images need one.
    pub registry: bool,
    /// Which base images.
    pub bases: Bases,
    /// Whether containers reach the network outside.
    pub outbound: bool,
    /// Whether Debian packages that are missing may be installed.
    pub install: bool,
}

impl Options {
    /// The same with these Engines and no others, the host's first; none named leaves
    /// it as it is.
    #[must_use]
    pub fn with_engines(self, kinds: &[Kind]) -> Self {
        if kinds.is_empty() {
            return self;
        }
        let (host, more): (Vec<Kind>, Vec<Kind>) = kinds.iter().partition(|kind| **kind == Kind::Host);
        Self { engines: host.len(), more, ..self }
    }

    /// The Engines, in the order in which they are started and numbered.
    #[must_use]
    pub fn kinds(&self) -> Vec<Kind> {
        std::iter::repeat_n(Kind::Host, self.engines).chain(self.more.iter().copied()).collect()
    }
}

/// An environment that is up, or what is left of one.
#[derive(Debug)]
pub struct Env {
    /// Where.
    pub place: Place,
    /// What.
    pub state: State,
    /// The rights that its Engines need.
    pub root: Root,
    _lock: Lock,
}

impl Env {
    /// Brings one up.
    ///
    /// # Errors
    /// When one is up in this place, or a part does not come up.
    pub fn up(place: &Place, options: &Options) -> Result<Self> {
        if let Some(rest) = Self::open(place)? {
            if rest.state.is_alive() {
                bail!("an environment is up in {}: take it down first", place.dir.display());
            }
            eprintln!("xtask: taking down what an earlier run left in {}", place.dir.display());
            rest.down()?;
        }
        let root = match options.kinds().len() {
            0 => Root::none(),
            _ => Root::obtain("starting Docker Engines")?,
        };
        let mut env = Self { place: place.clone(), state: State::default(), root, _lock: place.lock()? };
        match env.start(options) {
            Ok(()) => Ok(env),
            Err(error) => {
                if let Err(left) = env.down() {
                    eprintln!("xtask: and could not clean up: {left:#}");
                }
                Err(error)
            }
        }
    }

    /// What an earlier run started in this place, running or not.
    ///
    /// # Errors
    /// When another run is at work on it, or its state cannot be read.
    pub fn open(place: &Place) -> Result<Option<Self>> {
        if !place.dir.exists() {
            return Ok(None);
        }
        let lock = place.lock()?;
        let Some(state) = State::load(place)? else { return Ok(None) };
        let root = match state.engines.len() {
            0 => Root::none(),
            _ => Root::obtain("looking after Docker Engines")?,
        };
        Ok(Some(Self { place: place.clone(), state, root, _lock: lock }))
    }

    fn start(&mut self, options: &Options) -> Result<()> {
        self.ensure_packages(options)?;
        let log_dir = self.place.dir.join("logs");
        for (kind, number) in options.kinds().into_iter().zip(1..) {
            let bridges: Vec<Bridge> =
                self.state.engines.iter().map(|engine| engine.bridge.clone()).collect();
            self.state.engines.push(Engine {
                name: format!("engine-{number}"),
                kind,
                data_dir: self.place.dir.join(format!("engine-{number}")),
                run_dir: self.place.run_dir.join(number.to_string()),
                log_dir: log_dir.clone(),
                bridge: Bridge::plan(&self.place.id, number, options.outbound, &bridges)?,
                programs: None,
                containerd: None,
                dockerd: None,
            });
        }
        if options.registry {
            let dir = self.place.dir.join("registry");
            self.state.registry =
                Some(Registry { dir, log_dir, port: 0, process: None, settings: String::new() });
        }
        self.save()?;
        for index in 0..self.state.engines.len() {
            let created = self.state.engines[index].create(&self.root);
            self.save()?;
            created?;
            interrupt::check()?;
        }
        if let Some(registry) = &mut self.state.registry {
            let started = registry.start();
            self.save()?;
            started?;
        }
        self.push_base(options.bases)
    }

    fn ensure_packages(&self, options: &Options) -> Result<()> {
        let mut tools = Vec::new();
        let kinds = options.kinds();
        if !kinds.is_empty() {
            tools.extend(packages::ENGINE);
        }
        if !kinds.is_empty() && options.outbound {
            tools.extend(packages::OUTBOUND);
        }
        if options.registry {
            tools.extend(packages::REGISTRY);
        }
        packages::ensure(&self.root, &tools, options.install)?;
        let mut releases: Vec<_> = kinds.iter().filter_map(|kind| kind.release()).collect();
        releases.dedup();
        releases.into_iter().try_for_each(|release| {
            release.ensure()?;
            release.print_versions()
        })
    }

    fn push_base(&mut self, bases: Bases) -> Result<()> {
        let wanted = match bases {
            Bases::None => return Ok(()),
            Bases::Native => Vec::new(),
            Bases::All => foreign()?.to_vec(),
        };
        let registry = self.registry()?.address();
        let platforms = busybox::ensure(&native()?, &wanted)?;
        let images = platforms.iter().map(busybox::image).collect::<Result<Vec<Image>>>()?;
        let (repository, tag) = BASE;
        let digest =
            oci::push_index(&registry, repository, tag, &images).context("cannot push the base images")?;
        self.state.base =
            Some(Base { reference: format!("{registry}/{repository}:{tag}"), digest, platforms });
        self.save()
    }

    /// Writes down what runs now; needed after each change of `state`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> Result<()> {
        self.state.save(&self.place)
    }

    /// The registry.
    ///
    /// # Errors
    /// When this environment has none.
    pub fn registry(&self) -> Result<&Registry> {
        self.state.registry.as_ref().context("this environment has no registry")
    }

    /// The base image.
    ///
    /// # Errors
    /// When this environment has none.
    pub fn base(&self) -> Result<&Base> {
        self.state.base.as_ref().context("this environment has no base image")
    }

    /// Ends the daemon of one Engine as a crash would.
    ///
    /// # Errors
    /// When there is no such Engine.
    pub fn kill_engine(&mut self, index: usize) -> Result<()> {
        self.state.engines.get(index).context("no such Engine")?.kill(&self.root);
        Ok(())
    }

    /// Starts an Engine again, after ending what a crash left.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart_engine(&mut self, index: usize) -> Result<()> {
        let engine = self.state.engines.get_mut(index).context("no such Engine")?;
        let started = engine.stop(&self.root).and_then(|()| engine.start(&self.root));
        self.save()?;
        started
    }

    /// Takes all of it down and removes its folders. What cannot be taken down
    /// stays in the state file for another try.
    ///
    /// # Errors
    /// When something stays.
    pub fn down(mut self) -> Result<()> {
        let mut result = farm::stop(&mut self.state.farm, &self.place.dir);
        self.state.engines.retain_mut(|engine| keep(engine.remove(&self.root), &mut result));
        if let Some(registry) = &mut self.state.registry
            && !keep(registry.remove(), &mut result)
        {
            self.state.registry = None;
        }
        if let Err(error) = result {
            self.save()?;
            return Err(error.context(format!(
                "not all was taken down; try again, or look at {}",
                self.place.dir.display()
            )));
        }
        for dir in [&self.place.run_dir, &self.place.dir] {
            remove_dir(dir)?;
        }
        Ok(())
    }
}

/// Whether to keep a part in the state: when it could not be removed.
fn keep(removed: Result<()>, result: &mut Result<()>) -> bool {
    let Err(error) = removed else { return false };
    if result.is_ok() {
        *result = Err(error);
    } else {
        eprintln!("xtask: {error:#}");
    }
    true
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// An environment of one test's own, gone when dropped: for tests that kill what
/// others share.
#[derive(Debug)]
pub struct Scratch {
    env: Option<Env>,
}

impl Scratch {
    /// Brings one up in a new folder.
    ///
    /// # Errors
    /// As [`Env::up`].
    pub fn new(options: &Options) -> Result<Self> {
        let home = Place::scratch_home();
        fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
        let dir =
            tempfile::Builder::new().prefix("t").tempdir_in(&home).context("cannot create a folder")?.keep();
        let env = Env::up(&Place::at(dir.clone()), options).inspect_err(|_| drop(fs::remove_dir(&dir)))?;
        Ok(Self { env: Some(env) })
    }
}

impl Deref for Scratch {
    type Target = Env;

    #[allow(clippy::expect_used, reason = "it is only taken by drop")]
    fn deref(&self) -> &Env {
        self.env.as_ref().expect("is there until dropped")
    }
}

impl DerefMut for Scratch {
    #[allow(clippy::expect_used, reason = "it is only taken by drop")]
    fn deref_mut(&mut self) -> &mut Env {
        self.env.as_mut().expect("is there until dropped")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.env.take().map(Env::down) {
            eprintln!("xtask: {error:#}");
        }
    }
}

/// Takes down what tests that were killed left. Those still running hold their
/// lock and are left alone.
///
/// # Errors
/// When something stays.
pub fn sweep_scratches() -> Result<()> {
    let Ok(entries) = fs::read_dir(Place::scratch_home()) else { return Ok(()) };
    for entry in entries.filter_map(Result::ok) {
        let place = Place::at(entry.path());
        let Ok(lock) = place.lock() else { continue };
        drop(lock);
        match Env::open(&place)? {
            Some(env) => {
                eprintln!("xtask: taking down what a test left in {}", place.dir.display());
                env.down()?;
            }
            None => remove_dir(&place.dir)?,
        }
    }
    Ok(())
}
