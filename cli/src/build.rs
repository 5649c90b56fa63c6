//! The parts of a build on the client's side, in the order in which they come.
//!
//! [`session`] shows what happens and listens for Ctrl-C, while [`submit`] sends the plan and [`follow`] reads what
//! becomes of it; [`attend`] puts them together. Nothing here builds: that is a farm's, even where it lives in this very process.

pub(crate) mod again;
pub(crate) mod attend;
pub(crate) mod checks;
pub(crate) mod credentials;
pub(crate) mod destination;
pub(crate) mod display;
pub(crate) mod docker;
pub(crate) mod follow;
pub(crate) mod interrupt;
pub(crate) mod log;
pub(crate) mod prepare;
mod queue;
pub(crate) mod rest;
pub(crate) mod results;
pub(crate) mod retry;
pub(crate) mod session;
pub(crate) mod submit;
pub(crate) mod upload;

use tokio::sync::mpsc;

use crate::progress::Update;

/// Updates on their way to the screen. Bounded: a terminal that is stopped stops its readers, not the build.
pub(crate) const UPDATES: usize = 1024;

/// Where parts of a build tell what happens. A screen that is gone is no reason to stop.
pub(crate) type Updates = mpsc::Sender<Update>;
