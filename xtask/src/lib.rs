//! What Archyard's developers run, and the fixture their tests stand on: real
//! Docker Engines, a real registry and base images, started by hand on a bare
//! Debian or Ubuntu machine.
//!
//! It is a library as well as a program so that the end-to-end tests start the
//! very same fixture ([`env::Scratch`]) or find the shared one
//! ([`coordinates::Coordinates::from_env`]).
//!
//! It never pulls an image from outside, never relies on a service manager, and
//! never stops, changes or removes what it did not start itself.

pub mod apt;
pub mod bench;
pub mod buildx;
pub mod busybox;
pub mod cache;
pub mod coordinates;
pub mod debian;
pub mod dist;
pub mod emulator;
pub mod engine;
pub mod env;
pub mod farm;
pub mod http;
pub mod images;
pub mod interrupt;
pub mod lint;
pub mod machine;
pub mod mixed;
pub mod mounts;
pub mod network;
pub mod nextest;
pub mod oci;
pub mod packages;
pub mod process;
pub mod quickstart;
pub mod registry;
pub mod root;
pub mod run;
pub mod state;
pub mod test;
pub mod wheels;
pub mod workspace;
