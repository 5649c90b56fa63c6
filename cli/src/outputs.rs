//! `-o` and `--load`: what a build leaves at its client, beside or instead of a registry.
//!
//! Bytes come from the farm, where the workers left them, and go out as they come: nothing is held whole in memory, every
//! blob is verified, and a file gets its name last. What is in them is hostile, for it is whatever a Dockerfile made.
//! Nothing here decides what is built.

mod archive;
mod deliver;
mod engine;
mod entry;
pub(crate) mod file;
mod left;
mod place;
mod pull;
mod retar;
mod spec;
mod spot;
mod unpack;

pub(crate) use deliver::{Delivered, Outputs};
pub(crate) use left::Left;
pub(crate) use spec::OutputSpec;
pub(crate) use spot::{STDOUT, Spot};
