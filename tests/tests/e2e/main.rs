//! End to end: the `archyard` binary, real Docker Engines, a real registry.
//!
//! One binary, so that it links once. Each file is one promise of the README.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod bad_input;
mod cancel;
mod certificates;
mod check;
mod context;
mod credentials;
mod cross;
mod dockerignore;
mod engines;
mod faults;
mod flags;
mod inspect;
mod isolation;
mod local;
mod lock;
mod outputs;
mod promote;
mod push;
mod queue;
mod reattach;
mod relogin;
mod rerun;
mod restart;
mod smoke;
mod trial;
