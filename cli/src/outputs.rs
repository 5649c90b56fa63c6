//! `-o` and `--load`: what a build leaves at its client, beside or instead of a registry.
//!
//! Bytes come from the farm, where the workers left them, and go out as they come: nothing is held whole in memory, every
//! blob is verified, and a file gets its name last. Nothing here decides what is built.

pub(crate) mod spec;

pub(crate) use spec::OutputSpec;
