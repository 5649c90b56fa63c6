//! The agent against a scheduler of the tests' own that speaks the real protocol over a real socket, with real
//! processes as runners: a script where only the boundary between agent and runner counts, and the real runner
//! on a real Engine where a build does.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics with its reason")]

mod adopting;
mod building;
mod caching;
mod fixture;
mod leases;
mod results;
mod scheduler;
mod script;
mod spooling;
mod warming;
