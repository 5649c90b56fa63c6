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
mod destinations;
mod differential;
mod dockerignore;
mod docs;
mod engines;
mod environment;
mod faults;
mod flags;
mod inputs;
mod inspect;
mod isolation;
mod local;
mod lock;
mod log;
mod outputs;
mod overtaken;
mod promote;
mod push;
mod queue;
mod reattach;
mod relogin;
mod rerun;
mod restart;
mod smoke;
mod times;
mod trial;
