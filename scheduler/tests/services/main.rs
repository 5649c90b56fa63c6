//! The services as clients and workers meet them: a whole scheduler in this process, over its own Unix socket, and a
//! worker that speaks the protocol and builds nothing.
#![allow(clippy::unwrap_used, reason = "what is not as it should be fails the test")]

mod artifacts;
mod builds;
mod carry;
mod contexts;
mod edges;
mod harness;
mod logs;
mod retention;
mod secured;
mod workers;
