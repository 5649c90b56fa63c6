//! The Engine module against a real Docker Engine and a real registry, both named by `ARCHYARD_TEST_ENV`.

// A fixture that does not come up is a failed test.
#![allow(clippy::unwrap_used)]

mod build;
mod context;
mod door;
mod fixture;
mod push;
mod registries;
mod stop;
