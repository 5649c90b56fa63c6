//! The Engine module against a real Docker Engine and a real registry, both named by `ARCHYARD_TEST_ENV`.

// A fixture that does not come up is a failed test.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod fixture;

mod build;
mod context;
mod door;
mod inputs;
mod pins;
mod push;
mod registries;
mod run;
mod stop;
mod take;
mod times;
