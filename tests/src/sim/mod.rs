//! The farm in one thread: the real core and journal format, with models of all that surrounds them.
//!
//! Workers, networks, registries and clients fail as a seed says; the scheduler crashes before and after its commits.
//! After every step `checks` looks for a broken invariant, and at the end every build that was acknowledged must have
//! ended. Nothing here reads a clock or draws from anything but the seed.

mod checks;
mod client;
mod follow;
mod publisher;
mod rng;
mod scheduler;
mod worker;
mod world;

use std::time::Duration;

pub use rng::Rng;
use world::World;

/// How long things go wrong, in simulated time; then they heal.
const CHAOS: Duration = Duration::from_secs(150);
/// By then everything has ended, patience with absent platforms included.
const HORIZON: Duration = Duration::from_secs(8 * 60 * 60);

/// What becomes of the facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// They are checked and forgotten.
    Forget,
    /// The report holds them.
    Keep,
    /// They are printed as they come, so that they are there when an invariant breaks.
    Print,
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Builds that were acknowledged, and how many ended in each state.
    pub builds: usize,
    /// By state.
    pub succeeded: usize,
    /// By state.
    pub failed: usize,
    /// By state.
    pub canceled: usize,
    /// Crashes of the scheduler.
    pub crashes: usize,
    /// Attempts that were leased.
    pub leases: usize,
    /// Tags that registries moved.
    pub moves: usize,
    /// Tags that were left alone for a newer build.
    pub left_alone: usize,
    /// Builds that built again what had failed.
    pub reruns: usize,
    /// Candidates that were to be promoted.
    pub promotions: usize,
    /// Leases to workers of another platform.
    pub crossed: usize,
    /// Builds that succeeded beside a trial that did not.
    pub failed_trials: usize,
    /// Builds whose tags had moved while a trial still ran.
    pub published_early: usize,
    /// Events of the simulation.
    pub steps: usize,
    /// Every fact in order, if they were to be kept.
    pub trace: Vec<u8>,
}

/// Runs one seed to its end. Panics, naming the seed, where an invariant breaks.
pub fn run(seed: u64, trace: Trace) -> Report {
    let mut world = World::new(seed, trace);
    world.run_until(CHAOS);
    world.heal();
    world.run_until_quiet(HORIZON);
    world.finish()
}
